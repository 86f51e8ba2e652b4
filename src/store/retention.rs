//! What may go: a plan, made from a list and a policy, and nothing else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::id::{CheckpointId, ContainerId};

/// What a plan has to know of a checkpoint.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: CheckpointId,
    pub container: ContainerId,
    pub created: Timestamp,
    /// Bytes on disk.
    pub bytes: u64,
    /// A claim refers to it, an operation works on it, the operator pinned it, or it is the only copy of a frozen
    /// container.
    pub in_use: bool,
    /// There is a copy outside the store.
    pub exported: bool,
}

/// What is to be kept. Without any limit everything is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// Checkpoints to keep of each container. At least its newest is kept, whatever the number.
    pub keep_last: Option<usize>,
    /// Age from which a checkpoint goes, unless it is its container's newest.
    pub max_age: Option<Duration>,
    /// Bytes that all checkpoints together may take. It alone can cost a container its newest.
    pub quota_bytes: Option<u64>,
}

/// Why a checkpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// So many newer ones of the same container are kept.
    Superseded { kept: usize },
    /// It is older than allowed.
    Expired { age: Duration },
    /// The store was so many bytes over its quota when its turn came.
    Quota { over: u64 },
}

/// A checkpoint that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub id: CheckpointId,
    pub reason: Reason,
}

/// What goes, and what that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In the order in which to remove.
    pub removals: Vec<Removal>,
    /// Bytes that stay.
    pub bytes: u64,
    /// Bytes over the quota that stay because what is left is in use.
    pub over_quota: u64,
}

/// What `policy` asks to remove of `items` at the time `now`. Nothing in use ever is.
///
/// The quota takes what it costs least to lose: first those that are not their container's newest, among them first
/// those with a copy elsewhere, among them the oldest.
pub fn plan(items: &[Item], policy: &Policy, now: Timestamp) -> Plan {
    let ranks = ranks(items);
    let mut plan = Plan {
        bytes: items
            .iter()
            .fold(0, |sum: u64, item| sum.saturating_add(item.bytes)),
        ..Plan::default()
    };
    let mut gone = HashSet::new();
    for (item, rank) in items.iter().zip(&ranks) {
        if let Some(reason) = by_age_or_number(item, *rank, policy, now).filter(|_| !item.in_use) {
            plan.remove(item, reason);
            gone.insert(&item.id);
        }
    }
    let mut left: Vec<_> = items
        .iter()
        .zip(&ranks)
        .filter(|(item, _)| !item.in_use && !gone.contains(&item.id))
        .collect();
    left.sort_by_key(|(item, rank)| (**rank == 0, !item.exported, item.created, &item.id));
    let quota = policy.quota_bytes.unwrap_or(u64::MAX);
    for (item, _) in left {
        if plan.bytes <= quota {
            break;
        }
        let over = plan.bytes - quota;
        plan.remove(item, Reason::Quota { over });
    }
    plan.over_quota = plan.bytes.saturating_sub(quota);
    plan
}

impl Plan {
    fn remove(&mut self, item: &Item, reason: Reason) {
        self.bytes = self.bytes.saturating_sub(item.bytes);
        self.removals.push(Removal {
            id: item.id.clone(),
            reason,
        });
    }
}

/// How many newer ones of the same container there are, for each item.
fn ranks(items: &[Item]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| {
        (items[*b].created, &items[*b].id).cmp(&(items[*a].created, &items[*a].id))
    });
    let mut newer: HashMap<&ContainerId, usize> = HashMap::new();
    let mut ranks = vec![0; items.len()];
    for index in order {
        let count = newer.entry(&items[index].container).or_default();
        ranks[index] = *count;
        *count += 1;
    }
    ranks
}

