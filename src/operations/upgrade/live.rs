//! Containers that run on without dockerd: new connections to them wait until its rules are there again.
//!
//! dockerd takes its rules for published ports away when it starts, and puts them in anew; its proxies for them end with it.
//! A connection that is opened in between would meet the host's own stack, which refuses it. Open ones are tracked and go
//! on.

use super::Upgrade;
use super::strategy::Strategy;
use crate::failure::{Failure, OrFail};
use crate::network::hold::Hold;
use crate::network::published;
use crate::operations::holds;
use crate::store::ContainerId;
use crate::world::Context;
use std::sync::Arc;

/// New connections that wait; they go on when this is dropped. If the helper dies they are dropped, and sent again by
/// their clients; its next start takes the rules away.
pub struct NewConnections {
    held: Vec<(ContainerId, Hold)>,
    context: Context,
}

/// Holds new connections to all that run on. One whose connections cannot be held goes without, which is told.
pub fn hold_new_connections(upgrade: &Upgrade, context: &Context) -> NewConnections {
    let live = upgrade.containers.iter().filter(|course| course.strategy == Strategy::LiveRestore);
    let mut held = Vec::new();
    // The first one owns the network.
    for member in live.filter_map(|course| course.members.first()) {
        match hold(&member.id, context) {
            Ok(hold) => held.extend(hold.map(|hold| (member.id.clone(), hold))),
            Err(failure) => context.told.note(&format!("new connections to {} may be refused: {failure}", member.name)),
        }
    }
    NewConnections { held, context: Context { world: Arc::clone(&context.world), told: Arc::clone(&context.told) } }
}

/// None where it has no network of its own.
fn hold(id: &ContainerId, context: &Context) -> Result<Option<Hold>, Failure> {
    let failed = || "they cannot be held".to_owned();
    let container = context.docker.container(id.as_str()).or_fail(failed)?;
    let spec = published::from_inspect(container.inspect()).or_fail(failed)?;
    let has_network = !(spec.published.is_empty() && spec.addresses.is_empty());
    has_network.then(|| Hold::place(spec, holds::bounds(context))).transpose().or_fail(failed)
}

impl Drop for NewConnections {
    fn drop(&mut self) {
        for (container, mut hold) in self.held.drain(..) {
            // A dockerd that has just started may be at the same tables.
            match hold.release().or_else(|_| hold.release()) {
                Ok(report) => tracing::info!(%container, ?report, "new connections go on"),
                Err(error) => {
                    let cause: &dyn std::error::Error = &error;
                    tracing::error!(%container, cause, "its hold lets everything pass, and could not be taken away");
                    self.context.told.note(&format!(
                        "rules for new connections to {container:.12} could not be taken away; they let everything pass, \
                         and the next start of transshipd takes them away: {error}"
                    ));
                    // Without somebody at its queue it would let nothing pass.
                    self.context.holds.keep(container, hold);
                }
            }
        }
    }
}
