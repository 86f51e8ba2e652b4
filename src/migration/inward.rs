//! What a source asks of its destination, and a destination of its source.

use super::destination::memory::Part;
use super::destination::{intake, memory};
use crate::failure::Failure;
use crate::handover::{Departure, Request};
use crate::migration::evacuate::room::{self, Room};
use crate::migration::homecoming::asked;
use crate::migration::words::{
    Here, Layers, LayersThere, Offer, Prepared, Pull, Pulled, Sealed, Standing, Synced, Welcome,
};
use crate::migration::{destination, source};
use crate::operations::answering::{Asks, apart, problem, refusal};
use crate::pager::words::Question;
use crate::process;
use crate::store::CheckpointId;
use crate::transport::caller::Refusal;
use crate::world::sending_back::SendingBack;
use crate::world::visits::{self, Word};
use crate::world::{Context, World};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::Read;
use std::sync::Arc;
use tokio_stream::StreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// An offer holds what Docker says of containers, and manifests list their files.
const LARGEST_QUESTION: usize = 64 << 20;

/// The routes.
pub fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/v1/room", get(room))
        .route("/v1/arrivals/{id}/expect", post(expect))
        .route("/v1/arrivals/{id}/pull", post(pull))
        .route("/v1/arrivals/{id}/layers", post(layers))
        .route("/v1/arrivals/{id}/prepare", post(prepare))
        .route("/v1/arrivals/{id}/restore", post(restore))
        .route("/v1/arrivals/{id}/commit", post(commit))
        .route("/v1/arrivals/{id}/drop", post(give_up))
        .route("/v1/arrivals/{id}/sync", post(sync))
        .route("/v1/arrivals/{id}/standing", get(standing))
        .route("/v1/departures/{id}/standing", get(departure))
        .route("/v1/departures/{id}/pages", post(pages_of_departure))
        .route("/v1/arrivals/{id}/return", post(send_back).get(sending_back))
        .route("/v1/arrivals/{id}/keep", post(keep))
        .layer(DefaultBodyLimit::max(LARGEST_QUESTION))
        // Streams, which are written where they belong as they come.
        .route("/v1/arrivals/{id}/image", put(image))
        .route("/v1/arrivals/{id}/memory", put(pages).get(pages_here))
        .route("/v1/arrivals/{id}/pages/{checkpoint}/{*path}", put(part).get(part_here))
        .route("/v1/arrivals/{id}/files/{checkpoint}/{*path}", put(file).get(here))
}

type Answer<T> = Result<Json<T>, Refusal>;

async fn room(Asks { context, peer }: Asks) -> Answer<Room> {
    apart(move || room::for_peer(&context, &peer)).await.map(Json)
}

async fn expect(at: At, body: Bytes) -> Answer<Welcome> {
    let offer: Offer = read(&body)?;
    at.answer(move |context, peer, id| destination::expect(context, peer, id, &offer)).await
}

async fn pull(at: At, body: Bytes) -> Answer<Pulled> {
    let question: Pull = read(&body)?;
    at.answer(move |context, peer, id| destination::pull::pull(context, (peer, id), question)).await
}

async fn prepare(at: At, body: Bytes) -> Answer<Prepared> {
    let offer: Offer = read(&body)?;
    at.answer(move |context, peer, id| destination::prepare(context, peer, id, offer)).await
}

async fn restore(at: At, body: Bytes) -> Answer<Standing> {
    let Sealed { manifests } = read(&body)?;
    at.say(Word::Restore(manifests)).await
}

async fn commit(at: At) -> Answer<Standing> {
    at.say(Word::Handover(Request::Commit)).await
}

async fn give_up(at: At) -> Answer<Standing> {
    at.say(Word::Handover(Request::Drop)).await
}

async fn sync(at: At) -> Answer<Synced> {
    at.answer(|context, peer, id| {
        destination::sync(context, peer, id).map(|is_whole| Synced { boot: process::boot(), is_whole })
    })
    .await
}

async fn standing(at: At) -> Answer<Standing> {
    at.answer(|context, peer, id| destination::standing(context, peer, id).map(as_told)).await
}

async fn departure(at: At) -> Answer<Option<Departure>> {
    at.answer(source::standing).await
}

async fn send_back(at: At) -> Answer<SendingBack> {
    at.answer(asked::begin).await
}

async fn sending_back(at: At) -> Answer<SendingBack> {
    at.answer(asked::standing).await
}

async fn keep(at: At) -> Answer<SendingBack> {
    at.answer(asked::keep).await
}

async fn pages_of_departure(at: At, body: Bytes) -> Result<Response, Refusal> {
    let question: Question = read(&body)?;
    let Json(pages) = at.answer(move |context, peer, id| source::pages(context, peer, id, &question)).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], pages).into_response())
}

async fn layers(at: At, body: Bytes) -> Answer<LayersThere> {
    let Layers { layers } = read(&body)?;
    at.answer(move |context, peer, _| intake::layers_there(context, peer, &layers)).await
}

