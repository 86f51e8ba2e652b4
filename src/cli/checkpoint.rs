//! `transship checkpoint`

use super::render::{bytes, duration};
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Freeze running containers to disk
///
/// Open connections are kept: clients wait until the container is restored. Containers that share a network
/// namespace are frozen together. `docker start` of a frozen container restores it, too.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Containers by name or id.
    #[arg(required = true)]
    containers: Vec<String>,
    /// Take a backup: the container goes on as soon as its memory is written.
    #[arg(long)]
    leave_running: bool,
    /// A name for the checkpoint; only with one container.
    #[arg(long)]
    name: Option<String>,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        if self.name.is_some() && self.containers.len() > 1 {
            return Err(Failure::usage("--name names one checkpoint, and more than one container is given"));
        }
        Ok(Request::Checkpoint {
            containers: self.containers.clone(),
            leave_running: self.leave_running,
            name: self.name.clone(),
        })
    }

    fn tell(&self, answer: &Value) -> String {
        list(answer, "checkpoints").map(tell_one).collect()
    }
}

fn tell_one(checkpoint: &Value) -> String {
    let end = match checkpoint["left_running"] == true {
        true => "it runs on".to_owned(),
        false => format!("bring it back with: transship restore {}", text(checkpoint, "container")),
    };
    let frozen = match checkpoint["frozen_us"].as_u64() {
        Some(frozen) => format!(", stood still for {}", duration(frozen)),
        None => String::new(),
    };
    format!(
        "{}: checkpoint {} ({} of memory{frozen}); {end}\n",
        text(checkpoint, "container"),
        text(checkpoint, "id"),
        bytes(&checkpoint["pages_bytes"]),
    )
}
