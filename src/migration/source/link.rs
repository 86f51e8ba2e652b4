//! How this host and a peer reach each other.

use crate::failure::{Failure, OrFail};
use crate::migration::asking;
use crate::network::ways::Link;
use crate::operations::persist::{self, Persistence};
use crate::transport::client::PeerError;
use crate::world::Context;
use crate::world::cancels::Cancellable;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

/// The same, once the peer has answered.
pub fn to_reachable(context: &Context, peer: &str) -> Result<Link, Failure> {
    let link = to(context, peer)?;
    greet(context, peer).map_err(Failure::as_refusal)?;
    Ok(link)
}

/// A peer that does not answer is not waited for, but this host's own port is: it may be just being started again.
fn greet(context: &Context, peer: &str) -> Result<(), Failure> {
    let (nobody, failed_to) = (Cancellable::default(), || format!("{peer} cannot be asked"));
    let persistence = Persistence::with(peer, context.told.as_ref(), &nobody, persist::STANDING_STILL);
    loop {
        match asking::peer(peer).hello() {
            Ok(_) => return Ok(()),
            Err(error @ PeerError::NoPort { .. }) => persistence.again(&error, failed_to)?,
            Err(error) => return Err(persist::failed(&error, failed_to())),
        }
    }
}

/// The peer's first address as the book has it, and the address that this host has towards it.
fn to(context: &Context, peer: &str) -> Result<Link, Failure> {
    let known = context.peers.peer(peer).or_fail(|| "the book of peers cannot be read".into())?;
    let known = known.ok_or_else(|| {
        Failure::refused(format!("there is no peer {peer}"))
            .remedy("see: transship peer ls; pair with: transship peer invite")
    })?;
    let addresses =
        known.addresses.iter().filter_map(|address| (address.host(), address.port()).to_socket_addrs().ok());
    let destination = addresses.flatten().map(|address| address.ip()).next();
    let destination = destination.ok_or_else(|| {
        Failure::refused(format!("no address of {peer} is known"))
            .remedy("pair the hosts again, with: transship peer invite --address")
    })?;
    let source = source_towards(destination).or_fail(|| format!("this host has no way to {destination}"))?;
    Ok(Link { source, destination })
}

/// Nothing is sent: the kernel picks the address that it would send from.
fn source_towards(destination: IpAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if destination.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((destination, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    #[test]
    fn towards_this_host_itself_it_is_this_host() {
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(super::source_towards(loopback).unwrap(), loopback);
    }
}
