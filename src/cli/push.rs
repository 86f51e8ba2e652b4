//! `transship push`

use super::values::{Word, rate};
use super::{Ask, text};
use crate::failure::Failure;
use crate::helper::protocol::{Request, Way};
use serde_json::Value;
use std::num::NonZeroU64;

/// Bring a checkpoint to a peer, which fetches what it lacks
///
/// Blocks that another checkpoint of the same container or of the same image has there do not travel. The image goes along
/// where the peer lacks it. It can be restored there: transship restore ID --name NAME
/// Ctrl-C cancels it, as `transship cancel` does: the peer keeps nothing of it, unless all of it is there.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The checkpoint: its id or name, or a container's name for its newest.
    checkpoint: String,
    /// The peer; see `transship peer ls`.
    #[arg(long)]
    to: String,
    /// How hard to compress what is sent; auto goes by what the network carries. fast and best are the same here, zstd's level 1.
    #[arg(long, value_enum, default_value_t = Word::Auto)]
    compress: Word,
    /// Send no more than so many bytes a second, 65536 at least: 500k, 20M, 1G (thousands).
    #[arg(long, value_parser = rate)]
    rate: Option<NonZeroU64>,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Push {
            reference: self.checkpoint.clone(),
            to: self.to.clone(),
            way: Way { compress: self.compress.into(), rate: self.rate },
        })
    }

    fn is_cancelled_by_interrupt(&self) -> bool {
        true
    }

    fn tell(&self, answer: &Value) -> String {
        format!("checkpoint {} of {} is on {}\n", text(answer, "id"), text(answer, "container"), text(answer, "peer"))
    }
}
