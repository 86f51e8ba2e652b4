//! From the network to the helper.

use super::active::{Active, Caller, Watch};
use super::body::{Body, passed_on};
use super::compress;
use super::link::{Link, MAX_BUFFER_BYTES, MAX_HEAD_BYTES};
use super::message::{self, Packing};
use super::seldom::Seldom;
use super::tcp::{self, Wire};
use crate::transport::Fingerprint;
use crate::transport::protocol::{FROM_KEY, FROM_PEER, FROM_STRANGER, PAIR, Problem};
use crate::transport::tls;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections at once. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;

/// What a request's head may take to arrive; also how long a connection may stand without one.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// What a stranger may take in all. It has one thing to say.
const STRANGERS_PATIENCE: Duration = Duration::from_secs(30);

/// What a stranger may say.
const STRANGERS_BODY: usize = 16 << 10;

/// What an answer that is under way may still take when a connection has to end, for it may be the answer to what ends it.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// Where there is nothing left to accept connections with, before it is tried again. The kernel has no event for that.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whoever can connect can make these lines.
static FAILED: LazyLock<Seldom> = LazyLock::new(Seldom::default);

/// Lets peers in and passes on what they ask, for ever.
pub async fn serve(listener: TcpListener, active: Watch, helper: PathBuf) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let helper: Arc<Path> = helper.into();
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, active.clone(), Arc::clone(&helper), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, mut active: Watch, helper: Arc<Path>, _permit: OwnedSemaphorePermit) {
    let from = stream.peer_addr().map_or_else(|_| "somewhere".to_owned(), |address| address.to_string());
    let now = Arc::clone(&active.borrow_and_update());
    let (stream, key) = match let_in(stream, &now).await {
        Ok(let_in) => let_in,
        Err(error) => {
            FAILED.tell(Instant::now(), |others| {
                tracing::info!(from, %error, others, "a connection came to nothing");
            });
            return;
        }
    };
    // The configuration may have changed during the handshake.
    let now = Arc::clone(&active.borrow_and_update());
    let Some(caller) = now.caller(&key) else { return };
    tracing::debug!(from, ?caller, "connected");
    let is_stranger = caller == Caller::Stranger;
    let seat = Arc::new(Seat { caller, key, helper, link: Mutex::new(None) });
    let serve = speak(stream, Arc::clone(&seat), active);
    match is_stranger {
        // What it did not manage to say by then is not waited for.
        true => drop(timeout(STRANGERS_PATIENCE, serve).await),
        false => serve.await,
    }
}

/// The handshake; whose key the caller has.
async fn let_in(stream: TcpStream, active: &Active) -> io::Result<(TlsStream<Wire>, Fingerprint)> {
    let handshake = TlsAcceptor::from(active.server()).accept(tcp::prepared(stream)?);
    let stream = timeout(tcp::HANDSHAKE, handshake).await??;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    // The verifier has let none in without.
    let certificate = certificates.first().ok_or_else(|| io::Error::other("no certificate"))?;
    let key = tls::fingerprint(certificate).map_err(io::Error::other)?;
    Ok((stream, key))
}

