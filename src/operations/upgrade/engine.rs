//! The engine's own restart.

use crate::failure::{Failure, OrFail};
use crate::packages::without_epoch;
use crate::services::{Ending, Interposition, ManagerError, ServiceManager, effective_runc};
use crate::world::Context;
use std::time::Duration;

/// How long dockerd may take until it answers. It answers when it has looked at all its containers, and there may be
/// hundreds.
const LONGEST_START: Duration = Duration::from_secs(120);

/// Stops dockerd, restarts containerd where that is a service of its own, and starts dockerd; returns when it answers.
///
/// Running containers that were not frozen end with dockerd, unless it has live-restore.
pub fn restart(context: &Context) -> Result<(), Failure> {
    let manager = ServiceManager::of_this_host();
    stop(context, manager).or_fail(|| "dockerd cannot be stopped".into())?;
    if manager.knows("containerd") {
        manager.restart("containerd").or_fail(|| "containerd cannot be restarted".into())?;
    }
    manager
        .begin_to_start("docker")
        .or_fail(|| "dockerd cannot be started".into())
        .map_err(|failure| failure.details(manager.log("docker")))?;
    let is_hopeless = || manager.has_failed("docker");
    context
        .docker
        .wait_until_up(LONGEST_START, is_hopeless)
        .or_fail(|| "dockerd does not come up".into())
        .map_err(|failure| failure.details(manager.log("docker")))
}

/// Stops dockerd, and has it wait for nobody: containers are away meanwhile.
fn stop(context: &Context, manager: ServiceManager) -> Result<(), ManagerError> {
    let keeps_books_open = context.docker.keeps_books_open().ok();
    let ending = keeps_books_open.and_then(|keeps| Ending::of_dockerd(manager, keeps)).zip(std::io::pipe().ok());
    std::thread::scope(|threads| {
        let stopping = ending.map(|(ending, (reader, writer))| {
            threads.spawn(move || ending.hasten(reader));
            writer
        });
        let stopped = manager.stop("docker");
        drop(stopping);
        stopped
    })
}

/// A helper that was killed between dockerd's end and its new start has left nobody to start it.
pub fn ensure_starts() -> Result<(), Failure> {
    let manager = ServiceManager::of_this_host();
    match manager.is_active("docker") {
        true => Ok(()),
        false => manager.begin_to_start("docker").or_fail(|| "dockerd cannot be started".into()),
    }
}

/// Fails where dockerd is not the one that the packages brought, or would not find the interposer.
pub fn require(context: &Context, package_version: Option<&str>) -> Result<(), Failure> {
    let version = context.docker.version().or_fail(|| "Docker does not say what it is".into())?;
    if let Some(wanted) = package_version.filter(|wanted| !is_of_package(&version, wanted)) {
        return Err(Failure::new(format!("dockerd {version} runs, and {wanted} is installed")));
    }
    match effective_runc() {
        Interposition::Interposed => Ok(()),
        _ => Err(Failure::new("the interposer is not in front of runc any more")),
    }
}

/// Whether dockerd of this version is the one in the package: `28.5.2+dfsg4` in `28.5.2+dfsg4-1+b2`, `28.5.2` in
/// `5:28.5.2-1~debian.13~trixie`.
fn is_of_package(engine: &str, package: &str) -> bool {
    without_epoch(package).strip_prefix(engine).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+', '~']))
}

#[cfg(test)]
mod tests {
    use super::is_of_package;

    #[test]
    fn the_server_is_told_by_its_packages_version() {
        assert!(is_of_package("28.5.2+dfsg4", "28.5.2+dfsg4-1+b2"));
        assert!(is_of_package("28.5.2", "5:28.5.2-1~debian.13~trixie"));
        assert!(is_of_package("26.1.5", "26.1.5+dfsg1-9"));
        assert!(!is_of_package("26.1.5+dfsg1", "28.5.2+dfsg4-1"));
        assert!(!is_of_package("28.5.2", "28.5.21-1"));
    }
}
