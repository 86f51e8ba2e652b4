//! `transship pull`

use super::render::bytes;
use super::{Ask, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Fetch a checkpoint that a peer shares with this host
///
/// Blocks that another checkpoint of the same container or of the same image has here do not travel.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The checkpoint, as `transship ls --from PEER` has it: its id or name, or a container's name for its newest.
    checkpoint: String,
    /// The peer; see `transship peer ls`.
    #[arg(long)]
    from: String,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Pull { reference: self.checkpoint.clone(), from: self.from.clone() })
    }

    fn tell(&self, answer: &Value) -> String {
        let (id, container) = (text(answer, "id"), text(answer, "container"));
        let (all, sent) = (bytes(&answer["bytes"]), bytes(&answer["sent_bytes"]));
        format!(
            "checkpoint {id} of {container} is here ({sent} of {all} sent); restore it with: transship restore {id} --name NAME\n"
        )
    }
}
