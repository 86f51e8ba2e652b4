//! Asking a peer, through the port. Blocking: operations run on threads of their own.

use super::pour::{Answer, RUNTIME};
use super::protocol::{
    BY_PORT, COMPRESS, FLOW, HELLO, Hello, PATIENCE, PROTOCOL, Problem, RATE, TO_ADDRESSES, TO_KEY, TO_PEER,
};
use super::{Address, Fingerprint, pour};
use reqwest::{Body, Client as Http, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where the port takes requests.
pub const SOCKET: &str = "/run/transship/port/out.sock";

/// Where the helper takes what the port passes on.
pub const HELPER_SOCKET: &str = "/run/transship/port/in.sock";

/// How long an answer may take that a peer gives from memory; reaching it may take as long as its addresses are many.
const QUICK: Duration = Duration::from_secs(60);

/// No connection stands for longer than this without being used.
const IDLE: Duration = Duration::from_secs(3);

/// More than this is no JSON that peers exchange.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Why a peer could not be asked, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The port does not run, or died over it.
    #[error("the port of this host does not answer `{call}` for {peer}")]
    NoPort {
        peer: String,
        call: String,
        #[source]
        source: reqwest::Error,
    },
    /// There was no answer within the time that there may be.
    #[error("{peer} has not answered `{call}` in time")]
    Late {
        peer: String,
        call: String,
        #[source]
        source: reqwest::Error,
    },
    /// The port could not reach the peer, was not let in, or lost the connection.
    #[error("{}", .problem.sentence())]
    Unreachable { peer: String, problem: Box<Problem> },
    /// Nothing of what is sent has gone for as long as that may take, over a connection that stands.
    #[error("{}", .problem.sentence())]
    Stuck { peer: String, problem: Box<Problem> },
    /// The peer said no.
    #[error("{peer} refused `{call}`: {}", .problem.sentence())]
    Refused { peer: String, call: String, status: u16, problem: Box<Problem> },
    /// The peer's answer is not what the protocol says.
    #[error("the answer of {peer} to `{call}` cannot be read")]
    Unreadable {
        peer: String,
        call: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer has another version.
    #[error(
        "{peer} has transship {version}, which speaks version {theirs} of the protocol; this host speaks {PROTOCOL}"
    )]
    OtherProtocol { peer: String, version: String, theirs: u32 },
}

impl PeerError {
    /// What the peer or the port says is to be done.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Unreachable { problem, .. } | Self::Stuck { problem, .. } | Self::Refused { problem, .. } => {
                problem.remedy.as_deref()
            }
            Self::OtherProtocol { .. } => Some("bring transship to the same version on both hosts"),
            Self::NoPort { .. } | Self::Late { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// Whether the peer may have done what it was asked for, although there is no answer that says so.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            // Its port has answered, in place of its helper.
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::OtherProtocol { .. } => false,
            Self::NoPort { .. }
            | Self::Late { .. }
            | Self::Unreachable { .. }
            | Self::Stuck { .. }
            | Self::Unreadable { .. } => true,
        }
    }

    /// Whether it may be otherwise a moment later: the connection broke, or a part of either host is just being started
    /// again. What is stuck or late was waited for long enough.
    pub fn may_pass(&self) -> bool {
        self.is_in_doubt() && !matches!(self, Self::Stuck { .. } | Self::Late { .. })
    }
}

/// How bodies travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carriage {
    /// How hard they are compressed.
    pub compress: Compress,
    /// How fast they may go.
    pub flow: Option<Flow>,
    /// For how long nothing of what is sent may go before it is given up.
    pub patience: Option<Duration>,
}

/// How fast bodies may go that have this in common, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// How many bytes a second, each way.
    rate: NonZeroU64,
    /// What tells it from others, of other processes as well.
    number: u64,
}

impl Flow {
    /// One of its own, of so many bytes a second.
    pub fn of(rate: NonZeroU64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { rate, number: u64::from(std::process::id()) << 32 | u64::from(count) }
    }
}

