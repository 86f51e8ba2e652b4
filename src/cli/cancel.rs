//! `transship cancel`

use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// End an operation before it has committed, and undo it
///
/// A container that stands still for it runs on where it stood, within a second; while CRIU writes its memory out, when
/// that is done. What has committed goes on to its end, and is refused here. Migrations, checkpoints and upgrades can be
/// cancelled; migrations on the host that the container leaves. Of an evacuation or a return what has moved by then stays
/// where it has come to, what is under way ends as a migration does that is cancelled, and nothing else is begun.
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
        let (operation, subject) = (&answer["operation"], text(answer, "subject"));
        let names = |key: &str| list(answer, key).filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        match (names("moved"), names("stays")) {
            (_, stays) if stays.is_empty() => {
                format!("operation {operation} ({subject}) was cancelled and is undone\n")
            }
            (moved, stays) if moved.is_empty() => {
                format!("operation {operation} ({subject}) was cancelled; {stays} runs where it was\n")
            }
            (moved, stays) => {
                format!(
                    "operation {operation} ({subject}) was cancelled; {moved} has moved, {stays} runs where it was\n"
                )
            }
        }
    }
}
