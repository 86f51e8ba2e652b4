//! Programs of the operator's that run before and after: to take the host out of a load balancer, and put it back.

use super::Upgrade;
use crate::failure::{Failure, OrFail};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod program;

/// Where they are: `before-upgrade`, `before-upgrade-haproxy`, `after-upgrade`, ... Each is run with the plan as JSON on
/// its standard input, in the order of their names.
const DIRECTORY: &str = "/etc/transship/hooks.d";

/// Runs the hooks whose names begin with `moment` (`before-upgrade`); the first that fails, or takes longer than `limit`,
/// ends it.
pub fn run(moment: &str, upgrade: &Upgrade, outcome: &str, limit: Duration) -> Result<(), Failure> {
    let mut plan = crate::saga::Operation::answer(upgrade);
    plan["moment"] = moment.into();
    plan["outcome"] = outcome.into();
    for hook in named(moment).or_fail(|| format!("{DIRECTORY} cannot be read"))? {
        let failed = || format!("the hook {} failed", hook.display());
        require_trusted(&hook)?;
        program::run(&hook, &plan.to_string(), limit).or_fail(failed)?;
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
