//! `transship rm`

use super::{Ask, list};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Delete checkpoints
///
/// The checkpoint of a container that is frozen now is its only copy; it is deleted only with --force, which
/// abandons the frozen state: `docker start` then starts the container afresh.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Checkpoints by id or name.
    #[arg(required = true)]
    checkpoints: Vec<String>,
    /// Also where it is a frozen container's only copy.
    #[arg(long)]
    force: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Remove { references: self.checkpoints.clone(), force: self.force })
    }

    fn tell(&self, answer: &Value) -> String {
        list(answer, "removed").filter_map(Value::as_str).map(|id| format!("{id}\n")).collect()
    }
}