/// How hard bodies are compressed on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// Not at all.
    #[default]
    Off,
    /// For fast networks.
    Fast,
    /// For slow ones.
    Best,
}

impl Compress {
    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fast => "fast",
            Self::Best => "best",
        }
    }
}

#[derive(Debug, Clone)]
enum To {
    Name,
    Key { key: Fingerprint, addresses: Vec<Address> },
}

/// Another host, to be asked.
#[derive(Debug, Clone)]
pub struct Peer {
    http: Http,
    name: String,
    to: To,
    carriage: Carriage,
}

impl Peer {
    /// A peer by its name in the book, through the port at `socket`. Nothing is sent yet.
    ///
    /// # Panics
    /// Where the process cannot make an HTTP client at all (no file descriptors left).
    pub fn named(socket: &Path, name: &str) -> Self {
        Self { http: http(socket), name: name.to_owned(), to: To::Name, carriage: Carriage::default() }
    }

    /// A host that is no peer yet, and must have this key.
    ///
    /// # Panics
    /// As [`Self::named`].
    pub fn at(socket: &Path, key: Fingerprint, addresses: Vec<Address>) -> Self {
        let name = "the host that invites".to_owned();
        Self { http: http(socket), name, to: To::Key { key, addresses }, carriage: Carriage::default() }
    }

    /// The same peer, asked in another way.
    pub fn carried(self, carriage: Carriage) -> Self {
        Self { carriage, ..self }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who is there. An error where it speaks another version of the protocol.
    pub fn hello(&self) -> Result<Hello, PeerError> {
        let hello: Hello = self.get(HELLO)?;
        match hello.protocol {
            PROTOCOL => Ok(hello),
            theirs => Err(PeerError::OtherProtocol { peer: self.name.clone(), version: hello.version, theirs }),
        }
    }

    /// Asks for something that the peer has at hand.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, PeerError> {
        self.get_within(path, QUICK)
    }

    /// The same, and does not wait longer than `limit`.
    pub fn get_within<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T, PeerError> {
        let call = format!("GET {path}");
        self.json(self.send(self.http.get(url(path)).timeout(limit), &call)?, &call)
    }

