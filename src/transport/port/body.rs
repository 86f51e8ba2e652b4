//! Bodies on their way through.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use std::io;

/// A body that comes in pieces.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One that is passed on as it comes.
pub fn passed_on(body: Incoming) -> Body {
    body.map_err(io::Error::other).boxed_unsync()
}

/// One that is there in whole.
pub fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}
