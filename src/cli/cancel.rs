//! `transship cancel`

use super::{Ask, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// End an operation before it has committed, and undo it
///
/// A container that stands still for it runs on where it stood, within a second; while CRIU writes its memory out, when
/// that is done. What has committed goes on to its end, and is refused here. Migrations, checkpoints and upgrades can be
/// cancelled; migrations on the host that the container leaves.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The operation's number; see `transship status`.
    operation: i64,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Cancel { operation: self.operation })
    }

    fn tell(&self, answer: &Value) -> String {
        format!("operation {} ({}) was cancelled and is undone\n", answer["operation"], text(answer, "subject"))
    }
}