    /// Asks the peer to do something; waits for as long as that takes, or `limit`.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
        limit: Option<Duration>,
    ) -> Result<T, PeerError> {
        let call = format!("POST {path}");
        let request = self.http.post(url(path)).json(question);
        let request = match limit {
            Some(limit) => request.timeout(limit),
            None => request,
        };
        self.json(self.send(request, &call)?, &call)
    }

    /// Asks for bytes that a question names, within `limit`. What breaks off is an error of the reader, as with
    /// [`Self::get_stream`].
    pub fn post_stream<Q: Serialize>(
        &self,
        path: &str,
        question: &Q,
        limit: Duration,
    ) -> Result<impl Read + Send + use<Q>, PeerError> {
        let call = format!("POST {path}");
        self.send(self.http.post(url(path)).json(question).timeout(limit), &call).map(Answer::of)
    }

    /// Sends bytes, of a length that is known or is not; an error of the reader breaks the request off. Whoever wants to
    /// know how far it is counts in the reader.
    pub fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: impl Read + Send + 'static,
        length: Option<u64>,
    ) -> Result<T, PeerError> {
        let call = format!("PUT {path}");
        let (poured, spout) = pour::body(length);
        let request = self.http.put(url(path)).header("content-type", "application/octet-stream");
        let request = self.addressed(request.body(Body::wrap(poured)));
        let sent = RUNTIME.spawn(async { request.send().await });
        spout.pour(body);
        let sent = RUNTIME.block_on(sent).unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic()));
        self.json(self.answered(sent, &call)?, &call)
    }

    /// Fetches bytes. What breaks off on the way is an error of the reader, never an early end.
    pub fn get_stream(&self, path: &str) -> Result<impl Read + Send + use<>, PeerError> {
        let call = format!("GET {path}");
        self.send(self.http.get(url(path)), &call).map(Answer::of)
    }

    /// Fetches bytes in whole, `most` at most; how many there are beyond is not read.
    pub fn get_bytes(&self, path: &str, most: u64) -> Result<Vec<u8>, PeerError> {
        let mut bytes = Vec::new();
        let read = self.get_stream(path)?.take(most).read_to_end(&mut bytes);
        let broken = |error: io::Error| PeerError::Unreadable {
            peer: self.name.clone(),
            call: format!("GET {path}"),
            source: error.into(),
        };
        read.map_err(broken).map(|_| bytes)
    }

    /// Fetches bytes in answer to some.
    pub fn post_for_stream(&self, path: &str, question: Vec<u8>) -> Result<impl Read + Send + use<>, PeerError> {
        let call = format!("POST {path}");
        let request = self.http.post(url(path)).header("content-type", "application/octet-stream").body(question);
        self.send(request, &call).map(Answer::of)
    }

    fn send(&self, request: RequestBuilder, call: &str) -> Result<Response, PeerError> {
        let request = self.addressed(request);
        self.answered(RUNTIME.block_on(async { request.send().await }), call)
    }

    /// The request with what the port has to know of it.
    fn addressed(&self, request: RequestBuilder) -> RequestBuilder {
        let request = match &self.to {
            To::Name => request.header(TO_PEER, &self.name),
            To::Key { key, addresses } => {
                let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
                request.header(TO_KEY, key.to_string()).header(TO_ADDRESSES, addresses.join(","))
            }
        };
        let request = request.header(COMPRESS, self.carriage.compress.word());
        let request = match self.carriage.flow {
            Some(flow) => request.header(RATE, flow.rate.get()).header(FLOW, flow.number),
            None => request,
        };
        match self.carriage.patience {
            Some(patience) => request.header(PATIENCE, patience.as_secs()),
            None => request,
        }
    }

    fn answered(&self, sent: reqwest::Result<Response>, call: &str) -> Result<Response, PeerError> {
        let peer = || self.name.clone();
        let response = sent.map_err(|source| match source.is_timeout() {
            true => PeerError::Late { peer: peer(), call: call.to_owned(), source },
            false => PeerError::NoPort { peer: peer(), call: call.to_owned(), source },
        })?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.failure(response, call)),
        }
    }

    fn failure(&self, response: Response, call: &str) -> PeerError {
        let status = response.status();
        let is_of_port = response.headers().contains_key(BY_PORT);
        let problem = bounded(response).ok().and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
        let problem = Box::new(problem.unwrap_or_else(|| Problem::new(status.to_string())));
        let peer = self.name.clone();
        match status {
            StatusCode::GATEWAY_TIMEOUT if is_of_port => PeerError::Stuck { peer, problem },
            _ if is_of_port => PeerError::Unreachable { peer, problem },
            _ => PeerError::Refused { peer, call: call.to_owned(), status: status.as_u16(), problem },
        }
    }

    fn json<T: DeserializeOwned>(&self, response: Response, call: &str) -> Result<T, PeerError> {
        let unreadable = |source| PeerError::Unreadable { peer: self.name.clone(), call: call.to_owned(), source };
        let body = bounded(response).map_err(|error| unreadable(error.into()))?;
        serde_json::from_slice(&body).map_err(|error| unreadable(error.into()))
    }
}

fn bounded(response: Response) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    Answer::of(response).take(LARGEST_ANSWER + 1).read_to_end(&mut body)?;
    match body.len() as u64 > LARGEST_ANSWER {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "the answer is larger than 64 MiB")),
        false => Ok(body),
    }
}

fn http(socket: &Path) -> Http {
    Http::builder()
        .unix_socket(socket)
        // No timeout: each call sets its own; an operation has none that would be right.
        .pool_idle_timeout(IDLE)
        .build()
        .expect("an HTTP client without TLS needs nothing that can be missing")
}

/// The host part is not used on a unix socket, but a URL has to have one.
fn url(path: &str) -> String {
    format!("http://peer{path}")
}
