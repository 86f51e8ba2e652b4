//! `transship pull`

use super::render::bytes;
use super::values::{Word, rate};
use super::{Ask, text};
use crate::failure::Failure;
use crate::helper::protocol::{Request, Way};
use serde_json::Value;
use std::num::NonZeroU64;

/// Fetch a checkpoint that a peer shares with this host
///
/// Blocks that another checkpoint of the same container or of the same image has here do not travel.
/// Ctrl-C cancels it, as `transship cancel` does: nothing of it is kept.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The checkpoint, as `transship ls --from PEER` has it: its id or name, or a container's name for its newest.
    checkpoint: String,
    /// The peer; see `transship peer ls`.
    #[arg(long)]
    from: String,
    /// How hard to compress what is sent; auto goes by what the network carries. fast and best are the same here, zstd's level 1.
    #[arg(long, value_enum, default_value_t = Word::Auto)]
    compress: Word,
    /// Send no more than so many bytes a second, 65536 at least: 500k, 20M, 1G (thousands).
    #[arg(long, value_parser = rate)]
    rate: Option<NonZeroU64>,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Pull {
            reference: self.checkpoint.clone(),
            from: self.from.clone(),
            way: Way { compress: self.compress.into(), rate: self.rate },
        })
    }

    fn is_cancelled_by_interrupt(&self) -> bool {
        true
    }

    fn tell(&self, answer: &Value) -> String {
        let (id, container) = (text(answer, "id"), text(answer, "container"));
        let (all, sent) = (bytes(&answer["bytes"]), bytes(&answer["sent_bytes"]));
        format!(
            "checkpoint {id} of {container} is here ({sent} of {all} sent); restore it with: transship restore {id} --name NAME\n"
        )
    }
}
