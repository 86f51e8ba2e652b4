//! `peer allow`: what a peer may do here.

use super::{of_own, unknown};
use crate::failure::Failure;
use crate::transport::book::Peer;
use crate::world::Context;
use serde_json::{Value, json};

/// Changes what is given, and answers with what holds then.
pub fn run(
    context: &Context,
    name: &str,
    containers: Option<bool>,
    checkpoints: Option<bool>,
    takes_back: Option<bool>,
) -> Result<Value, Failure> {
    let set = |peer: &mut Peer| {
        let permissions = &mut peer.permissions;
        permissions.accepts_containers = containers.unwrap_or(permissions.accepts_containers);
        permissions.accepts_checkpoints = checkpoints.unwrap_or(permissions.accepts_checkpoints);
        permissions.takes_back = takes_back.unwrap_or(permissions.takes_back);
        permissions.clone()
    };
    let changed = context.peers.change(|state| Ok(state.book.peer_mut(name).map(set)));
    let (permissions, _) = changed.map_err(|error| of_own(format!("{name} keeps what it may do"), &error))?;
    let permissions = permissions.ok_or_else(|| unknown(name))?;
    tracing::info!(name, ?permissions, "a peer may do this from now on");
    Ok(json!({
        "peer": name,
        "containers": permissions.accepts_containers,
        "checkpoints": permissions.accepts_checkpoints,
        "return": permissions.takes_back,
    }))
}
