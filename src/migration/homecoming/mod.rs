//! `return`: what has left this host by `evacuate` comes back.
//!
//! This host asks the peer that has a group to migrate it here; the migration is the peer's own. What the peer answers to is
//! in [`asked`]. Nothing has to be undone: what does not come back runs where it is, and can be asked for again.

pub mod asked;
mod steps;

use crate::failure::Failure;
use crate::migration::{evacuate, groups};
use crate::operations;
use crate::saga::{self, Asked, Operation, OperationRecord, Step};
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::cancels::Cancellable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bringing back what has left.
#[derive(Debug, Serialize, Deserialize)]
pub struct Homecoming {
    /// What is to come back.
    groups: Vec<Group>,
    /// Whether a helper before this one had begun it.
    #[serde(skip)]
    is_taken_up: bool,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Arc<Cancellable>,
    /// Whether a person has.
    #[serde(default)]
    is_cancelled: bool,
}

/// Containers that have left together.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Group {
    /// The migration by which they have left.
    migration: CheckpointId,
    /// The peer that has them.
    peer: String,
    /// Their names.
    #[serde(rename = "containers")]
    names: Vec<String>,
    /// Why they are not back; nothing where they are, or where it is not known yet.
    failure: Option<Failure>,
    /// Whether they are back.
    is_back: bool,
}

impl Operation for Homecoming {
    type World = Context;

    const KIND: &'static str = "return";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        vec![steps::bring()]
    }

    /// Whoever takes it up goes on.
    fn has_committed(&self, _: &Context) -> bool {
        true
    }

    fn is_out_of_hand(&self, _: &Context) -> bool {
        true
    }

    fn is_taken_up(&mut self, context: &Context) {
        self.is_taken_up = true;
        self.cancel = Arc::new(context.cancels.admit());
        if self.is_cancelled {
            self.cancel.cancel();
        }
    }

    fn is_numbered(&mut self, number: i64) {
        self.cancel.is_numbered(number);
    }

    fn subject(&self) -> String {
        self.groups.iter().map(Group::title).collect::<Vec<_>>().join(", ")
    }

    fn answer(&self) -> Value {
        json!({ "groups": self.groups, "cancelled": self.cancelled() })
    }
}

impl Homecoming {
    /// What is back and what is not, where a person has cancelled it before all was.
    fn cancelled(&self) -> Option<Value> {
        let (back, away): (Vec<_>, Vec<_>) = self.groups.iter().partition(|group| group.is_back);
        let names = |groups: Vec<&'_ Group>| groups.into_iter().flat_map(|group| &group.names).cloned().collect();
        (self.is_cancelled && !away.is_empty()).then(|| groups::cancelled(names(back), names(away)))
    }
}

impl Group {
    fn title(&self) -> String {
        self.names.join(", ")
    }
}

/// Brings back what has left, or what of it a peer has.
pub fn run(context: &Context, from: Option<&str>, asked: Asked<'_>) -> Result<Value, Failure> {
    let left = evacuate::all_left(context)?.into_iter();
    let left = left.filter(|(_, left)| from.is_none_or(|from| left.peer == from));
    let group = |(migration, left): (CheckpointId, evacuate::Left)| Group {
        migration,
        peer: left.peer,
        names: left.names,
        failure: None,
        is_back: false,
    };
    let groups: Vec<Group> = left.map(group).collect();
    if groups.is_empty() {
        return Err(Failure::refused("nothing has left this host that is to come back")
            .remedy("only what left by `transship evacuate` is remembered; migrate the rest from where it is"));
    }
    let world = &context.world;
    let cancel = Arc::new(context.cancels.admit());
    let operation = Homecoming { groups, is_taken_up: false, cancel, is_cancelled: false };
    let answer = saga::run(operation, context, &world.journal, &world.failpoints, context.told.as_ref(), asked)?;
    failed(&answer).map_or(Ok(answer), Err)
}

/// What has not come back.
fn failed(answer: &Value) -> Option<Failure> {
    let groups: Vec<Group> = serde_json::from_value(answer["groups"].clone()).unwrap_or_default();
    let away: Vec<&Group> = groups.iter().filter(|group| !group.is_back).collect();
    let titles: Vec<String> = away.iter().map(|group| format!("{} (on {})", group.title(), group.peer)).collect();
    let reasons =
        away.iter().filter_map(|group| Some(format!("{}: {}", group.title(), group.failure.as_ref()?.in_one_line())));
    let what = match &answer["cancelled"] {
        Value::Null => format!("{} did not come back", titles.join(", ")),
        cancelled => format!("it was cancelled: {}", groups::in_words(cancelled)),
    };
    (!away.is_empty()).then(|| {
        Failure::new(what).details(reasons.collect()).remedy("it runs where it is; try again with: transship return")
    })
}

/// Goes on with what one before it has begun: at the helper's start, or on request.
pub fn go_on(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    operations::state::<Homecoming>(record)?;
    let world = &context.world;
    let answer =
        saga::recover::<Homecoming>(record, context, &world.journal, &world.failpoints, context.told.as_ref())?;
    failed(&answer).map_or(Ok(answer), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_back_is_told_with_its_reason() {
        let group = |name: &str, failure: Option<Failure>| Group {
            migration: CheckpointId::random().unwrap(),
            peer: "beta".into(),
            names: vec![name.into()],
            is_back: failure.is_none(),
            failure,
        };
        let away = Some(Failure::new("it is too large").remedy("make room"));
        let groups = vec![group("web", None), group("db", away)];
        let of = |groups, is_cancelled| Homecoming { groups, is_taken_up: false, cancel: Arc::default(), is_cancelled };
        let told = failed(&of(groups.clone(), false).answer()).unwrap();
        assert_eq!((told.what.as_str(), told.details.len()), ("db (on beta) did not come back", 1));
        assert!(told.details[0].contains("too large (make room)"), "{told:?}");
        let told = failed(&of(groups, true).answer()).unwrap();
        assert_eq!(told.what, "it was cancelled: web has moved; db runs where it was");
        assert!(failed(&of(vec![group("web", None)], true).answer()).is_none(), "all was back by then");
    }
}
