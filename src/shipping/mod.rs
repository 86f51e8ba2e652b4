//! Checkpoints that go to peers, and come from them.
//!
//! ```text
//!  push (source)                              fetch (receiver, for push and pull alike)
//!  share ── offer* ── unshare                 plan ── image ── files ── adopt*              * commits
//!             │  "may it come, and how far is it?"  │        │
//!             └────────────────────────────────────►│        └── GET, POST v1/shared/ID/…
//! ```
//!
//! Whoever receives drives: it knows what it has, of this checkpoint and of others. The source answers for checkpoints that
//! were shared with who asks, and remembers nothing.
//!
//! * [`share`]: which peers may fetch a checkpoint;
//! * [`lend`]: what those are answered;
//! * [`fetch`]: taking one in;
//! * [`push`], [`pull`]: the two ways to begin that.

mod fetch;
pub mod inward;
mod lend;
mod pull;
mod push;
mod share;
mod words;

pub use fetch::Fetch;
pub use pull::{list_of, run as pull};
pub use push::{Push, run as push};
pub use share::run as share;
pub use words::Way;

use crate::failure::{Failure, OrFail};
use crate::transport::client::{self, Peer};
use crate::world::Context;
use std::path::Path;

/// What a turn is taken on by whoever works on a checkpoint's way.
pub fn turn_on(id: &str) -> String {
    format!("checkpoint {id}")
}

/// A peer of this host's, by its name.
fn peer(context: &Context, name: &str) -> Result<Peer, Failure> {
    let known = context.peers.peer(name).or_fail(|| "the book of peers cannot be read".into())?;
    match known {
        Some(_) => Ok(Peer::named(Path::new(client::SOCKET), name)),
        None => Err(Failure::refused(format!("{name} is no peer of this host")).remedy("see: transship peer ls")),
    }
}