async fn image(at: At, uri: Uri, body: Body) -> Answer<Value> {
    let image = uri.query().and_then(|query| query.strip_prefix("of=")).map(str::to_owned);
    let image = image.ok_or_else(|| refusal(Failure::usage("an image without its id")))?;
    let bytes = reader(body);
    let take = move |context: &Context, peer: &str, id: &CheckpointId| {
        intake::take_image(context, (peer, id), &image, bytes).map(|()| json!({}))
    };
    at.answer(take).await
}

async fn file(
    at: At,
    Path((_, checkpoint, path)): Path<(String, String, String)>,
    uri: Uri,
    body: Body,
) -> Answer<Value> {
    // Not by `Content-Length`: a body that is compressed on the way has none.
    let part = uri.query().and_then(|query| query.strip_prefix("from=")?.split_once("&length="));
    let part = part.and_then(|(from, length)| Some((from.parse().ok()?, length.parse().ok()?)));
    let part = part.ok_or_else(|| refusal(Failure::usage("a file of which it is not said which part comes")))?;
    let checkpoint = named(&checkpoint)?;
    let mut bytes = reader(body);
    let keep = move |context: &Context, peer: &str, id: &CheckpointId| {
        intake::keep_file(context, (peer, id), (&checkpoint, &path), part, &mut bytes).map(|()| json!({}))
    };
    at.answer(keep).await
}

async fn here(at: At, Path((_, checkpoint, path)): Path<(String, String, String)>) -> Answer<Here> {
    let checkpoint = named(&checkpoint)?;
    at.answer(move |context, peer, id| intake::here(context, (peer, id), (&checkpoint, &path))).await
}

async fn pages(at: At, uri: Uri, body: Body) -> Answer<Value> {
    let number = body_of(&uri)?;
    let mut bytes = reader(body);
    let keep = move |context: &Context, peer: &str, id: &CheckpointId| {
        memory::keep_pages(context, (peer, id), number, &mut bytes).map(|()| json!({}))
    };
    at.answer(keep).await
}

async fn pages_here(at: At, uri: Uri) -> Answer<Here> {
    let number = body_of(&uri)?;
    at.answer(move |context, peer, id| memory::pages_here(context, (peer, id), number)).await
}

fn body_of(uri: &Uri) -> Result<u64, Refusal> {
    let number = memory::body(uri.query().unwrap_or_default());
    number.ok_or_else(|| refusal(Failure::usage("pages of which it is not said as which body they come")))
}

async fn part(
    at: At,
    Path((_, checkpoint, path)): Path<(String, String, String)>,
    uri: Uri,
    body: Body,
) -> Answer<Value> {
    let part = Part::read(uri.query().unwrap_or_default());
    let part = part.ok_or_else(|| refusal(Failure::usage("an image of which it is not said which part comes")))?;
    let checkpoint = named(&checkpoint)?;
    let mut bytes = reader(body);
    let keep = move |context: &Context, peer: &str, id: &CheckpointId| {
        memory::keep_part(context, (peer, id), (&checkpoint, &path), part, &mut bytes).map(|()| json!({}))
    };
    at.answer(keep).await
}

async fn part_here(at: At, Path((_, checkpoint, path)): Path<(String, String, String)>, uri: Uri) -> Answer<Here> {
    let (number, checkpoint) = (body_of(&uri)?, named(&checkpoint)?);
    at.answer(move |context, peer, id| memory::part_here(context, (peer, id), (&checkpoint, &path), number)).await
}

fn named(checkpoint: &str) -> Result<CheckpointId, Refusal> {
    checkpoint.parse().map_err(|_| refusal(Failure::usage("the path names no checkpoint")))
}

/// The body, for a thread that may wait.
fn reader(body: Body) -> impl Read + Send + 'static {
    let stream = body.into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other));
    SyncIoBridge::new(StreamReader::new(stream))
}

/// Who asks, and about which migration.
struct At {
    context: Context,
    peer: String,
    id: CheckpointId,
}

impl axum::extract::FromRequestParts<Arc<World>> for At {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, world: &Arc<World>) -> Result<Self, Refusal> {
        let Asks { context, peer } = Asks::from_request_parts(parts, world).await?;
        let malformed = || refusal(Failure::usage("the path names no migration"));
        let id = parts.uri.path().split('/').nth(3).and_then(|id| id.parse().ok()).ok_or_else(malformed)?;
        Ok(Self { context, peer, id })
    }
}

impl At {
    /// With what it comes to.
    async fn answer<T: Send + 'static>(
        self,
        act: impl FnOnce(&Context, &str, &CheckpointId) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        apart(move || act(&self.context, &self.peer, &self.id)).await.map(Json)
    }

    async fn say(self, word: Word) -> Answer<Standing> {
        self.answer(move |context, peer, id| destination::say(context, peer, id, word).map(as_told)).await
    }
}

fn as_told(standing: visits::Standing) -> Standing {
    let problem = standing.failure.map(problem);
    Standing {
        arrival: standing.arrival,
        containers: standing.containers,
        boot: process::boot(),
        problem,
        follows: standing.follows,
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let unreadable = Failure::usage("the question cannot be read").because(&error);
        refusal(unreadable.remedy("bring transship to the same version on both hosts"))
    })
}
