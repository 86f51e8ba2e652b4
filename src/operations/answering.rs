//! What the doors for peers have in common: who asks, work on a thread that may wait, and how a failure is told.

use crate::failure::{Failure, Outcome};
use crate::transport::caller::{Caller, Refusal};
use crate::transport::protocol::Problem;
use crate::world::log::Log;
use crate::world::{Context, World};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::sync::Arc;

/// Who asks.
pub struct Asks {
    /// For what is done because of it; nobody watches that.
    pub context: Context,
    /// The peer's name.
    pub peer: String,
}

impl FromRequestParts<Arc<World>> for Asks {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, world: &Arc<World>) -> Result<Self, Refusal> {
        let Caller(peer) = Caller::from_request_parts(parts, world).await?;
        let State(world) =
            State::<Arc<World>>::from_request_parts(parts, world).await.unwrap_or_else(|never| match never {});
        Ok(Self { context: Context { world, told: Arc::new(Log) }, peer: peer.to_string() })
    }
}

/// On a thread that may wait: for the disk, for Docker, and for a container to be restored.
pub async fn apart<T: Send + 'static>(act: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Refusal> {
    let broken = |error: tokio::task::JoinError| {
        tracing::error!(%error, "a fault in transshipd itself");
        refusal(Failure::new("a fault in the other host's transshipd"))
    };
    tokio::task::spawn_blocking(act).await.map_err(broken)?.map_err(refusal)
}

/// A failure as a peer is told it.
pub fn problem(failure: Failure) -> Problem {
    let why = failure.why.into_iter().chain(failure.details).collect();
    Problem { what: failure.what, why, remedy: failure.remedy }
}

/// The answer that tells it.
pub fn refusal(failure: Failure) -> Refusal {
    let status = match failure.outcome {
        Outcome::Usage => StatusCode::BAD_REQUEST,
        Outcome::Refused => StatusCode::CONFLICT,
        Outcome::Failed | Outcome::NeedsPerson => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(problem(failure)))
}
