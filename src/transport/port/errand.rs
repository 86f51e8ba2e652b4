//! What the helper wants of the port with a request: whom to ask, and how to carry it.

use super::compress::Level;
use crate::transport::protocol::{COMPRESS, FLOW, PATIENCE, RATE, TO_ADDRESSES, TO_KEY, TO_PEER};
use crate::transport::{Address, Fingerprint};
use hyper::HeaderMap;
use std::num::NonZeroU64;
use std::time::Duration;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A peer, by name.
    Peer(String),
    /// A host that is none yet: it must have this key.
    Host { key: Fingerprint, addresses: Vec<Address> },
}

/// One request's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Whom to ask.
    pub target: Target,
    /// How hard to pack the bodies.
    pub compress: Option<Level>,
    /// How many bytes a second may go each way.
    pub rate: Option<NonZeroU64>,
    /// What goes no faster than that together.
    pub flow: Option<u64>,
    /// For how long nothing of the body may go.
    pub patience: Option<Duration>,
}

/// A header that the helper does not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} is missing or cannot be read")]
pub struct ErrandFault(&'static str);

impl Errand {
    /// Reads it from a request's head.
    pub fn of(headers: &HeaderMap) -> Result<Self, ErrandFault> {
        let compress = match text(headers, COMPRESS)? {
            None | Some("off") => None,
            Some("fast") => Some(Level::Fast),
            Some("best") => Some(Level::Best),
            Some(_) => return Err(ErrandFault(COMPRESS)),
        };
        let rate = text(headers, RATE)?.map(|rate| rate.parse().map_err(|_| ErrandFault(RATE))).transpose()?;
        let flow = text(headers, FLOW)?.map(|flow| flow.parse().map_err(|_| ErrandFault(FLOW))).transpose()?;
        let patience = text(headers, PATIENCE)?.map(|seconds| seconds.parse().map_err(|_| ErrandFault(PATIENCE)));
        let patience = patience.transpose()?.map(Duration::from_secs);
        Ok(Self { target: target(headers)?, compress, rate, flow, patience })
    }
}

fn target(headers: &HeaderMap) -> Result<Target, ErrandFault> {
    if let Some(name) = text(headers, TO_PEER)? {
        return Ok(Target::Peer(name.to_owned()));
    }
    let key = text(headers, TO_KEY)?.ok_or(ErrandFault(TO_PEER))?;
    let key = key.parse().map_err(|_| ErrandFault(TO_KEY))?;
    let addresses = text(headers, TO_ADDRESSES)?.ok_or(ErrandFault(TO_ADDRESSES))?;
    let addresses = addresses.split(',').map(str::parse).collect::<Result<_, _>>();
    Ok(Target::Host { key, addresses: addresses.map_err(|_| ErrandFault(TO_ADDRESSES))? })
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, ErrandFault> {
    headers.get(name).map(|value| value.to_str().map_err(|_| ErrandFault(name))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errand(headers: &[(&'static str, &'static str)]) -> Result<Errand, ErrandFault> {
        let with = |(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), value.parse().unwrap());
        Errand::of(&headers.iter().map(with).collect())
    }

    #[test]
    fn an_errand_says_whom_and_how() {
        let headers = [(TO_PEER, "beta"), (COMPRESS, "best"), (RATE, "1000"), (FLOW, "7"), (PATIENCE, "30")];
        let read = errand(&headers).unwrap();
        let expected = Errand {
            target: Target::Peer("beta".into()),
            compress: Some(Level::Best),
            rate: NonZeroU64::new(1000),
            flow: Some(7),
            patience: Some(Duration::from_secs(30)),
        };
        assert_eq!(read, expected);
        let key = "07".repeat(32).leak();
        let read = errand(&[(TO_KEY, key), (TO_ADDRESSES, "10.0.0.1:1,[::1]:2"), (COMPRESS, "off")]).unwrap();
        let Target::Host { addresses, .. } = read.target else { panic!() };
        assert_eq!((addresses.len(), read.compress, read.rate), (2, None, None));
    }

    #[test]
    fn what_the_helper_would_not_say_is_refused() {
        assert_eq!(errand(&[]), Err(ErrandFault(TO_PEER)));
        assert_eq!(errand(&[(TO_PEER, "beta"), (RATE, "0")]), Err(ErrandFault(RATE)));
        assert_eq!(errand(&[(TO_PEER, "beta"), (COMPRESS, "zip")]), Err(ErrandFault(COMPRESS)));
        assert_eq!(errand(&[(TO_KEY, "07")]), Err(ErrandFault(TO_KEY)));
    }
}
