//! Which way each container goes through an upgrade, and why.

use crate::failure::Failure;
use crate::packages::without_epoch;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The label by which an operator directs a container's strategy.
pub const LABEL: &str = "transship.strategy";

/// What becomes of a container while the engine is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// It is frozen to disk and restored: its clients wait.
    Freeze,
    /// It runs on without an engine, as Docker promises for patch releases.
    LiveRestore,
    /// It is stopped and started afresh: its clients are cut off.
    Stop,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Freeze => "freeze",
            Self::LiveRestore => "live-restore",
            Self::Stop => "stop",
        })
    }
}

/// The word for an upgrade around which what can is on peers: no container's own strategy.
pub const EVACUATE: &str = "evacuate";

/// What an operator asks for; `None` is `auto`.
pub fn parse(word: &str) -> Result<Option<Strategy>, Failure> {
    match word {
        "auto" => Ok(None),
        "freeze" => Ok(Some(Strategy::Freeze)),
        "live-restore" => Ok(Some(Strategy::LiveRestore)),
        "stop" => Ok(Some(Strategy::Stop)),
        EVACUATE => Err(Failure::usage("containers cannot be evacuated: no peer is named")
            .remedy("name peers that take them: --evacuate-to PEER[,PEER]")),
        other => Err(Failure::usage(format!("there is no strategy {other:?}"))
            .remedy("one of: auto, freeze, live-restore, evacuate, stop")),
    }
}

/// What is known of a container, or of containers that share a network, when its strategy is chosen.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    /// What the operator asks for; none for whatever serves best.
    pub wish: Option<Strategy>,
    /// Why it cannot be frozen here; none where it can.
    pub not_frozen: Option<String>,
    /// Why it cannot run on without the engine; none where it can.
    pub not_live: Option<String>,
    /// Whether the operator has said, by name or label, that it may be stopped.
    pub may_stop: bool,
}

/// The strategy and its reason, or why there is none.
pub fn choose(situation: &Situation) -> Result<(Strategy, String), String> {
    let frozen = || situation.not_frozen.as_ref().map_or(Ok("it can be frozen here".to_owned()), |no| Err(no.clone()));
    let live = || situation.not_live.as_ref().map_or(Ok("Docker keeps it running".to_owned()), |no| Err(no.clone()));
    let stop = |why: String| match situation.may_stop {
        true => Ok((Strategy::Stop, format!("{}; it may be stopped", why.trim_end_matches('.')))),
        false => Err(why),
    };
    match situation.wish {
        Some(Strategy::Freeze) => frozen().map(|why| (Strategy::Freeze, why)),
        Some(Strategy::LiveRestore) => live().map(|why| (Strategy::LiveRestore, why)),
        Some(Strategy::Stop) => stop(situation.not_frozen.clone().unwrap_or_else(|| "it is to be stopped".into())),
        None => match (frozen(), live()) {
            (Ok(why), _) => Ok((Strategy::Freeze, why)),
            (Err(no), Ok(why)) => Ok((Strategy::LiveRestore, format!("{no}; {why}"))),
            (Err(no), Err(_)) => stop(no),
        },
    }
}

/// Why containers cannot run on while dockerd goes from one version to the other; none where they can.
///
/// Docker promises it between patch releases (`YY.MM.x`) only, and not for swarm services.
pub fn against_live_restore(enabled: bool, in_swarm: bool, from: &str, to: &str) -> Option<String> {
    let release = |version: &str| without_epoch(version).split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    if !enabled {
        return Some("live-restore is not set in /etc/docker/daemon.json".into());
    }
    if in_swarm {
        return Some("live-restore does not go with swarm".into());
    }
    if release(from) != release(to) {
        return Some(format!("live-restore is for patch releases, and {from} to {to} is more"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(reason: &str) -> Option<String> {
        Some(reason.into())
    }

    #[test]
    fn what_can_be_frozen_is_frozen_and_nothing_is_stopped_unasked() {
        let able = Situation { not_live: no("off"), ..Situation::default() };
        assert_eq!(choose(&able).unwrap().0, Strategy::Freeze);
        let unable = Situation { not_frozen: no("it has a GPU."), ..able };
        assert_eq!(choose(&unable).unwrap_err(), "it has a GPU.");
        let (strategy, why) = choose(&Situation { may_stop: true, ..unable }).unwrap();
        assert_eq!((strategy, why.as_str()), (Strategy::Stop, "it has a GPU; it may be stopped"));
    }

    #[test]
    fn a_wish_is_granted_or_refused_and_never_replaced() {
        let situation =
            Situation { wish: Some(Strategy::Freeze), not_frozen: no("x"), may_stop: true, ..Situation::default() };
        assert!(choose(&situation).is_err());
        let situation = Situation { wish: Some(Strategy::Stop), ..Situation::default() };
        assert!(choose(&situation).is_err(), "a strategy for all is no leave to stop each");
        let situation = Situation { not_frozen: no("it has a GPU"), may_stop: true, ..situation };
        assert_eq!(choose(&situation).unwrap().1, "it has a GPU; it may be stopped");
    }

    #[test]
    fn live_restore_is_for_patch_releases() {
        assert_eq!(against_live_restore(true, false, "28.5.1", "28.5.2+dfsg4"), None);
        assert_eq!(against_live_restore(true, false, "28.5.1", "5:28.5.2-1~debian.13~trixie"), None);
        assert!(against_live_restore(true, false, "28.4.0", "28.5.2").is_some());
        assert!(against_live_restore(true, true, "28.5.1", "28.5.2").is_some());
        assert!(against_live_restore(false, false, "28.5.1", "28.5.2").is_some());
    }
}
