//! Who asks, as the port says: for the routes that peers reach.

use super::protocol::{FROM_KEY, FROM_PEER, Problem};
use super::{Fingerprint, PeerName};
use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::str::FromStr;

/// An answer that is not a success.
pub type Refusal = (StatusCode, Json<Problem>);

/// The name of the peer that asks. A route that takes it is out of reach for strangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub PeerName);

/// The key of whoever asks, peer or stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerKey(pub Fingerprint);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        header(parts, FROM_PEER).map(Self).ok_or_else(|| {
            let problem = Problem::new("only a peer may ask for this");
            (StatusCode::FORBIDDEN, Json(problem.remedy("pair the two hosts: transship peer invite")))
        })
    }
}

impl<S: Sync> FromRequestParts<S> for CallerKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        header(parts, FROM_KEY)
            .map(Self)
            .ok_or_else(|| (StatusCode::FORBIDDEN, Json(Problem::new("the port does not say whose key this is"))))
    }
}

/// A header of the port's; none where it is there twice, which the port would not do.
fn header<T: FromStr>(parts: &Parts, name: &str) -> Option<T> {
    let mut all = parts.headers.get_all(name).iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    only.to_str().ok()?.parse().ok()
}
