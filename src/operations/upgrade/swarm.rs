//! A host that is a node of a swarm.

use super::Upgrade;
use crate::docker::{Container, Engine, Node};
use crate::failure::{Failure, OrFail};
use crate::world::Context;
use jiff::{SignedDuration, Timestamp};

/// Managers that have just started elect a leader first.
const LONGEST_ELECTION: SignedDuration = SignedDuration::from_secs(30);
const BETWEEN_TRIES: SignedDuration = SignedDuration::from_secs(1);

/// This host as the node that has to be drained; none where no task of a swarm runs here.
pub fn node(context: &Context, engine: &Engine) -> Result<Option<Node>, Failure> {
    if !engine.in_swarm || tasks(context)?.is_empty() {
        return Ok(None);
    }
    let node = context.docker.own_node().or_fail(|| "Docker does not tell which node of the swarm this is".into())?;
    node.map(Some).ok_or_else(|| {
        Failure::refused("tasks of a swarm run here, and this node is no manager, so it cannot drain itself")
            .remedy("on a manager: docker node update --availability drain NODE; make it active again afterwards")
    })
}

/// The swarm's tasks that run here.
pub fn tasks(context: &Context) -> Result<Vec<Container>, Failure> {
    let all = context.containers().or_fail(|| "the containers cannot be listed".into())?;
    Ok(all.into_iter().filter(|container| container.is_swarm_task() && container.pid().is_some()).collect())
}

/// The node is as available as it was before. May be repeated.
pub fn put_back(operation: &Upgrade, context: &Context) -> Result<(), Failure> {
    let Some(node) = &operation.node else { return Ok(()) };
    let deadline = Timestamp::now() + LONGEST_ELECTION;
    loop {
        let began = Timestamp::now();
        match context.docker.set_availability(&node.id, &node.availability) {
            Ok(()) => return Ok(()),
            Err(error) if began > deadline => {
                let what = format!("this node of the swarm cannot be made {} again", node.availability);
                let command = format!("docker node update --availability {} {}", node.availability, node.id);
                return Err(Failure::new(what).because(&error).remedy(command));
            }
            Err(error) => tracing::debug!(%error, "the swarm has no leader yet"),
        }
        // dockerd ends the answer at this moment, whether anything has happened or not.
        let waited = context.docker.events(began, began + BETWEEN_TRIES);
        waited.or_fail(|| "dockerd does not tell its events".into())?;
    }
}
