//! What peers ask about peers: who is there, to be paired, and to be known by another key.

use super::own_name;
use crate::transport::book::{BookFault, Paired};
use crate::transport::caller::{Caller, CallerKey, Refusal};
use crate::transport::peers::PeersError;
use crate::transport::protocol::{
    HELLO, Hello, PAIR, PROTOCOL, PairAnswer, PairRequest, Problem, ROTATE, RotateRequest,
};
use crate::transport::token::{MAX_ADDRESSES, Secret};
use crate::transport::{Fingerprint, PeerName};
use crate::world::World;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// These questions are short.
const LARGEST_QUESTION: usize = 16 << 10;

/// The routes.
pub fn routes() -> Router<Arc<World>> {
    Router::new()
        .route(HELLO, get(hello))
        .route(PAIR, post(pair))
        .route(ROTATE, post(rotate))
        .layer(DefaultBodyLimit::max(LARGEST_QUESTION))
}

async fn hello(Caller(_): Caller) -> Json<Hello> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(Hello { protocol: PROTOCOL, version, name: own_name().to_string() })
}

async fn pair(
    State(world): State<Arc<World>>,
    CallerKey(key): CallerKey,
    body: Bytes,
) -> Result<Json<PairAnswer>, Refusal> {
    let request: PairRequest = read(&body)?;
    let name = apart(move || pair_with(&world, key, request)).await?;
    tracing::info!(%name, fingerprint = %key, "paired");
    Ok(Json(PairAnswer { name: own_name() }))
}

/// The invitation is used up, and the host in the book, or neither.
fn pair_with(world: &World, key: Fingerprint, request: PairRequest) -> Result<PeerName, Refusal> {
    if request.addresses.is_empty() || request.addresses.len() > MAX_ADDRESSES {
        return Err(refusal(StatusCode::BAD_REQUEST, Problem::new("a host without addresses, or with too many")));
    }
    let not_invited = || Problem::new(BookFault::NotInvited.to_string()).remedy("ask for another invitation");
    let secret = Secret::decode(&request.secret).ok_or_else(|| refusal(StatusCode::FORBIDDEN, not_invited()))?;
    let now = Timestamp::now();
    let paired = world.peers.change(|state| {
        let invitation = state.book.redeem(&secret, now)?;
        let paired = Paired {
            name: invitation.name.unwrap_or(request.name),
            fingerprint: key,
            addresses: request.addresses,
            knows: state.identity.fingerprint(),
        };
        Ok(state.book.add(paired, now)?)
    });
    let (name, number) = paired.map_err(|error| match error {
        PeersError::Refused(BookFault::NotInvited) => refusal(StatusCode::FORBIDDEN, not_invited()),
        error => broken(&error),
    })?;
    world.peers.wait_for_port(number).map_err(|error| broken(&error))?;
    Ok(name)
}

async fn rotate(State(world): State<Arc<World>>, Caller(name): Caller, body: Bytes) -> Result<Json<Value>, Refusal> {
    let RotateRequest { fingerprint } = read(&body)?;
    let announced = name.clone();
    apart(move || {
        let (is_taken_down, number) = world
            .peers
            .change(|state| Ok(state.book.announce(announced.as_str(), fingerprint)))
            .map_err(|error| broken(&error))?;
        if !is_taken_down {
            return Err(refusal(StatusCode::CONFLICT, Problem::new("another host has this key")));
        }
        world.peers.wait_for_port(number).map_err(|error| broken(&error))
    })
    .await?;
    tracing::info!(%name, %fingerprint, "a peer will have another key");
    Ok(Json(json!({})))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let problem = Problem::new("the question cannot be read").because(&error);
        refusal(StatusCode::BAD_REQUEST, problem.remedy("bring transship to the same version on both hosts"))
    })
}

/// On a thread that may wait: for the disk, and for the port.
async fn apart<T: Send + 'static>(act: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let broken = |error: tokio::task::JoinError| {
        tracing::error!(%error, "a fault in transshipd itself");
        refusal(StatusCode::INTERNAL_SERVER_ERROR, Problem::new("a fault in the other host's transshipd"))
    };
    tokio::task::spawn_blocking(act).await.map_err(broken)?
}

/// What is wrong on this host is in its own log; a caller is told no more than that.
fn broken(error: &PeersError) -> Refusal {
    tracing::error!(%error, "a peer's question could not be answered");
    let problem = Problem::new("the other host cannot do it now").remedy("look at transshipd's log there");
    refusal(StatusCode::INTERNAL_SERVER_ERROR, problem)
}

fn refusal(status: StatusCode, problem: Problem) -> Refusal {
    (status, Json(problem))
}
