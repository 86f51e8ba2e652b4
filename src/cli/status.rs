//! `transship status`

use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;
use std::time::Duration;

/// Say what is frozen, what is going on, and what waits for a person
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Say it again every second, until interrupted.
    #[arg(long)]
    watch: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Status)
    }

    fn tell(&self, answer: &Value) -> String {
        let mut out = format!("interposer: {}\n", text(answer, "interposer"));
        for frozen in list(answer, "frozen") {
            let (container, checkpoint) = (text(frozen, "container"), text(frozen, "checkpoint"));
            out.push_str(&match frozen["departed_to"].as_str() {
                Some(peer) => format!("moved: {container} to {peer}; what is left of it here is checkpoint {checkpoint}\n"),
                None => format!(
                    "frozen: {container} in checkpoint {checkpoint}; bring it back with: transship restore {container}\n"
                ),
            });
        }
        for operation in list(answer, "operations") {
            out.push_str(&format!(
                "operation {}: {} of {}: {} at {}, since {}\n",
                operation["id"],
                text(operation, "kind"),
                text(operation, "subject"),
                text(operation, "phase"),
                text(operation, "step"),
                text(operation, "since").get(..19).unwrap_or("-")
            ));
            if let Some(what) = operation["failure"]["what"].as_str() {
                out.push_str(&format!("  {what}; try again: transship resume {}\n", operation["id"]));
            }
            let choices: Vec<_> = list(operation, "decisions").filter_map(Value::as_str).collect();
            if !choices.is_empty() {
                let number = &operation["id"];
                out.push_str(&format!(
                    "  decide without the other host: transship decide {number} {}\n",
                    choices.join("|")
                ));
            }
        }
        out
    }

    fn again_after(&self) -> Option<Duration> {
        self.watch.then_some(Duration::from_secs(1))
    }
}
