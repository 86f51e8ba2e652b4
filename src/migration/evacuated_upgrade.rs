//! `upgrade --strategy evacuate`: what can leaves for peers, the engine is upgraded, and what has left comes back.
//!
//! ```text
//!  evacuate ───► upgrade* ───► return          * commits
//!     └ undo: return
//! ```
//!
//! Each is an operation of its own, with this one as `within`, and is taken up by itself where a helper was killed; this one
//! goes by what the journal has of them. What stays goes through the upgrade by the strategy `auto`.
//!
//! Whoever cancels it cancels the part that is under way, which comes to its own end; nothing more begins, and what has left
//! comes back. It commits where the upgrade does: from then on it goes on to its end.

use super::{evacuate, homecoming};
use crate::failure::{Failure, OrFail};
use crate::operations::{self, upgrade};
use crate::saga::{self, Asked, Operation, OperationRecord, Phase, Step};
use crate::world::Context;
use crate::world::cancels::Cancellable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// An upgrade around which what can is elsewhere.
#[derive(Debug, Serialize, Deserialize)]
pub struct EvacuatedUpgrade {
    /// Its number in the journal.
    number: Option<i64>,
    /// Who asked for it.
    asked_by: String,
    /// Peers to which containers may go.
    peers: Vec<String>,
    /// The engine's version, as the operator named it.
    to: Option<String>,
    /// Containers that may be stopped.
    may_stop: Vec<String>,
    /// What the upgrade has answered.
    upgraded: Value,
    /// What has come back.
    returned: Value,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Arc<Cancellable>,
    /// Whether a person has; for a helper that takes it up again.
    #[serde(default)]
    is_cancelled: bool,
}

type Part = Step<EvacuatedUpgrade, Context>;

impl Operation for EvacuatedUpgrade {
    type World = Context;

    const KIND: &'static str = "evacuated-upgrade";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        vec![leave(), change().commits(), come_back()]
    }

    fn has_committed(&self, context: &Context) -> bool {
        let last = last_part(self, context, upgrade::Upgrade::KIND);
        last.is_ok_and(|last| last.is_some_and(|upgrade| upgrade.phase == Phase::Done))
    }

    /// Nobody comes back to an engine that a person has to see to first.
    fn is_out_of_hand(&self, context: &Context) -> bool {
        let last = last_part(self, context, upgrade::Upgrade::KIND);
        last.is_ok_and(|last| last.is_some_and(|upgrade| upgrade.phase == Phase::NeedsPerson))
    }

    fn goes_on_after_a_crash(&self) -> bool {
        true
    }

    fn is_numbered(&mut self, number: i64) {
        self.number = Some(number);
        self.cancel.is_numbered(number);
    }

    fn is_taken_up(&mut self, context: &Context) {
        self.cancel = Arc::new(context.cancels.admit());
        match self.has_committed(context) {
            true => self.cancel.has_committed(),
            false if self.is_cancelled => self.cancel.cancel(),
            false => {}
        }
    }

    /// The upgrade says when it commits.
    fn go_ahead(&self, _commits: bool) -> Result<(), Failure> {
        self.cancel.go_ahead(false)
    }

    fn subject(&self) -> String {
        format!("{}, by way of {}", self.to.as_deref().unwrap_or("the newest engine"), self.peers.join(", "))
    }

    fn answer(&self) -> Value {
        let mut answer = self.upgraded.clone();
        answer["evacuated"] = self.returned["groups"].clone();
        answer
    }
}

impl EvacuatedUpgrade {
    /// As what it asks for its parts.
    fn asks(&self) -> Asked<'_> {
        Asked { by: &self.asked_by, within: self.number }
    }
}

/// What an operator wants.
#[derive(Debug)]
pub struct Wish {
    /// The engine's version; none for the newest.
    pub to: Option<String>,
    /// Peers to which containers may go.
    pub peers: Vec<String>,
    /// Containers that may be stopped.
    pub may_stop: Vec<String>,
    /// Whether it is only asked for.
    pub dry_run: bool,
}