fn by_age_or_number(item: &Item, rank: usize, policy: &Policy, now: Timestamp) -> Option<Reason> {
    if rank == 0 {
        return None;
    }
    if let Some(keep) = policy
        .keep_last
        .map(|keep| keep.max(1))
        .filter(|keep| rank >= *keep)
    {
        return Some(Reason::Superseded { kept: keep });
    }
    // A checkpoint from the future, after the clock was set back, is not old.
    let age = Duration::try_from(now.duration_since(item.created)).unwrap_or_default();
    policy
        .max_age
        .filter(|most| age > *most)
        .map(|_| Reason::Expired { age })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const NOW: i64 = 10_000;

    fn item(
        index: usize,
        container: u8,
        age: i64,
        bytes: u64,
        in_use: bool,
        exported: bool,
    ) -> Item {
        Item {
            id: format!("{index:016x}").parse().unwrap(),
            container: format!("{container:064x}").parse().unwrap(),
            created: Timestamp::from_second(NOW - age).unwrap(),
            bytes,
            in_use,
            exported,
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    prop_compose! {
        fn items()(raw in vec((0u8..4, -50i64..1000, 0u64..1000, any::<bool>(), any::<bool>()), 0..20)) -> Vec<Item> {
            raw.into_iter().enumerate().map(|(i, (c, age, bytes, used, exported))| item(i, c, age, bytes, used, exported)).collect()
        }
    }

    prop_compose! {
        fn policies()(
            keep_last in proptest::option::of(0usize..5),
            age in proptest::option::of(0u64..1000),
            quota_bytes in proptest::option::of(0u64..5000),
        ) -> Policy {
            Policy { keep_last, max_age: age.map(Duration::from_secs), quota_bytes }
        }
    }

    fn kept<'a>(items: &'a [Item], plan: &Plan) -> Vec<&'a Item> {
        items
            .iter()
            .filter(|item| plan.removals.iter().all(|removal| removal.id != item.id))
            .collect()
    }

    proptest! {
        #[test]
        fn nothing_in_use_goes_and_nothing_goes_twice(items in items(), policy in policies()) {
            let plan = plan(&items, &policy, now());
            let used = items.iter().filter(|item| item.in_use).count();
            prop_assert_eq!(kept(&items, &plan).iter().filter(|item| item.in_use).count(), used);
            prop_assert_eq!(kept(&items, &plan).len() + plan.removals.len(), items.len());
        }

        #[test]
        fn the_quota_is_met_unless_only_what_is_in_use_is_left(items in items(), policy in policies()) {
            let plan = plan(&items, &policy, now());
            let left = kept(&items, &plan);
            let bytes: u64 = left.iter().map(|item| item.bytes).sum();
            prop_assert_eq!(plan.bytes, bytes);
            prop_assert_eq!(plan.over_quota, bytes.saturating_sub(policy.quota_bytes.unwrap_or(u64::MAX)));
            prop_assert!(plan.over_quota == 0 || left.iter().all(|item| item.in_use));
        }

        #[test]
        fn a_container_s_newest_goes_only_to_the_quota(items in items(), policy in policies()) {
            let ranks = ranks(&items);
            for removal in plan(&items, &policy, now()).removals {
                let index = items.iter().position(|item| item.id == removal.id).unwrap();
                let by_quota = matches!(removal.reason, Reason::Quota { .. });
                prop_assert!(by_quota || ranks[index] > 0);
            }
        }

        #[test]
        fn without_a_policy_everything_stays(items in items()) {
            prop_assert!(plan(&items, &Policy::default(), now()).removals.is_empty());
        }
    }

    #[test]
    fn the_quota_takes_old_and_exported_ones_first() {
        let items = [
            item(0, 1, 10, 100, false, false),
            item(1, 1, 50, 100, false, false),
            item(2, 1, 20, 100, false, true),
        ];
        let policy = Policy {
            quota_bytes: Some(100),
            ..Policy::default()
        };
        let order: Vec<_> = plan(&items, &policy, now())
            .removals
            .into_iter()
            .map(|removal| removal.id)
            .collect();
        assert_eq!(order, [items[2].id.clone(), items[1].id.clone()]);
    }
}
