//! CRIU's action script of a dump: asks at the gate what becomes of the processes that stand still.

use super::claims;
use super::gate::{self, Answer, Request};
use crate::store::id::ContainerId;
use std::path::Path;
use std::process::ExitCode;

/// The variable by which CRIU tells the action (`criu/action-scripts.c`).
pub const ACTION_VARIABLE: &str = "CRTOOLS_SCRIPT_ACTION";

/// Runs as the action script. Success lets CRIU end the processes (or leave them running, for a backup);
/// failure makes it put everything back and let them go on.
pub fn main(action: &str) -> ExitCode {
    if action != "post-dump" {
        return ExitCode::SUCCESS;
    }
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let request = Request::Dumped { container: variable(crate::store::claims::CONTAINER_VARIABLE) };
    let counts = match gate::ask(Path::new(gate::SOCKET), &request) {
        Ok(answer) => matches!(answer, Answer::Done),
        // The helper is gone. Where it had committed, the decision stands.
        Err(_) => is_committed(
            &variable(crate::store::claims::LEADER_VARIABLE),
            &variable(crate::store::claims::CHECKPOINT_VARIABLE),
        ),
    };
    if counts { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_committed(leader: &str, checkpoint: &str) -> bool {
    let Ok(leader) = leader.parse::<ContainerId>() else { return false };
    let claim = claims().find(&leader).ok().flatten();
    claim.is_some_and(|claim| claim.checkpoint.to_string() == checkpoint)
}
