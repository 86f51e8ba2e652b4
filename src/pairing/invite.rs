//! `peer invite`: one word that another host can be paired with, once.

use super::{addresses, of_own};
use crate::failure::{Failure, OrFail};
use crate::transport::PeerName;
use crate::transport::token::{Secret, Token};
use crate::world::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A day: whoever needs longer invites again.
const LONGEST_MINUTES: u32 = 24 * 60;

/// Opens an invitation and begins to listen.
pub fn run(context: &Context, given: &[String], name: Option<&str>, valid_minutes: u32) -> Result<Value, Failure> {
    if valid_minutes == 0 || valid_minutes > LONGEST_MINUTES {
        return Err(Failure::usage(format!("an invitation is valid for 1 to {LONGEST_MINUTES} minutes")));
    }
    let name = name.map(str::parse::<PeerName>).transpose();
    let name = name.map_err(|error| Failure::usage("the peer cannot be called that").because(&error))?;
    let addresses = addresses::of(given, context.settings.port)?;
    let secret = Secret::generate().or_fail(|| "no invitation can be made".into())?;
    let expires = Timestamp::now() + SignedDuration::from_mins(valid_minutes.into());
    let opened = context.peers.change(|state| {
        state.book.invite(&secret, expires, name)?;
        Ok(state.identity.fingerprint())
    });
    let (fingerprint, number) = opened.map_err(|error| of_own("no invitation can be opened", &error))?;
    if let Err(error) = context.peers.wait_for_port(number) {
        // Nobody has the word yet.
        let closed = context.peers.change(|state| Ok(state.book.redeem(&secret, Timestamp::now())?));
        if let Err(error) = closed {
            tracing::warn!(%error, "an invitation that nobody has stays open until it expires");
        }
        return Err(of_own("nobody could answer an invitation now", &error));
    }
    let token = Token { addresses, fingerprint, secret, expires };
    tracing::info!(%expires, "an invitation is open");
    Ok(json!({
        "token": token.to_string(),
        "expires": expires,
        "addresses": token.addresses,
        "fingerprint": fingerprint,
    }))
}
