//! `transship ls`

use super::render::{bytes, table};
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// List checkpoints, of this host or those that a peer shares with it
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The peer; see `transship peer ls`.
    #[arg(long, value_name = "PEER")]
    from: Option<String>,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::List { from: self.from.clone() })
    }

    fn tell(&self, answer: &Value) -> String {
        let row = |checkpoint: &Value| {
            let state = match checkpoint["broken"].as_str() {
                Some(reason) => format!("BROKEN: {reason}"),
                None => text(checkpoint, "state").to_owned(),
            };
            vec![
                text(checkpoint, "id").to_owned(),
                text(checkpoint, "name").to_owned(),
                text(checkpoint, "container").to_owned(),
                text(checkpoint, "image").to_owned(),
                text(checkpoint, "created").to_owned(),
                bytes(&checkpoint["bytes"]),
                state,
            ]
        };
        let rows: Vec<_> = list(answer, "checkpoints").map(row).collect();
        table(
            &[
                "CHECKPOINT",
                "NAME",
                "CONTAINER",
                "IMAGE",
                "CREATED",
                if self.from.is_some() { "BYTES" } else { "ON DISK" },
                "STATE",
            ],
            &rows,
        )
    }
}
