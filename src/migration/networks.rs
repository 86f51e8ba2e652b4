//! Networks of containers that move: told to the peer, and removed here when nobody is left in them.

use crate::docker::{Client, Container};
use crate::failure::{Failure, OrFail};
use crate::operations::checkpoint::Member;
use crate::store::handovers::LABEL;
use crate::world::Context;
use serde_json::Value;
use std::collections::BTreeSet;

/// Docker Compose's own label.
const PROJECT: &str = "com.docker.compose.project";

/// The networks of the containers that are not Docker's own, as Docker tells them.
pub fn of(docker: &Client, members: &[Member]) -> Result<Vec<Value>, Failure> {
    let look = |name| docker.network(name).or_fail(|| format!("the network {name} cannot be looked at"));
    names(members).into_iter().map(look).collect()
}

fn names(members: &[Member]) -> BTreeSet<&str> {
    let networks = members.iter().filter_map(|member| in_networks(&member.inspect));
    let names = networks.flat_map(serde_json::Map::keys).map(String::as_str);
    names.filter(|name| !matches!(*name, "bridge" | "host" | "none")).collect()
}

fn in_networks(inspect: &Value) -> Option<&serde_json::Map<String, Value>> {
    inspect.pointer("/NetworkSettings/Networks")?.as_object()
}

/// Whether one of the containers, running or not, is in a network.
pub fn is_used(containers: &[Container], name: &str) -> bool {
    containers.iter().any(|container| in_networks(container.inspect()).is_some_and(|all| all.contains_key(name)))
}

/// Removes those that were made by a migration or by Compose, and that no container here is in any more, running or not.
/// Where the containers come back the networks are made again, with the address ranges that they had.
pub fn remove_left(context: &Context, members: &[Member]) -> Result<(), Failure> {
    let all = context.containers().or_fail(|| "the containers cannot be listed".into())?;
    for name in names(members).into_iter().filter(|name| !is_used(&all, name)) {
        let failed = || format!("the network {name} cannot be removed");
        match context.docker.network(name) {
            Ok(told) if [LABEL, PROJECT].iter().any(|label| !told["Labels"][label].is_null()) => {
                context.docker.remove_network(name).or_fail(failed)?;
            }
            Err(error) if !error.is_not_found() => return Err(Failure::new(failed()).because(&error)),
            _ => {}
        }
    }
    Ok(())
}
