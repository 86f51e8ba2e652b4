//! Heads of messages on their way through, and the port's own answers.

use super::body::{Body, whole};
use crate::transport::protocol::{HEADER_PREFIX, Problem};
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::PathAndQuery;
use hyper::{Response, StatusCode, Uri};

/// The one encoding that is spoken.
pub const ZSTD: &str = "zstd";

/// What binary bodies are called: they are worth compressing.
const BINARY: &str = "application/octet-stream";

/// About one connection, and of no concern to the next one (RFC 9110, 7.6.1).
const OF_ONE_CONNECTION: [HeaderName; 6] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, EXPECT];

/// Takes out what is about one connection, and whatever speaks in this program's name.
pub fn clean(headers: &mut HeaderMap) {
    OF_ONE_CONNECTION.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    let ours: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(HEADER_PREFIX)).cloned().collect();
    ours.iter().for_each(|name| drop(headers.remove(name)));
}

/// The same for a request, which goes to a host that needs no name. How the answer may be packed is between ports.
pub fn clean_request(headers: &mut HeaderMap) {
    clean(headers);
    headers.remove(ACCEPT_ENCODING);
    headers.insert(HOST, HeaderValue::from_static("transship.invalid"));
}

/// The path and the query, without the host that a client may have put in front.
pub fn local_uri(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")).into()
}

/// What a body is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Nothing.
    Plain,
    /// zstd.
    Zstd,
    /// Something that is not spoken here.
    Other,
}

/// What the head says of the body's packing.
pub fn packing(headers: &HeaderMap) -> Packing {
    let mut all = headers.get_all(CONTENT_ENCODING).iter();
    match (all.next(), all.next()) {
        (None, _) => Packing::Plain,
        (Some(one), None) if one == ZSTD => Packing::Zstd,
        _ => Packing::Other,
    }
}

/// The head of a body that is packed now.
pub fn set_packed(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(ZSTD));
}

/// The head of a body that is unpacked now.
pub fn set_unpacked(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_ENCODING);
}

/// Whether the asker takes a packed answer.
pub fn takes_packed(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT_ENCODING).is_some_and(|accepted| accepted == ZSTD)
}

/// Whether a body is worth packing.
pub fn is_binary(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind == BINARY)
}

/// An answer of the port's own.
pub fn answer(status: StatusCode, problem: &Problem) -> Response<Body> {
    let mut answer = Response::new(whole(serde_json::to_vec(problem).unwrap_or_default()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_in_our_name_or_of_a_connection_is_taken_out() {
        let mut headers = HeaderMap::new();
        for name in ["x-transship-peer", "X-Transship-Stranger", "x-transship-anything", "connection", "upgrade", "te"]
        {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("one"));
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("two"));
        }
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        clean(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    }

    #[test]
    fn only_plain_zstd_is_spoken() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            packing(&headers)
        };
        assert_eq!(with(&[]), Packing::Plain);
        assert_eq!(with(&["zstd"]), Packing::Zstd);
        assert_eq!(with(&["zstd, zstd"]), Packing::Other);
        assert_eq!(with(&["zstd", "zstd"]), Packing::Other);
        assert_eq!(with(&["gzip"]), Packing::Other);
    }

    #[test]
    fn a_host_in_front_of_the_path_is_dropped() {
        let local = |text: &str| local_uri(&text.parse().unwrap()).to_string();
        assert_eq!(local("http://elsewhere/v1/hello?x=1"), "/v1/hello?x=1");
        assert_eq!(local("http://elsewhere"), "/");
    }
}
