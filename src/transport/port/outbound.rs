//! From the helper to the network.

use super::active::{Active, Watch};
use super::body::{Body, passed_on};
use super::errand::{Errand, Target};
use super::link::{Link, MAX_BUFFER_BYTES, MAX_HEAD_BYTES};
use super::message::{self, Packing};
use super::throttle::{Buckets, Way, throttled};
use super::{call, compress, stall};
use crate::transport::protocol::{BY_PORT, Problem};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::time::sleep;

/// Where there is nothing left to accept connections with, before it is tried again. The kernel has no event for that.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes what the helper asks to the peers that it is for, for ever.
pub async fn serve(listener: UnixListener, active: Watch) {
    let buckets = Arc::new(Buckets::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_the_helper(&stream) => {
                tokio::spawn(connection(stream, active.clone(), Arc::clone(&buckets)));
            }
            Ok(_) => tracing::warn!("somebody else than the helper has asked, and is not answered"),
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The helper is root. Where this process has not been able to give privileges up, both are the same user.
fn is_the_helper(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|other| other.uid() == 0 || other.uid() == own)
}

/// One connection of the helper's carries one to a peer, and ends with it.
async fn connection(stream: UnixStream, mut active: Watch, buckets: Arc<Buckets>) {
    let (held, called) = Default::default();
    let seat = Arc::new(Seat { active: active.clone(), buckets, held, called });
    let of_service = Arc::clone(&seat);
    let service = service_fn(move |request| {
        let seat = Arc::clone(&of_service);
        async move { Ok::<_, Infallible>(seat.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // The helper closes what it does not need.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            changed = active.changed() => {
                let now = Arc::clone(&active.borrow_and_update());
                if changed.is_err() || seat.has_lost_its_peer(&now) {
                    return;
                }
            }
        }
    }
}

/// One connection of the helper's, and the one to a peer that it carries.
struct Seat {
    active: Watch,
    /// How fast what goes over all of them may go.
    buckets: Arc<Buckets>,
    held: Mutex<Option<(Target, Link)>>,
    /// Whoever was called last.
    called: std::sync::Mutex<Option<Target>>,
}

impl Seat {
    /// Whether the peer that this connection leads to has been removed.
    fn has_lost_its_peer(&self, now: &Active) -> bool {
        let called = self.called.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        matches!(&*called, Some(Target::Peer(name)) if now.peer(name).is_none())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.pass_on(request).await {
            Ok(response) => response,
            Err(fault) => {
                let (status, problem) = fault.told();
                let mut answer = message::answer(status, &problem);
                answer.headers_mut().insert(BY_PORT, HeaderValue::from_static("1"));
                answer
            }
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
        let errand = Errand::of(request.headers());
        let errand = errand.map_err(|error| Problem::new("the request cannot be passed on").because(&error))?;
        let request = packed_for(&errand, request, &self.buckets)?;
        let mut held = self.held.lock().await;
        let reusable = match held.take() {
            Some((target, link)) if target == errand.target => link.reusable().await,
            _ => None,
        };
        let mut link = match reusable {
            Some(link) => link,
            None => {
                *self.called.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(errand.target.clone());
                let active = Arc::clone(&self.active.borrow());
                call::connect(&active, &errand.target).await?
            }
        };
        let (head, body) = request.into_parts();
        let (body, progress) = stall::watched(body);
        let sent = link.send(Request::from_parts(head, body));
        let response = match errand.patience {
            // Giving up drops the link, and with it the connection.
            Some(patience) => tokio::select! {
                response = sent => response,
                () = stall::stalled(progress, patience) => return Err(Fault::Stuck(stuck(&errand.target))),
            },
            None => sent.await,
        };
        let response = response.map_err(|error| lost(&errand.target, &error))?;
        *held = Some((errand.target.clone(), link));
        drop(held);
        Ok(unpacked_for(&errand, response, &self.buckets)?)
    }
}

/// Why a request was not answered by who it is for.
enum Fault {
    /// It could not be passed on, or the connection was lost.
    Broken(Problem),
    /// Nothing of it goes.
    Stuck(Problem),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self::Broken(problem)
    }
}

impl Fault {
    fn told(self) -> (StatusCode, Problem) {
        match self {
            Self::Broken(problem) => (StatusCode::BAD_GATEWAY, problem),
            Self::Stuck(problem) => (StatusCode::GATEWAY_TIMEOUT, problem),
        }
    }
}

/// The request as the peer's port gets it.
fn packed_for(errand: &Errand, request: Request<Incoming>, buckets: &Buckets) -> Result<Request<Body>, Problem> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return Err(Problem::new("this is no proxy"));
    }
    let is_empty = hyper::body::Body::is_end_stream(&body);
    head.uri = message::local_uri(&head.uri);
    message::clean_request(&mut head.headers);
    let mut body = passed_on(body);
    if let Some(level) = errand.compress {
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(message::ZSTD));
        if !is_empty {
            message::set_packed(&mut head.headers);
            body = compress::compressed(body, level);
        }
    }
    if let Some(rate) = errand.rate {
        body = throttled(body, rate, buckets.of(errand.flow, Way::There));
    }
    Ok(Request::from_parts(head, body))
}

/// The answer as the helper gets it.
fn unpacked_for(errand: &Errand, response: Response<Incoming>, buckets: &Buckets) -> Result<Response<Body>, Problem> {
    let (mut head, body) = response.into_parts();
    message::clean(&mut head.headers);
    let mut body = passed_on(body);
    if let Some(rate) = errand.rate {
        body = throttled(body, rate, buckets.of(errand.flow, Way::Back));
    }
    match message::packing(&head.headers) {
        Packing::Plain => {}
        Packing::Zstd => {
            message::set_unpacked(&mut head.headers);
            body = compress::decompressed(body);
        }
        Packing::Other => return Err(Problem::new("the peer's answer is packed in a way that is not spoken here")),
    }
    Ok(Response::from_parts(head, body))
}

fn called(target: &Target) -> &str {
    match target {
        Target::Peer(name) => name.as_str(),
        Target::Host { .. } => "the host that invites",
    }
}

fn stuck(target: &Target) -> Problem {
    Problem::new(format!("what is sent to {} does not get on", called(target)))
        .remedy("look at the network between the two hosts, and at the other host's disk")
}

fn lost(target: &Target, error: &hyper::Error) -> Problem {
    let called = called(target);
    match call::is_refused(error) {
        true => Problem::new(format!("{called} does not let this host in"))
            .because(error)
            .remedy("it does not know this host's key: it has removed this host, or the invitation is not open any more; pair the two again"),
        false => Problem::new(format!("the connection to {called} was lost before it answered")).because(error),
    }
}
