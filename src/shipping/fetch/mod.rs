//! `fetch`: a checkpoint comes from a peer, of which only those blocks travel that no checkpoint here has.

mod bases;
mod files;
mod steps;
mod watched;

use super::words::Way;
use crate::failure::{Failure, OrFail};
use crate::operations::persist::{Persistence, RUNNING};
use crate::saga::{self, Asked, Operation, Step};
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::cancels::Cancellable;
use crate::world::fetches::Fetching;
use crate::world::log::Log;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// A checkpoint that is being fetched.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fetch {
    id: CheckpointId,
    peer: String,
    /// The container it is of; unknown until its manifest is here.
    container: String,
    /// The image that it needs, where this host lacks it.
    lacks_image: Option<String>,
    /// Bytes of all its files.
    bytes: u64,
    /// How many of them had to travel.
    sent_bytes: u64,
    /// How it travels.
    way: Way,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Cancellable,
}

impl Fetch {
    /// One that has not begun.
    pub fn new(context: &Context, id: CheckpointId, (peer, way): (&str, Way)) -> Self {
        Self {
            id,
            peer: peer.to_owned(),
            container: String::new(),
            lacks_image: None,
            bytes: 0,
            sent_bytes: 0,
            way,
            cancel: context.cancels.admit(),
        }
    }

    /// Going on where the connection to its peer breaks.
    fn persistence<'a>(&'a self, context: &'a Context) -> Persistence<'a> {
        Persistence::with(&self.peer, context.told.as_ref(), &self.cancel, RUNNING)
    }
}

impl Operation for Fetch {
    type World = Context;

    const KIND: &'static str = "fetch";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        vec![steps::plan(), steps::image(), steps::files(), steps::adopt().commits()]
    }

    /// Its visibility is the commit.
    fn has_committed(&self, context: &Context) -> bool {
        context.catalog.get(&self.id).is_ok()
    }

    fn is_numbered(&mut self, number: i64) {
        self.cancel.is_numbered(number);
    }

    fn go_ahead(&self, commits: bool) -> Result<(), Failure> {
        self.cancel.go_ahead(commits)
    }

    fn subject(&self) -> String {
        format!("{} from {}", self.id, self.peer)
    }

    fn answer(&self) -> Value {
        json!({
            "id": self.id,
            "container": self.container,
            "peer": self.peer,
            "bytes": self.bytes,
            "sent_bytes": self.sent_bytes,
        })
    }
}

/// Fetches a checkpoint that no other operation fetches.
pub fn run(context: &Context, fetch: Fetch, asked: &str) -> Result<Value, Failure> {
    let id = fetch.id.clone();
    let fetching = Arc::new(Fetching::from(&fetch.peer));
    if !context.fetches.keep_new(id.clone(), Arc::clone(&fetching)) {
        return Err(Failure::refused(format!("checkpoint {id} is on its way here already")));
    }
    fetch_to_the_end(context, fetch, &fetching, asked)
}

/// Fetches a checkpoint that a peer offers, on a thread of its own, unless that is under way or it is here.
pub fn begin(context: &Context, (peer, way): (&str, Way), id: &CheckpointId) -> Result<Arc<Fetching>, Failure> {
    let fetching = Arc::new(Fetching::from(peer));
    if !context.fetches.keep_new(id.clone(), Arc::clone(&fetching)) {
        // It may end just now, and is then asked for once more.
        let of_peer = context.fetches.get(id).filter(|fetching| fetching.peer == peer);
        return of_peer.ok_or_else(|| Failure::refused(format!("checkpoint {id} comes from another host just now")));
    }
    if context.catalog.get(id).is_ok() {
        context.fetches.take(id);
        fetching.ending.come(Ok(()));
        return Ok(fetching);
    }
    let of_thread = Context { world: Arc::clone(&context.world), told: Arc::new(Log) };
    let (fetch, asked, working) =
        (Fetch::new(context, id.clone(), (peer, way)), format!("peer {peer}"), Arc::clone(&fetching));
    let work = move || {
        if let Err(failure) = fetch_to_the_end(&of_thread, fetch, &working, &asked) {
            tracing::warn!(%failure, "a checkpoint that a peer offers is not taken in");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("fetch".into()).spawn(work) {
        context.fetches.take(id);
        return Err(error).or_fail(|| "no thread to take a checkpoint in".into());
    }
    Ok(fetching)
}

fn fetch_to_the_end(context: &Context, fetch: Fetch, fetching: &Fetching, asked: &str) -> Result<Value, Failure> {
    let (id, world) = (fetch.id.clone(), &context.world);
    let ended = crate::operations::turn(context, vec![super::turn_on(id.as_str())]).and_then(|_turn| {
        saga::run(fetch, context, &world.journal, &world.failpoints, context.told.as_ref(), Asked::by(asked))
    });
    context.fetches.take(&id);
    fetching.ending.come(ended.as_ref().map(drop).map_err(Clone::clone));
    crate::operations::pack::begin(world);
    ended
}
