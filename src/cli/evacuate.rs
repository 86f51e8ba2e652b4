//! `transship evacuate` and `transship return`

use super::render::{bytes, table};
use super::values::{Word, rate};
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;
use std::num::NonZeroU64;

/// Move every container that can be moved to peers
///
/// What goes where is found out before anything moves: groups stay together, and each goes to the peer with the most free
/// memory that takes it. What has to stay is listed with its reason. `transship return` brings back what has left.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Peers to which they may go; see `transship peer ls`.
    #[arg(long, value_delimiter = ',', required = true, value_name = "PEER")]
    to: Vec<String>,
    /// How hard to compress what is sent: fast is zstd's level 1, best level 9; auto goes by what the network carries.
    #[arg(long, value_enum, default_value_t = Word::Auto)]
    compress: Word,
    /// Each migration sends no more than so many bytes a second, 65536 at least: 500k, 20M, 1G (thousands).
    #[arg(long, value_parser = rate)]
    rate: Option<NonZeroU64>,
    /// Only say what would go where, and what would stay.
    #[arg(long)]
    dry_run: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        let Self { to, compress, rate, dry_run } = self;
        Ok(Request::Evacuate { to: to.clone(), dry_run: *dry_run, compress: (*compress).into(), rate: *rate })
    }

    fn is_cancelled_by_interrupt(&self) -> bool {
        !self.dry_run
    }

    fn tell(&self, answer: &Value) -> String {
        tell(answer, answer["dry_run"] == true)
    }
}

/// What goes where and what stays, or what has become of that.
pub fn tell(answer: &Value, is_planned: bool) -> String {
    let becomes = |group: &Value| match text(group, "outcome") {
        _ if is_planned => "would go",
        "left" => "left",
        _ => "was gone already",
    };
    let leaves: Vec<_> = list(answer, "groups")
        .map(|group| {
            vec![names(group), text(group, "peer").to_owned(), bytes(&group["memory_bytes"]), becomes(group).to_owned()]
        })
        .collect();
    let mut told = table(&["CONTAINERS", "PEER", "MEMORY", "OUTCOME"], &leaves);
    for stays in list(answer, "stays") {
        let reason: Option<Failure> = serde_json::from_value(stays["reason"].clone()).ok();
        let reason = reason.map(|reason| reason.in_one_line()).unwrap_or_default();
        told.push_str(&format!("{} stays: {reason}\n", names(stays)));
    }
    told
}

fn names(group: &Value) -> String {
    list(group, "containers").filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Bring back what has left by `transship evacuate`
///
/// This host asks each peer to migrate back what it has of it. What does not come runs where it is.
#[derive(Debug, clap::Args)]
pub struct ReturnArguments {
    /// Only what this peer has; else everything.
    #[arg(long, value_name = "PEER")]
    from: Option<String>,
}

impl Ask for ReturnArguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Return { from: self.from.clone() })
    }

    fn is_cancelled_by_interrupt(&self) -> bool {
        true
    }

    fn tell(&self, answer: &Value) -> String {
        tell_back(answer)
    }
}

/// What is back.
pub fn tell_back(answer: &Value) -> String {
    list(answer, "groups").map(|group| format!("{}: back from {}\n", names(group), text(group, "peer"))).collect()
}
