//! Which `runc` containerd's shims will find, and what makes it the interposer.

use super::containerd;
use super::manager::ServiceManager;
use super::placement::Change;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the package puts the interposer.
pub const INTERPOSER: &str = "/usr/libexec/transship/transship-runc";

/// CRIU's action script is the interposer, too: it knows the gate.
pub const ACTION_SCRIPT: &str = INTERPOSER;

/// The directory that is put in front of the services' `PATH`; it holds one link named `runc`.
pub const DIRECTORY: &str = "/usr/libexec/transship/bin";

/// `PATH` as Debian's and Docker's own units and scripts have it.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which `runc` the next container will be started by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interposition {
    /// The interposer.
    Interposed,
    /// The real runc: a container that is frozen now could not be restored.
    Bare { found: Option<PathBuf> },
    /// No containerd runs; nothing can be said.
    NoContainerd,
}

/// Looks into the running containerd's environment for the `runc` that its shims will run.
pub fn effective_runc() -> Interposition {
    let Some(environment) = containerd_environment() else { return Interposition::NoContainerd };
    let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(USUAL_PATH);
    let found = std::env::split_paths(path).map(|dir| dir.join("runc")).find(|candidate| candidate.is_file());
    match &found {
        Some(runc) if is_interposer(runc) => Interposition::Interposed,
        _ => Interposition::Bare { found },
    }
}

fn is_interposer(path: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(path), identity(Path::new(INTERPOSER))), (Ok(one), Ok(other)) if one == other)
}

/// The environment of the containerd that dockerd uses: its own child, or the system's service.
fn containerd_environment() -> Option<Vec<String>> {
    let pid = containerd::pid()?;
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    Some(bytes.split(|byte| *byte == 0).map(|variable| String::from_utf8_lossy(variable).into_owned()).collect())
}

/// What has to be changed on this host so that new shims find the interposer.
pub fn install_plan(manager: ServiceManager) -> Vec<Change> {
    let mut plan = vec![Change::Link { path: Path::new(DIRECTORY).join("runc"), target: INTERPOSER.into() }];
    match manager {
        ServiceManager::Systemd => {
            let services = ["docker", "containerd"].into_iter().filter(|service| manager.knows(service));
            plan.extend(services.map(drop_in));
        }
        ServiceManager::Sysv => plan.push(Change::block(Path::new("/etc/default/docker"), sysv_block())),
    }
    plan
}

fn drop_in(service: &str) -> Change {
    Change::File {
        path: format!("/etc/systemd/system/{service}.service.d/50-transship.conf").into(),
        text: format!(
            "# Lets containers be restored by transship; taken away by: transship uninstall\n\
             [Service]\nEnvironment=\"PATH={DIRECTORY}:{USUAL_PATH}\"\n"
        ),
    }
}

fn sysv_block() -> String {
    format!(
        "\n# Lets containers be restored by transship; taken away by: transship uninstall\n\
         export PATH=\"{DIRECTORY}:$PATH\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_systemd_nothing_but_etc_default_and_our_own_directory_is_touched() {
        let plan = install_plan(ServiceManager::Sysv);
        let described: Vec<String> = plan.iter().map(Change::describe).collect();
        assert_eq!(
            described,
            [
                "link /usr/libexec/transship/bin/runc to /usr/libexec/transship/transship-runc",
                "add a block to the end of /etc/default/docker",
            ]
        );
    }
}
