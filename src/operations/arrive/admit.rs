//! Whether a peer's containers may come here. Each no is one sentence with its remedy.

use crate::docker::{Container, is_same_network};
use crate::failure::{Failure, OrFail};
use crate::network::published;
use crate::operations::migrate::words::{Coming, Offer};
use crate::services::{Interposition, effective_runc};
use crate::world::Context;

/// Refuses what cannot be taken in; nothing is touched.
pub fn look(context: &Context, peer: &str, offer: &Offer) -> Result<(), Failure> {
    may(context, peer)?;
    if effective_runc() != Interposition::Interposed {
        return Err(Failure::refused("the interposer is not in front of runc there: nothing could be restored")
            .remedy("run there: transship install"));
    }
    kernel(offer)?;
    let here = context.containers().or_fail(|| "the containers there cannot be listed".into())?;
    for coming in offer.members.iter().map(Coming::container) {
        name(context, &coming)?;
        ports(&here, &coming)?;
        addresses(&coming)?;
    }
    offer.networks.iter().try_for_each(|told| network(context, told))?;
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

fn kernel(offer: &Offer) -> Result<(), Failure> {
    let here = nix::sys::utsname::uname().or_fail(|| "this host does not say what it is".into())?;
    let here = here.machine().to_string_lossy();
    match here == offer.origin.architecture {
        true => Ok(()),
        false => Err(Failure::refused(format!("it runs on {}, and this host is {here}", offer.origin.architecture))),
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

/// Connections are bound to the container's addresses.
fn addresses(coming: &Container) -> Result<(), Failure> {
    match coming.inspect().pointer("/HostConfig/NetworkMode").and_then(serde_json::Value::as_str) {
        Some("host") => Err(Failure::refused(format!("{} uses its host's own network", coming.name()))),
        _ => Ok(()),
    }
}

fn network(context: &Context, told: &serde_json::Value) -> Result<(), Failure> {
    let name = told["Name"].as_str().unwrap_or_default();
    match context.docker.network(name) {
        Ok(here) if is_same_network(&here, told) => Ok(()),
        Ok(_) => {
            Err(Failure::refused(format!("the network {name} there is another one: its driver or its subnet differ"))
                .remedy("give both hosts a network of the same name and subnet"))
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(Failure::new(format!("the network {name} cannot be looked at")).because(&error)),
    }
}

fn volume(context: &Context, name: &str) -> Result<(), Failure> {
    match context.docker.volume(name) {
        Ok(_) => Err(Failure::refused(format!("there is a volume {name} already"))
            .remedy(format!("if nobody needs it: docker volume rm {name}"))),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(Failure::new(format!("the volume {name} cannot be looked at")).because(&error)),
    }
}
