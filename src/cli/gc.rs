//! `transship gc`

use super::render::bytes;
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Delete checkpoints that the retention rule or the quota no longer keeps
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::CollectGarbage { dry_run: self.dry_run })
    }

    fn tell(&self, answer: &Value) -> String {
        let verb = if self.dry_run { "would delete" } else { "deleted" };
        let mut out: String = list(answer, "removed")
            .map(|one| format!("{verb} {} of {}: {}\n", text(one, "id"), text(one, "container"), text(one, "why")))
            .collect();
        out.push_str(&format!(
            "{verb} {} in all; {} kept\n",
            bytes(&answer["freed_bytes"]),
            bytes(&answer["kept_bytes"])
        ));
        out
    }
}
