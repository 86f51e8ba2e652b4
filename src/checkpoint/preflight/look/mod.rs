//! Collecting the facts: from /proc, sysfs, netlink and the engine's own words.
//!
//! Nothing here stops, traces or opens anything of the container: links are read, not followed, and files are asked
//! about only with what the kernel has at hand, so that a dead NFS server cannot hang the look. Processes come and
//! go meanwhile: those that vanish are left out.

mod diag;
mod engine;
mod host;
mod maps;
mod mounts;
mod process;
mod proxy;
mod sockets;
mod space;
mod stat;
mod watched;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

pub(super) use watched::overlay_watches;
pub use watched::watched_paths;

use super::facts::{ContainerFacts, FileKind, ProcessFacts};

/// Why a container could not be looked at.
#[derive(Debug, Error)]
pub enum LookError {
    /// The engine's description lacks what every container has.
    #[error("the engine's description of the container has no {field}")]
    Inspect { field: &'static str },
    /// A process of the container can be seen but not looked into.
    #[error("cannot look at process {pid} of the container")]
    Process {
        pid: i32,
        #[source]
        source: io::Error,
    },
    /// The kernel does not list the container's sockets.
    #[error("cannot list the container's sockets")]
    Sockets {
        #[source]
        source: io::Error,
    },
    /// The container's mounts cannot be read.
    #[error("cannot read the mounts of process {pid}")]
    Mounts {
        pid: i32,
        #[source]
        source: io::Error,
    },
    /// Nothing can be said about the place where checkpoints are stored.
    #[error("cannot tell the free space of {}", path.display())]
    Store {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl ContainerFacts {
    /// Looks at the container that `docker inspect` describes, whose cgroup holds `pids`. `store` is where its
    /// checkpoint would be kept.
    pub fn collect(inspect: &Value, pids: &[i32], store: &Path) -> Result<Self, LookError> {
        let engine = engine::facts(inspect)?;
        let mut processes = Vec::with_capacity(pids.len());
        for &pid in pids {
            let seen = process::facts(pid).map_err(|source| LookError::Process { pid, source })?;
            processes.extend(seen);
        }
        let mut facts = Self { engine, processes, ..Self::default() };
        facts.host_user_namespace = process::namespace("self", "user").unwrap_or_default();
        facts.space.free =
            space::free(store).map_err(|source| LookError::Store { path: store.to_path_buf(), source })?;
        if facts.init().is_some() {
            facts.look_around_init()?;
        }
        Ok(facts)
    }

    /// What is seen through the first process: sockets, mounts, the writable layer.
    fn look_around_init(&mut self) -> Result<(), LookError> {
        let pid = self.engine.init_pid;
        let sockets = |source| LookError::Sockets { source };
        let owned = owned_sockets(&self.processes);
        self.mounts = mounts::facts(pid).map_err(|source| LookError::Mounts { pid, source })?;
        self.external_unix = sockets::external_unix(pid, &owned).map_err(sockets)?;
        self.waiting = sockets::waiting(pid, &owned).map_err(sockets)?;
        self.netlink = sockets::netlink(pid, &owned).map_err(sockets)?;
        self.proxied = proxy::connections(&self.engine.addresses);
        space::look(self);
        Ok(())
    }
}

fn owned_sockets(processes: &[ProcessFacts]) -> HashSet<u64> {
    let files = processes.iter().flat_map(|process| &process.files);
    files
        .filter_map(|file| match file.kind {
            FileKind::Socket { inode, .. } => Some(inode),
            _ => None,
        })
        .collect()
}
