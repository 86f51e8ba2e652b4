//! How memory travels, and how long the containers may be away for it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When memory travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As its amount and the network ask for.
    #[default]
    Auto,
    /// All of it while the containers stand still.
    StopAndCopy,
    /// Most of it before, in rounds.
    PreCopy,
    /// It follows when the containers run there already. A host or a network that fails until all of it has followed can
    /// cost the containers, so it is never chosen.
    PostCopy,
}

/// Memory that is sent in less than this is not worth looking at while the containers run.
const SHORT: Duration = Duration::from_millis(100);

impl Mode {
    /// As it is called on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::StopAndCopy => "stop-and-copy",
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
        }
    }

    /// Whether memory is missing at the destination when the containers begin to run there.
    pub fn has_memory_follow(self) -> bool {
        self == Self::PostCopy
    }

    /// The mode for so much memory over a network of so many bytes a second, and why.
    pub fn chosen(self, memory: u64, link: u64) -> (Self, String) {
        let took = Duration::from_secs_f64(memory as f64 / link.max(1) as f64);
        let tells = format!("its {} MiB of memory take about {} ms to send", memory >> 20, took.as_millis());
        match self {
            Self::Auto if took <= SHORT => (Self::StopAndCopy, tells),
            Self::Auto => (Self::PreCopy, tells),
            wanted => (wanted, format!("as was asked for; {tells}")),
        }
    }
}

/// How long containers may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// In milliseconds.
    pub downtime_ms: u64,
    /// What becomes of a migration that cannot meet it.
    pub if_missed: IfMissed,
}

impl Goal {
    /// The same.
    pub fn downtime(&self) -> Duration {
        Duration::from_millis(self.downtime_ms)
    }
}

/// What becomes of a migration that would take longer than its goal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfMissed {
    /// It is given up, and the containers run on.
    #[default]
    GiveUp,
    /// It goes on.
    GoOn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_memory_goes_before_little_while_it_stands_still_and_what_was_asked_for_is_done() {
        let chosen = |mode: Mode, memory| mode.chosen(memory, 100 << 20).0;
        assert_eq!(chosen(Mode::Auto, 5 << 20), Mode::StopAndCopy);
        assert_eq!(chosen(Mode::Auto, 1 << 30), Mode::PreCopy);
        assert_eq!(chosen(Mode::StopAndCopy, 1 << 30), Mode::StopAndCopy);
        assert_eq!(chosen(Mode::PreCopy, 1), Mode::PreCopy);
        assert!(Mode::Auto.chosen(1 << 30, 0).1.contains("1024 MiB"));
    }
}
