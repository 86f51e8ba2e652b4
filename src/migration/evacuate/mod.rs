//! `evacuate`: every container of this host that can goes to peers, group by group.
//!
//! What goes where, and what stays and why, is found out before anything moves. The migrations are operations of their own,
//! with this one as `within`, so this one has nothing to undo: a group whose migration fails runs here as before. A helper
//! that starts again goes on with what has not left.

mod left;
mod plan;
pub mod room;
mod steps;

pub use left::{Left, all as all_left, back as is_back};

use crate::failure::Failure;
use crate::migration::groups;
use crate::migration::source::How;
use crate::operations;
use crate::saga::{self, Asked, Operation, OperationRecord, Step};
use crate::store::ContainerId;
use crate::transport::client::Compress;
use crate::world::Context;
use crate::world::cancels::Cancellable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Taking all that can leave to peers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Evacuate {
    /// Its number in the journal.
    number: Option<i64>,
    /// Who asked for it.
    asked_by: String,
    /// What leaves.
    groups: Vec<Leaving>,
    /// What stays.
    stays: Vec<Staying>,
    /// How hard what is sent is compressed.
    compress: Option<Compress>,
    /// How many bytes a second are sent, by each migration.
    rate: Option<NonZeroU64>,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Arc<Cancellable>,
    /// Whether a person has.
    #[serde(default)]
    is_cancelled: bool,
}

/// Containers that move as one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leaving {
    /// Their names.
    names: Vec<String>,
    /// Their ids.
    ids: Vec<ContainerId>,
    /// Where they go.
    peer: String,
    /// Bytes of memory that they have.
    memory_bytes: u64,
    /// What has become of them.
    outcome: Option<Outcome>,
}

/// What has become of containers that were to leave.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// They run on the peer.
    Left,
    /// They are not here any more, by somebody else's doing.
    Gone,
    /// They did not leave.
    Failed(Failure),
}

/// Containers that stay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Staying {
    /// Their names.
    names: Vec<String>,
    /// Why.
    reason: Failure,
}

impl Operation for Evacuate {
    type World = Context;

    const KIND: &'static str = "evacuate";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        vec![steps::leave()]
    }

    /// There is no way back but to bring back what has left: whoever takes it up goes on.
    fn has_committed(&self, _: &Context) -> bool {
        true
    }

    fn is_out_of_hand(&self, _: &Context) -> bool {
        true
    }

    fn is_numbered(&mut self, number: i64) {
        self.number = Some(number);
        self.cancel.is_numbered(number);
    }

    fn is_taken_up(&mut self, context: &Context) {
        self.cancel = Arc::new(context.cancels.admit());
        if self.is_cancelled {
            self.cancel.cancel();
        }
    }

    fn subject(&self) -> String {
        let mut peers: Vec<&str> = self.groups.iter().map(|group| group.peer.as_str()).collect();
        peers.sort_unstable();
        peers.dedup();
        format!("{} groups to {}", self.groups.len(), peers.join(", "))
    }

    fn answer(&self) -> Value {
        let group = |group: &Leaving| {
            let (outcome, failure) = match &group.outcome {
                None => (Value::Null, None),
                Some(Outcome::Left) => (json!("left"), None),
                Some(Outcome::Gone) => (json!("gone"), None),
                Some(Outcome::Failed(failure)) => (json!("failed"), Some(failure)),
            };
            json!({
                "containers": group.names,
                "peer": group.peer,
                "memory_bytes": group.memory_bytes,
                "outcome": outcome,
                "failure": failure,
            })
        };
        let stays = |stays: &Staying| json!({ "containers": stays.names, "reason": stays.reason });
        json!({
            "operation": self.number,
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "stays": self.stays.iter().map(stays).collect::<Vec<_>>(),
            "cancelled": self.cancelled(),
        })
    }
}

impl Evacuate {
    fn how(&self, peer: &str) -> How {
        How { compress: self.compress, rate: self.rate, whole: Some(Arc::clone(&self.cancel)), ..How::to(peer) }
    }

    /// What has moved and what has not, where a person has cancelled it before all had.
    fn cancelled(&self) -> Option<Value> {
        let (moved, stays): (Vec<_>, Vec<_>) = self.groups.iter().partition(|group| group.is_away());
        let names = |groups: Vec<&'_ Leaving>| groups.into_iter().flat_map(|group| &group.names).cloned().collect();
        (self.is_cancelled && !stays.is_empty()).then(|| groups::cancelled(names(moved), names(stays)))
    }

