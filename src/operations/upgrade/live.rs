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

/// New connections that wait; they go on when this is dropped. If the helper dies they are dropped, and sent again by
/// their clients; its next start takes the rules away.
pub struct NewConnections(Vec<(ContainerId, Hold)>);

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
    NewConnections(held)
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
        for (container, hold) in &mut self.0 {
            match hold.release() {
                Ok(report) => tracing::info!(%container, ?report, "new connections go on"),
                Err(error) => tracing::error!(%container, %error, "the hold could not be lifted"),
            }
        }
    }
}
