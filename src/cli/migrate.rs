//! `transship migrate`

use super::render::{bytes, duration};
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Move running containers to a peer, with their connections open
///
/// The container stands still on both hosts until this one has handed it over: one copy can run at any time. Whatever
/// fails before that leaves it running here. Visitors of its published ports here are led to the peer.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Containers by name or id.
    #[arg(required = true)]
    containers: Vec<String>,
    /// The peer; see `transship peer ls`.
    #[arg(long)]
    to: String,
    /// Keep the container here as well, stopped, and its checkpoint.
    #[arg(long)]
    keep_source: bool,
    /// Only say whether the peer would take them.
    #[arg(long)]
    dry_run: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Migrate {
            containers: self.containers.clone(),
            to: self.to.clone(),
            keep_source: self.keep_source,
            dry_run: self.dry_run,
        })
    }

    fn tell(&self, answer: &Value) -> String {
        let moved = list(answer, "containers");
        match answer["dry_run"] == true {
            true => moved.map(|one| format!("{} can go to {}\n", text(one, "container"), text(one, "peer"))).collect(),
            false => moved.map(tell_one).collect(),
        }
    }
}

fn tell_one(one: &Value) -> String {
    let away = one["downtime_us"].as_u64().map_or_else(String::new, |away| format!(", away for {}", duration(away)));
    let (container, peer) = (text(one, "container"), text(one, "peer"));
    format!("{container}: runs on {peer} ({} sent{away})\n", bytes(&one["sent_bytes"]))
}
