//! Holds across the helper's own restart, and the end of those that belong to nothing.

use crate::network::hold::{self, Bounds, Hold};
use crate::network::neighbours::StandIn;
use crate::restore::prepare;
use crate::store::ContainerId;
use crate::store::claims::Claim;
use crate::world::{Context, World};
use std::net::IpAddr;

/// The bounds that the settings give.
pub fn bounds(world: &World) -> Bounds {
    Bounds { max_packets: world.settings.parked_packets }
}

/// Takes over the holds of frozen containers that a helper before this one placed.
///
/// Its parked packets are lost with it, and sent again by their senders; the rules have kept all others out.
pub fn take_over(context: &Context) {
    // What has moved to a peer is led there, and not held.
    for claim in context.claims.all().into_iter().filter(|claim| claim.departed_to.is_none()) {
        match readopt(context, &claim) {
            Ok(Some(hold)) => {
                stand_in(context, &claim.container, &hold.spec().addresses);
                context.holds.keep(claim.container, hold);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(container = %claim.container, %error, "its hold could not be taken over"),
        }
    }
}

fn readopt(context: &Context, claim: &Claim) -> Result<Option<Hold>, Box<dyn std::error::Error>> {
    let checkpoint = context.catalog.get(&claim.checkpoint)?;
    if checkpoint.manifest().container.id != claim.container {
        // It came from another host, whose hold had a number of its own.
        return Ok(None);
    }
    let network = prepare::network(&checkpoint)?;
    let Some(queue) = network.queue else { return Ok(None) };
    Ok(Some(Hold::readopt(network.spec, queue, bounds(context))?))
}

/// Has the host answer for a frozen container's addresses, so that its neighbours on the bridge go on sending, to
/// where their packets are parked. Without it they hear "no route to host" after three seconds.
pub fn stand_in(context: &Context, container: &ContainerId, addresses: &[IpAddr]) {
    match StandIn::take_over(addresses) {
        Ok(stand_in) => context.stand_ins.keep(container.clone(), stand_in),
        Err(error) => tracing::warn!(%container, %error, "neighbours on its bridge may lose their route to it"),
    }
}

/// Removes the rules of holds that stand for nothing (I5). Those that are known have been taken over before.
pub fn sweep() {
    match hold::sweep() {
        Ok(swept) if swept.is_empty() => {}
        Ok(swept) => tracing::warn!(?swept, "holds that belonged to nothing are lifted"),
        Err(error) => tracing::error!(%error, "old holds could not be swept"),
    }
}