    /// As a part of it asks.
    fn asks(&self) -> Asked<'_> {
        Asked { by: &self.asked_by, within: self.number }
    }
}

impl Leaving {
    fn is_away(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Left | Outcome::Gone))
    }
}

/// What an operator wants.
#[derive(Debug)]
pub struct Wish {
    /// Peers to which containers may go.
    pub peers: Vec<String>,
    /// Whether it is only asked for.
    pub dry_run: bool,
    /// How hard what is sent is compressed.
    pub compress: Option<Compress>,
    /// How many bytes a second are sent, by each migration.
    pub rate: Option<NonZeroU64>,
    /// Whoever cancels this cancels the evacuation.
    pub whole: Option<Arc<Cancellable>>,
}

/// Plans, and moves what can be moved. What fails to leave is an error; it runs here.
pub fn run(context: &Context, wish: &Wish, asked: Asked<'_>) -> Result<Value, Failure> {
    let operation = plan::make(context, wish, asked)?;
    if wish.dry_run || operation.groups.is_empty() {
        return Ok(with_dry_run(operation.answer(), wish.dry_run));
    }
    let world = &context.world;
    let answer = saga::run(operation, context, &world.journal, &world.failpoints, context.told.as_ref(), asked)?;
    failed(&answer).map_or(Ok(with_dry_run(answer, false)), Err)
}

fn with_dry_run(mut answer: Value, dry_run: bool) -> Value {
    answer["dry_run"] = json!(dry_run);
    answer
}

/// What has not left although it was to.
fn failed(answer: &Value) -> Option<Failure> {
    let groups = answer["groups"].as_array().into_iter().flatten();
    let (failed, others): (Vec<&Value>, Vec<&Value>) = groups.partition(|group| !group["failure"].is_null());
    let names = |group: &&Value| {
        let names = group["containers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let reasons = failed.iter().filter_map(|group| {
        let failure: Failure = serde_json::from_value(group["failure"].clone()).ok()?;
        Some(format!("{}: {}", names(group), failure.in_one_line()))
    });
    let reasons: Vec<String> = reasons.collect();
    if !answer["cancelled"].is_null() {
        let what = format!("it was cancelled: {}", groups::in_words(&answer["cancelled"]));
        let remedy = "transship evacuate goes on with the rest; transship return brings back what has left";
        return Some(Failure::new(what).details(reasons).remedy(remedy));
    }
    (!failed.is_empty()).then(|| {
        let moved: Vec<String> = others.iter().map(names).collect();
        Failure::new(format!("{} did not leave", failed.iter().map(names).collect::<Vec<_>>().join(", ")))
            .details(reasons)
            .remedy(format!("it runs here; what has left ({}) comes back with: transship return", moved.join(", ")))
    })
}

/// Goes on with what one before it has begun: at the helper's start, or on request.
pub fn go_on(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    operations::state::<Evacuate>(record)?;
    let world = &context.world;
    let answer = saga::recover::<Evacuate>(record, context, &world.journal, &world.failpoints, context.told.as_ref())?;
    failed(&answer).map_or(Ok(answer), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_cancelled_tells_what_has_left_and_what_runs_here() {
        let group = |name: &str, outcome: Option<Outcome>| Leaving {
            names: vec![name.to_owned()],
            ids: Vec::new(),
            peer: "beta".into(),
            memory_bytes: 0,
            outcome,
        };
        let cut_short = Outcome::Failed(Failure::new("it was cancelled"));
        let groups = vec![group("web", Some(Outcome::Left)), group("db", Some(cut_short)), group("cache", None)];
        let mut evacuate = Evacuate {
            number: Some(1),
            asked_by: "root".into(),
            groups,
            stays: Vec::new(),
            compress: None,
            rate: None,
            cancel: Arc::default(),
            is_cancelled: true,
        };
        let told = failed(&evacuate.answer()).unwrap();
        assert_eq!(told.what, "it was cancelled: web has moved; db, cache runs where it was");
        assert_eq!(told.details, ["db: it was cancelled"]);
        evacuate.groups.truncate(1);
        assert!(failed(&evacuate.answer()).is_none(), "all had left by then");
    }
}
