//! What peers ask of this host, as the port passes it on.
//!
//! What is asked for here has been through the port: it is clean HTTP, and says whose it is in headers that nobody but the
//! port can set. That it *is* the port the kernel says. Routes come from the rooms that answer them; here is only the door.

use super::port;
use crate::transport::caller::{Caller, CallerKey, Refusal};
use crate::transport::client::HELPER_SOCKET;
use crate::transport::protocol::{PAIR, Problem};
use crate::world::World;
use crate::{migration, pairing, shipping};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// Where there is nothing left to accept connections with, before it is tried again. The kernel has no event for that.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Makes the socket that the port passes requests on to: for root and the port's group.
pub fn listen() -> io::Result<FromPort> {
    use std::os::unix::fs::PermissionsExt;
    let path = Path::new(HELPER_SOCKET);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (uid, group) = port::user();
    let listener = UnixListener::bind(path)?;
    nix::unistd::chown(path, None, Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(FromPort { listener, uid: uid.as_raw() })
}

/// Answers until `stop` resolves, then lets requests that are under way end.
pub async fn serve(
    listener: FromPort,
    world: Arc<World>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, routes(world)).with_graceful_shutdown(stop).await
}

/// Everything that peers may ask for.
fn routes(world: Arc<World>) -> Router {
    Router::new()
        .merge(pairing::inward::routes())
        .merge(migration::inward::routes())
        .merge(shipping::inward::routes())
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "this version of transship does not know the request") })
        .layer(from_fn_with_state(Arc::clone(&world), door))
        .with_state(world)
}

/// Strangers reach the pairing alone, whatever a route says. A peer that uses its new key has no other from now on.
async fn door(State(world): State<Arc<World>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &world).await;
    let key = CallerKey::from_request_parts(&mut parts, &world).await;
    match (caller, key) {
        (Ok(caller), Ok(key)) => {
            let used = move || world.peers.used(caller.0.as_str(), &key.0);
            match tokio::task::spawn_blocking(used).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a peer's new key cannot be noted"),
                Err(error) => tracing::error!(%error, "a fault in transshipd itself"),
            }
        }
        (Err(_), Ok(_)) if path == PAIR => {}
        (Err(refusal), _) | (_, Err(refusal)) => return refusal.into_response(),
    }
    next.run(Request::from_parts(parts, body)).await
}

fn refusal(status: StatusCode, what: &str) -> Refusal {
    (status, Json(Problem::new(what).remedy("bring transship to the same version on both hosts")))
}

/// The socket's connections, without those that are not the port's.
pub struct FromPort {
    listener: UnixListener,
    uid: u32,
}

impl axum::serve::Listener for FromPort {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) if self.is_ports(&stream) => return (stream, address),
                Ok(_) => tracing::warn!("somebody else than the port has asked, and is not answered"),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection of the port's");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl FromPort {
    fn is_ports(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|other| other.uid() == 0 || other.uid() == self.uid)
    }
}
