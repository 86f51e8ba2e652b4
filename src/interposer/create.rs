//! `create` of a container with a claim on it: `runc restore` instead.

use super::arguments::Invocation;
use super::gate::{self, Answer, Images, Request};
use super::{cgroup, claims, hook, log, passthrough};
use crate::store::claims::Claim;
use crate::store::id::ContainerId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Restores the container when there is a claim on it; `None` where there is none.
pub fn claimed(call: &Invocation) -> Option<ExitCode> {
    let id: ContainerId = call.container()?.to_str()?.parse().ok()?;
    // Anything wrong with the claims is no reason to keep a container from starting that has none.
    let claim = claims().take(&id).ok()??;
    let done = ask_for_images(&claim).and_then(|images| match images {
        Some(images) => restore(call, &claim, &images).map(|()| true),
        None => Ok(false),
    });
    Some(match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => return None,
        Err(reason) => {
            let told = Request::Failed { container: id.to_string(), reason: reason.clone() };
            // Where the helper is gone, its next start finds the claim taken and gives it back.
            if gate::ask(&claim.gate, &told).is_err() {
                let _ = claims().give_back(&id);
            }
            log::failure(call, &format!("transship: {id:.12} was not restored: {reason}"));
            ExitCode::FAILURE
        }
    })
}

fn restore(call: &Invocation, claim: &Claim, images: &Images) -> Result<(), String> {
    let bundle = PathBuf::from(call.option(&["--bundle", "-b"]).ok_or("runc create was called without --bundle")?);
    let config = hook::prepare(&bundle, &images.addresses)
        .map_err(|error| format!("cannot prepare {}: {error}", bundle.join("config.json").display()))?;
    let by_systemd = call.globals.iter().any(|word| word == "--systemd-cgroup");
    cgroup::name(&images.criu_config, &config, by_systemd)
        .map_err(|error| format!("cannot tell CRIU of the container's cgroup: {error}"))?;
    run_restore(call, images)?;
    let pid_file = call.option(&["--pid-file"]).ok_or("runc create was called without --pid-file")?;
    let pid = read_pid(Path::new(&pid_file))?;
    let told = Request::Restored { container: claim.container.to_string(), pid };
    match gate::ask(&claim.gate, &told) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused { reason }) => Err(reason),
        Ok(other) => Err(format!("the helper answered a report with {other:?}")),
        Err(error) => Err(format!("the helper was lost during the restore: {error}")),
    }
}

/// What to restore; nothing where the helper wants it created as any other container.
fn ask_for_images(claim: &Claim) -> Result<Option<Images>, String> {
    let question = Request::Create {
        container: claim.container.to_string(),
        checkpoint: claim.checkpoint.to_string(),
        manifest: claim.manifest.to_string(),
    };
    match gate::ask(&claim.gate, &question) {
        Ok(Answer::Restore(images)) => Ok(Some(images)),
        Ok(Answer::Create) => Ok(None),
        Ok(Answer::Refused { reason }) => Err(reason),
        Ok(other) => Err(format!("the helper answered a question for images with {other:?}")),
        Err(error) => Err(format!(
            "it is frozen in checkpoint {} and transshipd does not answer at {} ({error}); start transshipd and try again, \
             or abandon the frozen state with: transship rm --force {}",
            claim.checkpoint,
            claim.gate.display(),
            claim.checkpoint
        )),
    }
}

/// `runc [globals] restore ... [create's options] ID`, with the caller's standard streams.
fn run_restore(call: &Invocation, images: &Images) -> Result<(), String> {
    // CRIU gives the restored processes their own priorities back.
    crate::process::go_first();
    let runc = passthrough::real_runc().ok_or("no runc on PATH besides transship's interposer")?;
    let status = Command::new(runc)
        .args(&call.globals)
        .args(restore_words(call, images))
        .env("CRIU_CONFIG_FILE", &images.criu_config)
        .status()
        .map_err(|error| format!("cannot run runc restore: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let log = crate::criu::log::excerpt(&images.work.join("restore.log")).lines;
    Err(format!("runc restore ended with {status}; CRIU's log ends with:\n{}", log.join("\n")))
}

fn restore_words(call: &Invocation, images: &Images) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["restore".into(), "--detach".into()];
    words.extend(["--image-path".into(), images.images.clone().into()]);
    words.extend(["--work-path".into(), images.work.clone().into()]);
    words.extend(images.options.iter().map(OsString::from));
    // `--pidfd-socket` and `--preserve-fds` have no counterpart in `runc restore`; the shim does not use them.
    words.extend(call.rest.iter().cloned());
    words
}

fn read_pid(file: &Path) -> Result<i32, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    text.trim().parse().map_err(|error| format!("{} holds no pid: {error}", file.display()))
}
