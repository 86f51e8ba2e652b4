//! Whether a peer's containers may come here. Each no is one sentence with its remedy.

use super::{binds, capability, reach};
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::migration::words::{Coming, Offer};
use crate::network::published;
use crate::services::{Interposition, effective_runc};
use crate::world::Context;

/// Refuses what cannot be taken in; nothing is touched.
pub fn look(context: &Context, peer: &str, offer: &Offer) -> Result<(), Failure> {
    may(context, peer)?;
    if context.busy.is_on_engine() {
        return Err(Failure::refused("an operation is at work on Docker itself there")
            .remedy("wait for it; see there: transship status"));
    }
    if effective_runc() != Interposition::Interposed {
        return Err(Failure::refused("the interposer is not in front of runc there: nothing could be restored")
            .remedy("run there: transship install"));
    }
    capability::look(context, offer)?;
    let networks = context.docker.networks().or_fail(|| "the networks there cannot be listed".into())?;
    offer.networks.iter().try_for_each(|told| reach::network(&networks, told))?;
    let here = context.containers().or_fail(|| "the containers there cannot be listed".into())?;
    for coming in offer.members.iter().map(Coming::container) {
        name(context, &coming)?;
        ports(&here, &coming)?;
        reach::addresses(context, &networks, &coming)?;
    }
    offer.binds.iter().try_for_each(binds::look)?;
    let volumes = offer.volumes.iter().filter_map(|volume| volume["Name"].as_str());
    volumes.into_iter().try_for_each(|name| volume(context, name))
}

/// Whether a peer may offer containers at all.
pub fn may(context: &Context, peer: &str) -> Result<(), Failure> {
    let known = context.peers.peer(peer).or_fail(|| "the book of peers cannot be read".into())?;
    match known {
        Some(known) if known.permissions.accepts_containers => Ok(()),
        _ => Err(Failure::refused("this host takes no containers from there")
            .remedy("allow it on the destination: transship peer allow NAME --containers yes")),
    }
}

fn name(context: &Context, coming: &Container) -> Result<(), Failure> {
    if context.is_landing(coming.name()) {
        return Err(Failure::refused(format!("a container {} is coming already", coming.name())));
    }
    match context.docker.container(coming.name()) {
        Ok(_) => Err(Failure::refused(format!("there is a container {} already", coming.name()))
            .remedy("rename or remove that one")),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(Failure::new("Docker cannot be asked").because(&error)),
    }
}

fn ports(here: &[Container], coming: &Container) -> Result<(), Failure> {
    let wanted = published::from_inspect(coming.inspect()).or_fail(|| "its ports cannot be read".into())?.published;
    for other in here {
        let taken = published::from_inspect(other.inspect()).or_fail(|| "its ports cannot be read".into())?.published;
        let clash = wanted.iter().find(|port| {
            taken.iter().any(|other| (other.host_port, other.protocol) == (port.host_port, port.protocol))
        });
        if let Some(port) = clash {
            return Err(Failure::refused(format!("port {} is published by {} already", port.host_port, other.name()))
                .remedy("stop that one, or publish another port"));
        }
    }
    Ok(())
}

fn volume(context: &Context, name: &str) -> Result<(), Failure> {
    match context.docker.volume(name) {
        Ok(_) => Err(Failure::refused(format!("there is a volume {name} already"))
            .remedy(format!("if nobody needs it: docker volume rm {name}"))),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(Failure::new(format!("the volume {name} cannot be looked at")).because(&error)),
    }
}
