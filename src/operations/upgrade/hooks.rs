//! Programs of the operator's that run before and after: to take the host out of a load balancer, and put it back.

use super::Upgrade;
use crate::failure::{Failure, OrFail};
use serde_json::Value;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where they are: `before-upgrade`, `before-upgrade-haproxy`, `after-upgrade`, ... Each is run with the plan as JSON on
/// its standard input, in the order of their names.
const DIRECTORY: &str = "/etc/transship/hooks.d";

/// Runs the hooks whose names begin with `moment` (`before-upgrade`); the first that fails ends it.
pub fn run(moment: &str, upgrade: &Upgrade, outcome: &str) -> Result<(), Failure> {
    let mut plan = crate::saga::Operation::answer(upgrade);
    plan["moment"] = moment.into();
    plan["outcome"] = outcome.into();
    for hook in named(moment).or_fail(|| format!("{DIRECTORY} cannot be read"))? {
        let failed = || format!("the hook {} failed", hook.display());
        require_trusted(&hook)?;
        run_one(&hook, &plan).or_fail(failed)?;
    }
    Ok(())
}

fn named(moment: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut hooks = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_meant = name.strip_prefix(moment).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        let found = std::fs::metadata(entry.path())?;
        let is_program = found.is_file() && found.mode() & 0o111 != 0;
        // Editors' and packages' left-overs have a dot or a tilde in their names, as run-parts(8) has it.
        if is_meant && is_program && !name.contains(['.', '~']) {
            hooks.push(entry.path());
        }
    }
    hooks.sort();
    Ok(hooks)
}

/// It runs as root: nobody else may have written it.
fn require_trusted(hook: &Path) -> Result<(), Failure> {
    let found = std::fs::metadata(hook).or_fail(|| format!("{} cannot be looked at", hook.display()))?;
    match found.uid() == 0 && found.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(Failure::new(format!("the hook {} can be written by others than root", hook.display()))
            .remedy(format!("chown root {0} && chmod go-w {0}", hook.display()))),
    }
}

fn run_one(hook: &Path, plan: &Value) -> io::Result<()> {
    let mut child = Command::new(hook).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().ok_or_else(|| io::Error::other("it has no standard input"))?;
    let plan = plan.to_string();
    // Beside reading what it says. It need not read what it is told.
    let telling = std::thread::spawn(move || input.write_all(plan.as_bytes()));
    let output = child.wait_with_output()?;
    if let Ok(Err(error)) = telling.join()
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{}: {}", output.status, said.lines().last().unwrap_or_default())))
}
