//! `transship migrate`

use super::render::{bytes, duration};
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::{Compress, Request};
use serde_json::Value;
use std::num::NonZeroU64;

/// Move running containers to a peer, with their connections open
///
/// The container stands still on both hosts until this one has handed it over: one copy can run at any time. Whatever
/// fails before that leaves it running here. Visitors of its published ports here are led to the peer.
/// Ctrl-C cancels it, as `transship cancel` does: it runs on here.
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
    /// Compress what is sent, where the network is slower than a core compresses: fast is zstd's level 1, best level 9.
    #[arg(long, value_enum, default_value_t = Word::Off)]
    compress: Word,
    /// Send no more than so many bytes a second, 65536 at least: 500k, 20M, 1G (thousands).
    #[arg(long, value_parser = rate)]
    rate: Option<NonZeroU64>,
    /// Only say whether the peer would take them.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Word {
    Off,
    Fast,
    Best,
}

/// Bytes a second, in thousands (k), millions (M) or milliards (G) where a letter says so.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let (digits, times) = match text.chars().last() {
        Some('k') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        Some('G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(times));
    number.and_then(NonZeroU64::new).ok_or_else(|| "a number, with k, M or G behind it or nothing".into())
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Migrate {
            containers: self.containers.clone(),
            to: self.to.clone(),
            keep_source: self.keep_source,
            dry_run: self.dry_run,
            compress: match self.compress {
                Word::Off => Compress::Off,
                Word::Fast => Compress::Fast,
                Word::Best => Compress::Best,
            },
            rate: self.rate,
        })
    }

    fn is_cancelled_by_interrupt(&self) -> bool {
        true
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

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn a_rate_is_a_number_with_a_letter_or_without() {
        let read = |text| rate(text).map(u64::from).ok();
        assert_eq!(
            [read("65536"), read("500k"), read("20M"), read("1G")],
            [65536, 500_000, 20_000_000, 1_000_000_000].map(Some)
        );
        assert_eq!([read("0"), read("k"), read("-1"), read("1T"), read("99999999999G"), read("é")], [None; 6]);
    }
}
