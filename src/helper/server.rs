//! The local socket: who may connect, what they asked, one answer stream each.

use super::dispatch::Dispatcher;
use super::metrics;
use super::protocol::{Message, Request};
use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::net::unix::UCred;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// A request names containers and files; more than this is not one.
const LARGEST_REQUEST: usize = 1 << 20;

/// The group whose members may ask the helper for anything, as Docker's own group may ask dockerd.
pub const GROUP: &str = "transship";

/// Who is at the other end, as the kernel says (`SO_PEERCRED`).
#[derive(Debug, Clone)]
pub struct Peer(Option<UCred>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok())
    }
}

impl Peer {
    /// User and pid in one word for logs and the journal.
    fn describe(&self) -> String {
        let Some(credentials) = &self.0 else { return "unknown".into() };
        let uid = credentials.uid();
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
        let user = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
        let pid = credentials.pid().map_or_else(String::new, |pid| format!(" (pid {pid})"));
        format!("{user}{pid}")
    }
}

/// Makes the socket: root and the group may connect, nobody else.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody can connect between `bind` and `chmod`: the mask leaves the owner alone.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(mask);
    let listener = listener?;
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        nix::unistd::chown(path, None, Some(group.gid))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    }
    Ok(listener)
}

/// Serves until `stop` resolves, then lets requests that are under way end.
pub async fn serve(
    listener: UnixListener,
    dispatcher: Arc<Dispatcher>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/v1/operations", post(ask))
        .route("/v1/metrics", get(figures))
        .with_state(dispatcher)
        .layer(axum::extract::DefaultBodyLimit::max(LARGEST_REQUEST));
    axum::serve(listener, routes.into_make_service_with_connect_info::<Peer>()).with_graceful_shutdown(stop).await
}

async fn figures(State(dispatcher): State<Arc<Dispatcher>>) -> Response {
    metrics::answer(dispatcher.world()).await
}

async fn ask(
    State(dispatcher): State<Arc<Dispatcher>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: String,
) -> Response {
    let peer = peer.describe();
    let request: Request = match serde_json::from_str(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(peer, %error, "request refused");
            return (StatusCode::BAD_REQUEST, format!("not a request of this version: {error}\n")).into_response();
        }
    };
    tracing::info!(peer, ?request, "request");
    let messages = UnboundedReceiverStream::new(dispatcher.begin(request, peer));
    let lines = messages.map(|message| Ok::<_, Infallible>(line(&message)));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(message: &Message) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
