//! `transship restore`

use super::render::duration;
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Bring a frozen container back, or make a new one from a checkpoint
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A container by name or id (its newest checkpoint), or a checkpoint by id or name.
    reference: String,
    /// Restore as a new container with this name. Connections that were open are closed in the new one, since
    /// their other ends belong to the old one.
    #[arg(long)]
    name: Option<String>,
    /// Where it cannot be restored, start it afresh, without its memory.
    #[arg(long)]
    cold_start_on_failure: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Restore {
            reference: self.reference.clone(),
            name: self.name.clone(),
            cold_start_on_failure: self.cold_start_on_failure,
        })
    }

    fn tell(&self, answer: &Value) -> String {
        list(answer, "containers").map(tell_one).collect()
    }
}

fn tell_one(container: &Value) -> String {
    if container["cold_started"] == true {
        return format!("{}: started AFRESH, without its memory\n", text(container, "name"));
    }
    let downtime = match container["downtime_us"].as_u64() {
        Some(downtime) => format!(", after {} away", duration(downtime)),
        None => String::new(),
    };
    format!("{}: runs again from checkpoint {}{downtime}\n", text(container, "name"), text(container, "checkpoint"),)
}
