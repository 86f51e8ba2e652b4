//! `transship push`

use super::{Ask, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Bring a checkpoint to a peer, which fetches what it lacks
///
/// Blocks that another checkpoint of the same container or of the same image has there do not travel. The image goes along
/// where the peer lacks it. It can be restored there: transship restore ID --name NAME
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The checkpoint: its id or name, or a container's name for its newest.
    checkpoint: String,
    /// The peer; see `transship peer ls`.
    #[arg(long)]
    to: String,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Push { reference: self.checkpoint.clone(), to: self.to.clone() })
    }

    fn tell(&self, answer: &Value) -> String {
        format!("checkpoint {} of {} is on {}\n", text(answer, "id"), text(answer, "container"), text(answer, "peer"))
    }
}
