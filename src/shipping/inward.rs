//! What a peer asks about checkpoints: those that were shared with it, and one that it offers.

use super::words::{Shared, Standing, Way};
use super::{fetch, lend};
use crate::archive::blocks::{BlockDigest, MOST_BLOCKS};
use crate::failure::{Failure, OrFail};
use crate::operations::answering::{Asks, apart};
use crate::store::CheckpointId;
use crate::transport::caller::Refusal;
use crate::world::{Context, World};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;

/// The digests of all blocks that are remembered at most.
const LARGEST_QUESTION: usize = MOST_BLOCKS * BlockDigest::BYTES;

/// What goes out at once.
const PIECE: usize = 256 << 10;

/// How long who offers a checkpoint waits for it to be here, before it is told how far it is.
const A_WHILE: Duration = Duration::from_secs(1);

/// The routes.
pub fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/v1/shared", get(all))
        .route("/v1/shared/{id}/manifest", get(manifest))
        .route("/v1/shared/{id}/image", get(image))
        .route("/v1/shared/{id}/blocks/{number}", get(blocks))
        .route("/v1/shared/{id}/files/{number}/{from}", post(file))
        .route("/v1/offers/{id}", post(offer))
        .route("/v1/offers/{id}/drop", post(give_up))
        .layer(DefaultBodyLimit::max(LARGEST_QUESTION))
}

type Bytewise = Result<Box<dyn Read + Send>, Failure>;

async fn all(asks: Asks) -> Result<Json<Shared>, Refusal> {
    apart(move || lend::all(&asks.context, &asks.peer)).await.map(Json)
}

async fn manifest(asks: Asks, Path(id): Path<CheckpointId>) -> Result<Response, Refusal> {
    stream(move || lend::manifest(&asks.context, &asks.peer, &id)).await
}

async fn image(asks: Asks, Path(id): Path<CheckpointId>) -> Result<Response, Refusal> {
    stream(move || lend::image(&asks.context, &asks.peer, &id)).await
}

async fn blocks(asks: Asks, Path((id, number)): Path<(CheckpointId, usize)>) -> Result<Response, Refusal> {
    stream(move || lend::blocks(&asks.context, &asks.peer, &id, number)).await
}

async fn file(
    asks: Asks,
    Path((id, number, from)): Path<(CheckpointId, usize, u64)>,
    known: Bytes,
) -> Result<Response, Refusal> {
    stream(move || lend::file(&asks.context, &asks.peer, &id, (number, from), &known)).await
}

async fn offer(asks: Asks, Path(id): Path<CheckpointId>, way: Json<Way>) -> Result<Json<Standing>, Refusal> {
    apart(move || take(&asks.context, &asks.peer, &id, *way)).await.map(Json)
}

/// Begins to fetch what is offered, unless that is under way; how far it is after a while.
fn take(context: &Context, peer: &str, id: &CheckpointId, way: Way) -> Result<Standing, Failure> {
    let known = context.peers.peer(peer).or_fail(|| "the book of peers cannot be read".into())?;
    if !known.is_some_and(|known| known.permissions.accepts_checkpoints) {
        return Err(Failure::refused("this host takes no checkpoints from there")
            .remedy("allow it on the host that it is to go to: transship peer allow NAME --checkpoints yes"));
    }
    let fetching = fetch::begin(context, (peer, way), id)?;
    match fetching.ending.wait(A_WHILE) {
        Some(Ok(())) => Ok(Standing::Here),
        Some(Err(failure)) => Err(failure),
        None => Ok(Standing::UnderWay {
            done: fetching.done.load(Ordering::Relaxed),
            total: fetching.total.load(Ordering::Relaxed),
        }),
    }
}

/// What a peer offers no longer ends where it is; what is here in whole stays.
async fn give_up(asks: Asks, Path(id): Path<CheckpointId>) -> Json<Value> {
    if let Some(fetching) = asks.context.fetches.get(&id).filter(|fetching| fetching.peer == asks.peer) {
        fetching.is_unwanted.store(true, Ordering::Relaxed);
    }
    Json(json!({}))
}

/// Answers with bytes as a thread reads them. Where reading fails the answer breaks off, and never ends early.
async fn stream(open: impl FnOnce() -> Bytewise + Send + 'static) -> Result<Response, Refusal> {
    let mut bytes = apart(open).await?;
    let (pieces, body) = tokio::sync::mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let read = fill(&mut *bytes, &mut piece);
            let is_last = !matches!(read, Ok(PIECE));
            let read = read.map(|count| {
                piece.truncate(count);
                Bytes::from(piece)
            });
            if pieces.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Body::from_stream(ReceiverStream::new(body))).into_response())
}

/// Reads until the piece is full or the input ends.
fn fill(bytes: &mut dyn Read, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < piece.len() {
        match bytes.read(&mut piece[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
