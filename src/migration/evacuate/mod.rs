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
use crate::migration::source::How;
use crate::operations;
use crate::saga::{self, Asked, Operation, OperationRecord, Step};
use crate::store::ContainerId;
use crate::transport::client::Compress;
use crate::world::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::num::NonZeroU64;

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
        })
    }
}

impl Evacuate {
    fn how(&self, peer: &str) -> How {
        How { compress: self.compress, rate: self.rate, ..How::to(peer) }
    }

    /// As a part of it asks.
    fn asks(&self) -> Asked<'_> {
        Asked { by: &self.asked_by, within: self.number }
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
    let (failed, left): (Vec<&Value>, Vec<&Value>) = groups.partition(|group| !group["failure"].is_null());
    let names = |group: &&Value| {
        let names = group["containers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let reasons = failed.iter().filter_map(|group| {
        let failure: Failure = serde_json::from_value(group["failure"].clone()).ok()?;
        Some(format!("{}: {}", names(group), failure.in_one_line()))
    });
    let reasons: Vec<String> = reasons.collect();
    (!failed.is_empty()).then(|| {
        let moved: Vec<String> = left.iter().map(names).collect();
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
