//! `pull`, and `ls --from`: checkpoints that a peer shares with this host.

use super::Fetch;
use super::words::{Shared, Way};
use crate::failure::Failure;
use crate::operations::carriage;
use crate::operations::persist::failed;
use crate::store::CheckpointId;
use crate::store::catalog::MIN_PREFIX;
use crate::transport::client::Peer;
use crate::world::Context;
use serde_json::Value;
use std::sync::Arc;

/// Lists what a peer shares with this host.
pub fn list_of(context: &Context, from: &str) -> Result<Value, Failure> {
    Ok(serde_json::json!({ "checkpoints": shared_by(&super::peer(context, from)?)?.checkpoints }))
}

/// Fetches one of them.
pub fn run(context: &Context, reference: &str, (from, way): (&str, Way), asked: &str) -> Result<Value, Failure> {
    carriage::require_rate(way.rate)?;
    let peer = super::peer(context, from)?;
    let id = find(shared_by(&peer)?.checkpoints, reference, from)?;
    if let Ok(here) = context.catalog.get(&id) {
        return Err(Failure::refused(format!("checkpoint {id} of {} is here already", here.manifest().container.name))
            .remedy("see: transship ls"));
    }
    let told = Context { world: Arc::clone(&context.world), told: Arc::clone(&context.told) };
    super::fetch::run(&told, Fetch::new(context, id, (from, way)), asked)
}

fn shared_by(peer: &Peer) -> Result<Shared, Failure> {
    peer.get("/v1/shared").map_err(|error| failed(&error, format!("{} does not say what it shares", peer.name())))
}

/// The one that is meant: by id or name, by the beginning of an id; or a container's newest, which comes first.
fn find(listed: Vec<Value>, reference: &str, from: &str) -> Result<CheckpointId, Failure> {
    let is = |key: &str| listed.iter().filter(|one| one[key] == reference).collect::<Vec<_>>();
    let begins = || {
        let matches = |one: &&Value| one["id"].as_str().is_some_and(|id| id.starts_with(reference));
        listed.iter().filter(matches).collect::<Vec<_>>()
    };
    let (exact, of_container) = ([is("id"), is("name")].concat(), is("container"));
    let found = match (exact.as_slice(), of_container.first()) {
        ([], Some(newest)) => vec![*newest],
        ([], None) if reference.len() >= MIN_PREFIX => begins(),
        _ => exact,
    };
    match found.as_slice() {
        [only] => only["id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| Failure::new(format!("{from} says {only}"))),
        [] => Err(Failure::refused(format!("{from} shares no checkpoint {reference} with this host"))
            .remedy(format!("see: transship ls --from {from}; there: transship share {reference} --with NAME"))),
        _ => Err(Failure::refused(format!("{reference} means several checkpoints")).remedy("give an id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_meant_is_found_and_never_guessed() {
        let one = |id: &str, name: &str, container: &str| json!({ "id": id, "name": name, "container": container });
        let listed = || {
            vec![
                one("aaaa000000000002", "", "web"),
                one("aaaa000000000001", "gold", "web"),
                one("bbbb000000000003", "gold2", "db"),
            ]
        };
        let found = |reference: &str| find(listed(), reference, "beta").map(|id| id.to_string()).ok();
        assert_eq!(found("gold").as_deref(), Some("aaaa000000000001"));
        assert_eq!(found("web").as_deref(), Some("aaaa000000000002"), "the newest");
        assert_eq!(found("bbbb").as_deref(), Some("bbbb000000000003"));
        assert_eq!(found("aaaa000000000001").as_deref(), Some("aaaa000000000001"));
        assert_eq!([found("aaaa"), found("bbb"), found("nothing")], [const { None }; 3]);
    }
}
