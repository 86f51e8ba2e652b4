//! Putting a container right after a dump that did not come to its end, and ending one without a word.

use crate::docker::{Client, DockerError};
use crate::network::inside;
use crate::network::netns::NetNs;
use std::path::Path;

/// Why a container could not be put right.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// Its network could not be put right.
    #[error("the network of process {pid} cannot be put right")]
    Network {
        pid: i32,
        #[source]
        source: crate::network::Error,
    },
    /// Docker did not end it.
    #[error("Docker could not end it")]
    Docker(#[from] DockerError),
}

/// Every process in the pid namespace of `init`, `init` included; empty when it has ended.
pub fn processes_of(init: i32) -> Vec<u32> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(&init.to_string()) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| namespace(name).as_ref() == Some(&wanted)).filter_map(|name| name.parse().ok()).collect()
}

/// Takes away what a CRIU that was killed in the middle left: its rules in the container's network, and sockets
/// in repair mode, which would stay dumb for ever. Harmless after a CRIU that ended by itself.
pub fn after_dump(init: i32) -> Result<(), MendError> {
    let processes = processes_of(init);
    if processes.is_empty() {
        return Ok(());
    }
    let network = |source| MendError::Network { pid: init, source };
    let netns = NetNs::of_process(init.unsigned_abs()).map_err(network)?;
    let mended = crate::network::mend::mend(&netns, &processes).map_err(network)?;
    if mended != crate::network::mend::Mended::default() {
        tracing::warn!(pid = init, ?mended, "mended what a dump that was cut short had left");
    }
    Ok(())
}

/// The processes of a dump that a killed helper had begun: without the helper it gives up by itself.
///
/// Such a CRIU is nobody's child here; it is found by its working directory's configuration file.
pub fn dumps(work: &Path) -> Vec<i32> {
    let marker = format!("CRIU_CONFIG_FILE={}", work.join("criu.conf").display());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_dump(*pid) && has_in_environment(*pid, &marker)).collect()
}

/// Waits for them.
pub fn wait_for_dump_to_end(work: &Path) {
    dumps(work).into_iter().for_each(crate::process::wait_for_end);
}

/// By its name: the environment of a container whose memory follows it can be read only when that has come.
fn is_dump(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| matches!(name.trim(), "runc" | "criu"))
}

fn has_in_environment(pid: i32, variable: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|found| found == variable.as_bytes()))
}

/// Nothing that the sockets of a container's processes say gets out any more.
pub fn silence(init: i32) -> Result<(), MendError> {
    if processes_of(init).is_empty() {
        return Ok(());
    }
    let network = |source| MendError::Network { pid: init, source };
    let netns = NetNs::of_process(init.unsigned_abs()).map_err(network)?;
    inside::silence(&netns).map_err(network)
}

/// Ends a container whose connections must live on elsewhere: nothing that its dying sockets say gets out.
pub fn end_silently(docker: &Client, container: &str, init: i32) -> Result<(), MendError> {
    if processes_of(init).is_empty() {
        return Ok(());
    }
    silence(init)?;
    match docker.kill(container) {
        Err(error) if error.is_not_running() => Ok(()),
        other => other.map_err(MendError::from),
    }
}
