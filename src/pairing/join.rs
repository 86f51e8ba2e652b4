//! `peer join`: answers an invitation, after which both hosts have each other in their books.

use super::{addresses, of_own, of_peer, own_name};
use crate::failure::Failure;
use crate::transport::book::Paired;
use crate::transport::client::{Peer, PeerError, SOCKET};
use crate::transport::protocol::{PAIR, PairAnswer, PairRequest};
use crate::transport::token::Token;
use crate::world::Context;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// What the other host may take: its port has to go by its new book first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pairs this host with the one that invites.
pub fn run(context: &Context, token: &str, given: &[String]) -> Result<Value, Failure> {
    let token: Token = token.trim().parse().map_err(|error| {
        Failure::usage("this is no invitation")
            .because(&error)
            .remedy("make one on the other host: transship peer invite")
    })?;
    let addresses = addresses::of(given, context.settings.port)?;
    // The port has to be there before the other host is told that it is.
    let joining = context.peers.join().map_err(|error| of_own("no host can be joined", &error))?;
    let own = context.peers.state().map_err(|error| of_own("no host can be joined", &error))?;
    let own = own.identity.fingerprint();
    if own == token.fingerprint {
        return Err(Failure::refused("this host has made the invitation itself")
            .remedy("join on the other host, with the same word"));
    }
    let request = PairRequest { secret: token.secret.encode(), name: own_name(), addresses };
    let inviter = Peer::at(Path::new(SOCKET), token.fingerprint, token.addresses.clone());
    let answer: PairAnswer = inviter.post(PAIR, &request, Some(PATIENCE)).map_err(|error| not_paired(&error))?;
    let paired =
        Paired { name: answer.name, fingerprint: token.fingerprint, addresses: token.addresses.clone(), knows: own };
    let added = context.peers.change(|state| Ok(state.book.add(paired, Timestamp::now())?));
    let (name, number) = added.map_err(|error| {
        of_own("the other host has this one among its peers now, and this host could not note the other", &error)
            .remedy("remove this host there (transship peer rm), and pair again with another invitation")
    })?;
    drop(joining);
    context.peers.wait_for_port(number).map_err(|error| of_own(format!("{name} cannot be called yet"), &error))?;
    tracing::info!(%name, fingerprint = %token.fingerprint, "paired");
    let hello = Peer::named(Path::new(SOCKET), name.as_str()).hello();
    if let Err(error) = &hello {
        context.told.note(&format!("{name} is paired, and does not answer as a peer yet: {error}"));
    }
    Ok(json!({
        "peer": name,
        "fingerprint": token.fingerprint,
        "addresses": token.addresses,
        "version": hello.ok().map(|hello| hello.version),
    }))
}

fn not_paired(error: &PeerError) -> Failure {
    let failure = of_peer("the two hosts are not paired", error);
    match error {
        PeerError::NoPort { .. } | PeerError::Late { .. } | PeerError::Unreadable { .. } => failure.remedy(
            "the other host may have this one among its peers now (transship peer ls); pair again with another invitation",
        ),
        _ => failure,
    }
}
