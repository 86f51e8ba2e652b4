//! `transship share`

use super::{Ask, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Let a peer fetch a checkpoint of this host's
///
/// The checkpoint is not compressed while it is shared.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The checkpoint: its id or name, or a container's name for its newest.
    checkpoint: String,
    /// The peer; see `transship peer ls`.
    #[arg(long = "with", value_name = "PEER")]
    with: String,
    /// Let it no longer.
    #[arg(long)]
    end: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Share { reference: self.checkpoint.clone(), with: self.with.clone(), ends: self.end })
    }

    fn tell(&self, answer: &Value) -> String {
        let may = if answer["shared"] == true { "may fetch" } else { "may not fetch any more" };
        format!("{} {may} checkpoint {}\n", text(answer, "peer"), text(answer, "id"))
    }
}
