//! `start`, `delete` and `exec` of a container that `create` restored.

use super::arguments::Invocation;
use super::gate::{self, Answer, Request};
use super::{claims, log, resume};
use crate::store::claims::Claim;
use crate::store::id::ContainerId;
use std::process::ExitCode;

/// Lets a restored container go; `None` where it was not restored, and runc has to start it.
pub fn restored(call: &Invocation) -> Option<ExitCode> {
    let id: ContainerId = call.container()?.to_str()?.parse().ok()?;
    let claim = claims().taken(&id).ok()??;
    Some(match go(call, &id, &claim) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            log::failure(call, &format!("transship: {id:.12} is restored but may not run: {reason}"));
            ExitCode::FAILURE
        }
    })
}

fn go(call: &Invocation, id: &ContainerId, claim: &Claim) -> Result<(), String> {
    let stay_stopped = match gate::ask(&claim.gate, &Request::Start { container: id.to_string() }) {
        Ok(Answer::Go { stay_stopped }) => stay_stopped,
        Ok(Answer::Later) => return Ok(()),
        Ok(Answer::Refused { reason }) => return Err(reason),
        Ok(other) => return Err(format!("the helper answered a start with {other:?}")),
        // The helper had decided that the container runs and was then lost: the decision stands. The claim is left to the
        // next helper, since others may look at it for theirs.
        Err(_) if claims().is_decided(claim) => {
            claims().commit(id).map_err(|error| error.to_string())?;
            return resume_all(call, id, &[]);
        }
        Err(error) => {
            return Err(format!(
                "transshipd does not answer at {} ({error}); checkpoint {} is kept, start transshipd and try again",
                claim.gate.display(),
                claim.checkpoint
            ));
        }
    };
    resume_all(call, id, &stay_stopped)?;
    // What is left of the claim is swept at the helper's start, too.
    let _ = claims().finish(id);
    Ok(())
}

fn resume_all(call: &Invocation, id: &ContainerId, stay_stopped: &[i32]) -> Result<(), String> {
    let init = init_pid(call, id).map_err(|error| format!("cannot read runc's state: {error}"))?;
    resume::processes(init, stay_stopped).map_err(|error| format!("cannot continue its processes: {error}"))
}

/// The pid of the container's first process, from runc's own state (`STATE_ROOT/ID/state.json`).
fn init_pid(call: &Invocation, id: &ContainerId) -> std::io::Result<i32> {
    let path = call.state_root().join(id.to_string()).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let pid = state["init_process_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "state.json has no init_process_pid"))
}

/// Nothing runs in a container that Docker has taken as started and that is not let run yet: neither does its health check.
pub fn not_let_run(call: &Invocation) -> Option<ExitCode> {
    let id: ContainerId = call.container()?.to_str()?.parse().ok()?;
    let claim = claims().taken(&id).ok()??;
    if claims().is_decided(&claim) {
        return None;
    }
    log::failure(call, &format!("transship: {id:.12} is restored and not let run yet"));
    Some(ExitCode::FAILURE)
}

/// A restored container that is deleted before it ran leaves its claim as it was, for the next try. The
/// deletion itself is runc's.
pub fn forget(call: &Invocation) -> Option<ExitCode> {
    let id: ContainerId = call.container()?.to_str()?.parse().ok()?;
    let _ = claims().give_back(&id);
    None
}
