//! `transship migrate`

use super::render::{bytes, duration};
use super::values::{Word, bind, rate};
use super::{Ask, check, list, text};
use crate::failure::Failure;
use crate::helper::protocol::{Bind, Goal, IfMissed, Lost, Mode, Request};
use serde_json::Value;
use std::num::NonZeroU64;
use std::time::Duration;

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
    /// When memory travels: all of it while the container stands still, or most of it before, in rounds, or behind it, when
    /// it runs there already. auto goes by how much there is and by what the network carries, and says why; it is never
    /// post-copy: until all memory has followed, either host or the network between them failing can cost the container.
    #[arg(long, value_enum, default_value_t = When::Auto)]
    mode: When,
    /// How long the container may be away, such as 300ms or 2s: rounds go on until what is left fits.
    #[arg(long, value_parser = time)]
    downtime: Option<Duration>,
    /// What to do where that cannot be met: give up, and it runs on here; or go on all the same.
    #[arg(long, value_enum, default_value_t = Missed::GiveUp, requires = "downtime")]
    if_missed: Missed,
    /// How hard to compress what is sent: fast is zstd's level 1, best level 9; auto goes by what the network carries.
    #[arg(long, value_enum, default_value_t = Word::Auto)]
    compress: Word,
    /// Send no more than so many bytes a second, 65536 at least: 500k, 20M, 1G (thousands).
    #[arg(long, value_parser = rate)]
    rate: Option<NonZeroU64>,
    /// What becomes of connections that cannot live on there: keep leaves each end to find out by itself, close tells both at
    /// once. `--dry-run` says which they are.
    #[arg(long, value_enum, default_value_t = Tcp::Keep)]
    tcp: Tcp,
    /// What becomes of what they have mounted of this host, of all or of one PATH; may be repeated. copy: the directory's files
    /// come along, and must not be there yet; they stay here as well. shared: the peer has the same at the same path.
    #[arg(long = "bind", value_name = "copy|shared[=PATH]", value_parser = bind)]
    binds: Vec<Bind>,
    /// Only say whether the peer would take them, and which of their connections would live on there. Exit code 3 where the
    /// answer is no for any.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum When {
    Auto,
    StopAndCopy,
    PreCopy,
    PostCopy,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Missed {
    GiveUp,
    GoOn,
}

/// Milliseconds or seconds.
fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => (text, 0),
    };
    let milliseconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let time = milliseconds.filter(|milliseconds| *milliseconds > 0).map(Duration::from_millis);
    time.ok_or_else(|| "a time such as 300ms or 2s".into())
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Tcp {
    Keep,
    Close,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Migrate {
            containers: self.containers.clone(),
            to: self.to.clone(),
            keep_source: self.keep_source,
            dry_run: self.dry_run,
            compress: self.compress.into(),
            rate: self.rate,
            mode: match self.mode {
                When::Auto => Mode::Auto,
                When::StopAndCopy => Mode::StopAndCopy,
                When::PreCopy => Mode::PreCopy,
                When::PostCopy => Mode::PostCopy,
            },
            goal: self.downtime.map(|downtime| Goal {
                downtime_ms: u64::try_from(downtime.as_millis()).unwrap_or(u64::MAX),
                if_missed: match self.if_missed {
                    Missed::GiveUp => IfMissed::GiveUp,
                    Missed::GoOn => IfMissed::GoOn,
                },
            }),
            binds: self.binds.clone(),
            tcp: match self.tcp {
                Tcp::Keep => Lost::Keep,
                Tcp::Close => Lost::Close,
            },
        })
    }

    fn is_cancelled_by_interrupt(&self) -> bool {
        true
    }

    fn tell(&self, answer: &Value) -> String {
        let moved = list(answer, "containers");
        match answer["dry_run"] == true {
            true => moved.map(check::container_line).chain(self.caution()).collect(),
            false => moved.map(tell_one).collect(),
        }
    }

    fn exit_code(&self, answer: &Value) -> u8 {
        check::exit_code(list(answer, "containers"))
    }
}

impl Arguments {
    fn caution(&self) -> Option<String> {
        let told = "until all memory has followed, a failure of either host or of the network between them can cost a container\n";
        matches!(self.mode, When::PostCopy).then(|| told.to_owned())
    }
}

fn tell_one(one: &Value) -> String {
    let away = one["downtime_us"].as_u64().map_or_else(String::new, |away| format!(", away for {}", duration(away)));
    let (container, peer) = (text(one, "container"), text(one, "peer"));
    let ahead = match one["ahead_bytes"].as_u64() {
        Some(1..) => format!(" after {} of memory ahead", bytes(&one["ahead_bytes"])),
        _ => String::new(),
    };
    format!("{container}: runs on {peer} ({} sent{ahead}{away})\n", bytes(&one["sent_bytes"]))
}

#[cfg(test)]
mod tests {
    use super::time;
    use std::time::Duration;

    #[test]
    fn a_time_has_its_unit() {
        assert_eq!(time("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        ["300", "ms", "0s", "-1s", "1.5s", "1m", "99999999999999999s"]
            .iter()
            .for_each(|text| assert!(time(text).is_err(), "{text}"));
    }
}