/// Plans all of it, and carries it out unless only the plan is wanted.
pub fn run(context: &Context, wish: Wish, asked: Asked<'_>) -> Result<Value, Failure> {
    let Wish { to, peers, may_stop, dry_run } = wish;
    if !evacuate::all_left(context)?.is_empty() {
        return Err(Failure::refused("something has left this host already, and is not back")
            .remedy("bring it back first: transship return"));
    }
    // What would be refused later is refused before anything has left.
    let mut planned = upgrade::run(context, to.clone(), None, may_stop.clone(), true, asked)?;
    if dry_run {
        planned["evacuation"] = evacuate::run(context, &leaving(&peers, None), asked)?;
        return Ok(planned);
    }
    let (upgraded, returned) = (json!({}), json!({}));
    let asked_by = asked.by.to_owned();
    let cancel = Arc::new(context.cancels.admit());
    let operation = EvacuatedUpgrade {
        number: None,
        asked_by,
        peers,
        to,
        may_stop,
        upgraded,
        returned,
        cancel,
        is_cancelled: false,
    };
    let world = &context.world;
    saga::run(operation, context, &world.journal, &world.failpoints, context.told.as_ref(), asked)
}

/// Goes on with what one before it has begun: at the helper's start, or on request.
pub fn go_on(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    operations::state::<EvacuatedUpgrade>(record)?;
    let world = &context.world;
    saga::recover::<EvacuatedUpgrade>(record, context, &world.journal, &world.failpoints, context.told.as_ref())
}

/// What is asked of the evacuation: as a part of a whole, or only what it would do.
fn leaving(peers: &[String], whole: Option<&Arc<Cancellable>>) -> evacuate::Wish {
    evacuate::Wish {
        peers: peers.to_vec(),
        dry_run: whole.is_none(),
        compress: None,
        rate: None,
        whole: whole.cloned(),
    }
}

/// Its part of this kind that was begun last.
fn last_part(whole: &EvacuatedUpgrade, context: &Context, kind: &str) -> Result<Option<OperationRecord>, Failure> {
    let Some(number) = whole.number else { return Ok(None) };
    let parts = context.journal.parts(number).or_fail(|| "the journal cannot be read".into())?;
    Ok(parts.into_iter().rfind(|part| part.kind == kind))
}

fn leave() -> Part {
    fn run(whole: &mut EvacuatedUpgrade, context: &Context) -> Result<(), Failure> {
        match last_part(whole, context, evacuate::Evacuate::KIND)? {
            Some(part) if part.phase == Phase::Done => Ok(()),
            _ => evacuate::run(context, &leaving(&whole.peers, Some(&whole.cancel)), whole.asks()).map(drop),
        }
    }
    fn undo(whole: &mut EvacuatedUpgrade, context: &Context) -> Result<(), Failure> {
        bring_back(whole, context)
    }
    Step::new("evacuate", run, undo)
}

fn bring_back(whole: &mut EvacuatedUpgrade, context: &Context) -> Result<(), Failure> {
    if !evacuate::all_left(context)?.is_empty() {
        homecoming::run(context, None, whole.asks())?;
    }
    // Also where a helper before this one had begun it, and it was brought to its end by itself.
    let last = last_part(whole, context, homecoming::Homecoming::KIND)?;
    whole.returned = last.and_then(|part| part.result).unwrap_or_default();
    Ok(())
}

fn change() -> Part {
    fn run(whole: &mut EvacuatedUpgrade, context: &Context) -> Result<(), Failure> {
        whole.upgraded = match last_part(whole, context, upgrade::Upgrade::KIND)? {
            None => upgrade::part(context, whole.to.clone(), whole.may_stop.clone(), &whole.cancel, whole.asks())?,
            Some(part) if part.phase == Phase::Done => part.result.unwrap_or_default(),
            Some(part) => {
                let failure = part.result.map(|result| result["failure"].clone()).unwrap_or_default();
                let failure: Option<Failure> = serde_json::from_value(failure).ok();
                let failure = failure.unwrap_or_else(|| Failure::new(format!("upgrade {} is {}", part.id, part.phase)));
                return Err(failure);
            }
        };
        Ok(())
    }
    fn nothing(_: &mut EvacuatedUpgrade, _: &Context) -> Result<(), Failure> {
        Ok(())
    }
    Step::new("upgrade", run, nothing)
}

fn come_back() -> Part {
    fn nothing(_: &mut EvacuatedUpgrade, _: &Context) -> Result<(), Failure> {
        Ok(())
    }
    Step::new("return", bring_back, nothing)
}
