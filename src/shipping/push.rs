//! `push`: a checkpoint goes to a peer, which fetches what it lacks.

use super::share;
use super::words::{self, Standing, Way};
use crate::failure::{Failure, OrFail};
use crate::operations::carriage;
use crate::operations::persist::{Persistence, RUNNING, STANDING_STILL};
use crate::saga::{self, Asked, Operation, Step};
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::cancels::Cancellable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// How long one answer about how far it is may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A checkpoint on its way to a peer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Push {
    id: CheckpointId,
    /// The container it is of.
    container: String,
    peer: String,
    /// Whether the peer could fetch it before as well, and so can afterwards.
    was_shared: bool,
    /// How it travels.
    way: Way,
    /// Whether the peer has it.
    is_there: bool,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Cancellable,
}

impl Operation for Push {
    type World = Context;

    const KIND: &'static str = "push";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        vec![share_step(), offer(), unshare().commits()]
    }

    fn has_committed(&self, _context: &Context) -> bool {
        self.is_there
    }

    fn is_numbered(&mut self, number: i64) {
        self.cancel.is_numbered(number);
    }

    fn go_ahead(&self, commits: bool) -> Result<(), Failure> {
        self.cancel.go_ahead(commits)
    }

    fn subject(&self) -> String {
        format!("{} ({}) to {}", self.id, self.container, self.peer)
    }

    fn answer(&self) -> Value {
        json!({ "id": self.id, "container": self.container, "peer": self.peer })
    }
}

/// Pushes one checkpoint.
pub fn run(context: &Context, reference: &str, (to, way): (&str, Way), asked: &str) -> Result<Value, Failure> {
    carriage::require_rate(way.rate)?;
    super::peer(context, to)?;
    let checkpoint = crate::operations::find(context, reference)?;
    let known = context.peers.peer(to).or_fail(|| "the book of peers cannot be read".into())?;
    let push = Push {
        id: checkpoint.id().clone(),
        container: checkpoint.manifest().container.name.clone(),
        peer: to.to_owned(),
        was_shared: known.is_some_and(|peer| peer.permissions.shared.contains(checkpoint.id().as_str())),
        way,
        is_there: false,
        cancel: context.cancels.admit(),
    };
    let _turn = crate::operations::turn(context, vec![super::turn_on(push.id.as_str())])?;
    let world = &context.world;
    saga::run(push, context, &world.journal, &world.failpoints, context.told.as_ref(), Asked::by(asked))
}

type PushStep = Step<Push, Context>;

fn share_step() -> PushStep {
    fn run(push: &mut Push, context: &Context) -> Result<(), Failure> {
        let checkpoint = context.catalog.get(&push.id).or_fail(|| format!("{} cannot be sent", push.id))?;
        share::begin(context, &checkpoint, &push.peer).map(drop)
    }
    Step::new("share", run, end)
}

/// The peer has it when it says so.
fn offer() -> PushStep {
    fn run(push: &mut Push, context: &Context) -> Result<(), Failure> {
        let (peer, path) = (super::peer(context, &push.peer)?, words::offer(&push.id));
        let persistence = Persistence::with(&push.peer, context.told.as_ref(), &push.cancel, RUNNING);
        let refused = || format!("{} does not take {}", push.peer, push.id);
        loop {
            let (peer, path, way) = (peer.clone(), path.clone(), push.way);
            match persistence.ask(move || peer.post(&path, &way, Some(ANSWER)), refused)? {
                Standing::Here => break,
                Standing::UnderWay { done, total } => context.told.bytes("sent", done, total),
            }
            persistence.went_on();
        }
        push.is_there = true;
        Ok(())
    }
    fn undo(push: &mut Push, context: &Context) -> Result<(), Failure> {
        // It is best told. Where it cannot be, it finds that it may not fetch it any more, unless all of it is there.
        let Ok(peer) = super::peer(context, &push.peer) else { return Ok(()) };
        let (nobody, path) = (Cancellable::default(), format!("{}/drop", words::offer(&push.id)));
        let told = Persistence::with(&push.peer, context.told.as_ref(), &nobody, STANDING_STILL).ask(
            move || peer.post::<Value>(&path, &json!({}), Some(ANSWER)),
            || format!("{} was not told that {} is not sent", push.peer, push.id),
        );
        if let Err(failure) = told {
            context.told.note(&format!("{failure}; see there: transship ls"));
        }
        Ok(())
    }
    Step::new("offer", run, undo)
}

fn unshare() -> PushStep {
    fn undo(_: &mut Push, _: &Context) -> Result<(), Failure> {
        Ok(())
    }
    Step::new("unshare", end, undo)
}

fn end(push: &mut Push, context: &Context) -> Result<(), Failure> {
    match push.was_shared {
        true => Ok(()),
        false => share::end(context, &push.id, &push.peer),
    }
}