/// Answers requests until the caller has no more, or is not to be heard any longer.
async fn speak(stream: TlsStream<Wire>, seat: Arc<Seat>, mut active: Watch) {
    let of_service = Arc::clone(&seat);
    let service = service_fn(move |request| {
        let seat = Arc::clone(&of_service);
        async move { Ok::<_, Infallible>(seat.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            changed = active.changed() => {
                let now = Arc::clone(&active.borrow_and_update());
                match seat.standing(&now) {
                    _ if changed.is_err() => return,
                    Standing::Stays => {}
                    Standing::Ends => break,
                    Standing::IsGone => return,
                }
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, connection).await;
}

/// One connection's caller, and the way on to the helper.
struct Seat {
    caller: Caller,
    key: Fingerprint,
    helper: Arc<Path>,
    link: Mutex<Option<Link>>,
}

/// What a new configuration means for a connection that stands.
enum Standing {
    Stays,
    /// It ends with the answer that is under way.
    Ends,
    /// It ends now.
    IsGone,
}

impl Seat {
    fn standing(&self, now: &Active) -> Standing {
        match &self.caller {
            _ if now.caller(&self.key).as_ref() == Some(&self.caller) => Standing::Stays,
            Caller::Peer(name) if now.peer(name.as_str()).is_none() => Standing::IsGone,
            // It has another key now, or it was a stranger and has been paired.
            _ => Standing::Ends,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.pass_on(request).await {
            Ok(response) => response,
            Err((status, problem)) => {
                tracing::info!(caller = ?self.caller, what = problem.what, why = ?problem.why, "not passed on");
                message::answer(status, &problem)
            }
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>, (StatusCode, Problem)> {
        let takes_packed = message::takes_packed(request.headers());
        let request = self.checked(request)?;
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            let problem = Problem::new("transshipd of the other host does not answer")
                .because(error)
                .remedy("look at its log there");
            (StatusCode::SERVICE_UNAVAILABLE, problem)
        };
        let mut kept = self.link.lock().await;
        let reusable = match kept.take() {
            Some(link) => link.reusable().await,
            None => None,
        };
        let mut link = match reusable {
            Some(link) => link,
            None => {
                let stream = UnixStream::connect(&self.helper).await.map_err(|error| unreachable(&error))?;
                Link::over(stream).await.map_err(|error| unreachable(&error))?
            }
        };
        let response = link.send(request).await.map_err(|error| unreachable(&error))?;
        *kept = Some(link);
        drop(kept);
        let (mut head, body) = response.into_parts();
        message::clean(&mut head.headers);
        let body = passed_on(body);
        let is_packed = takes_packed && message::is_binary(&head.headers) && head.status.is_success();
        if !is_packed {
            return Ok(Response::from_parts(head, body));
        }
        message::set_packed(&mut head.headers);
        Ok(Response::from_parts(head, compress::compressed(body, compress::Level::Fast)))
    }

    /// The request as the helper gets it, where the caller may ask for it.
    fn checked(&self, request: Request<Incoming>) -> Result<Request<Body>, (StatusCode, Problem)> {
        let (mut head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return Err((StatusCode::METHOD_NOT_ALLOWED, Problem::new("this is no proxy")));
        }
        head.uri = message::local_uri(&head.uri);
        message::clean_request(&mut head.headers);
        let packing = message::packing(&head.headers);
        let (name, value) = match &self.caller {
            Caller::Peer(name) => (FROM_PEER, name.to_string()),
            Caller::Stranger if head.method == Method::POST && head.uri == PAIR && packing == Packing::Plain => {
                (FROM_STRANGER, self.key.to_string())
            }
            Caller::Stranger => {
                let problem = Problem::new("a host that is not paired may only ask to be")
                    .remedy("pair the two hosts: transship peer invite, and transship peer join there");
                return Err((StatusCode::FORBIDDEN, problem));
            }
        };
        for (name, value) in [(name, value), (FROM_KEY, self.key.to_string())] {
            let value = HeaderValue::try_from(value);
            let value = value.map_err(|error| (StatusCode::BAD_REQUEST, Problem::new("bad name").because(&error)))?;
            head.headers.insert(name, value);
        }
        let body = match (packing, &self.caller) {
            (Packing::Plain, Caller::Stranger) => {
                Limited::new(body, STRANGERS_BODY).map_err(io::Error::other).boxed_unsync()
            }
            (Packing::Plain, Caller::Peer(_)) => passed_on(body),
            (Packing::Zstd, _) => {
                message::set_unpacked(&mut head.headers);
                compress::decompressed(passed_on(body))
            }
            (Packing::Other, _) => {
                let problem = Problem::new("the body is packed in a way that is not spoken here: only zstd is");
                return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
            }
        };
        Ok(Request::from_parts(head, body))
    }
}
