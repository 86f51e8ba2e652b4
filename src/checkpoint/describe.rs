//! The manifest of a container that is being frozen.

use crate::criu::rpc::Criu;
use crate::docker::{Container, Engine};
use crate::network::netns::NetNs;
use crate::store::address::{InterfaceAddress, MacAddress};
use crate::store::id::{CheckpointId, CheckpointName, ContainerId};
use crate::store::manifest::{self, CgroupVersion, Dump, Interface, Manifest, Network, Origin};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

/// What can be told before the container stands still.
#[derive(Debug, Clone)]
pub struct Surroundings {
    origin: Origin,
    network: Network,
}

impl Surroundings {
    /// Looks at the host and at the network of the container whose first process is `init`.
    pub fn of(engine: &Engine, container: &Container, init: i32) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self { origin: origin(engine)?, network: network(container.hostname().to_owned(), init)? })
    }
}

/// What the operation knows and the container does not.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What was told before.
    pub surroundings: &'a Surroundings,
    /// The new checkpoint.
    pub id: &'a CheckpointId,
    /// Its name, where one was given.
    pub name: Option<&'a CheckpointName>,
    /// The checkpoints that are taken together, the owner of the network first.
    pub group: &'a [CheckpointId],
    /// Whether the container runs on.
    pub leave_running: bool,
    /// Whether its memory is not in the images.
    pub memory_follows: bool,
    /// The first process.
    pub init: i32,
    /// When it was frozen.
    pub frozen_at: jiff::Timestamp,
    /// How long each phase took so far, in microseconds.
    pub timings: &'a BTreeMap<String, u64>,
    /// Processes that were stopped before it was frozen.
    pub stopped: &'a [Stopped],
    /// The images.
    pub images: &'a Path,
}

/// Describes a frozen container, all but the files' digests, which sealing adds.
pub fn manifest(container: &Container, facts: &Facts<'_>) -> Result<Manifest, Box<dyn Error + Send + Sync>> {
    let processes = super::mend::processes_of(facts.init);
    Ok(Manifest {
        format: manifest::FORMAT,
        id: facts.id.clone(),
        name: facts.name.cloned(),
        created: facts.frozen_at,
        transship: env!("CARGO_PKG_VERSION").to_owned(),
        origin: facts.surroundings.origin.clone(),
        container: manifest::Container {
            id: container.id().parse::<ContainerId>()?,
            name: container.name().to_owned(),
            image: container.image().to_owned(),
            image_id: container.image_id().to_owned(),
            spec: container.inspect().clone(),
        },
        group: facts.group.to_vec(),
        dump: Dump {
            tcp_established: true,
            tty: container.has_terminal(),
            leave_running: facts.leave_running,
            memory_follows: facts.memory_follows,
            processes: u32::try_from(processes.len())?,
            stopped_pids: facts.stopped.iter().map(|process| process.inner).collect(),
            pages_bytes: pages_bytes(facts.images),
        },
        network: facts.surroundings.network.clone(),
        timings: facts.timings.clone(),
        images: Vec::new(),
        parents: Vec::new(),
        rootfs: None,
        extra: Vec::new(),
    })
}

/// The host, as a checkpoint made here would tell it.
pub fn origin(engine: &Engine) -> Result<Origin, Box<dyn Error + Send + Sync>> {
    let component =
        |name: &str| engine.components.iter().find(|(found, _)| found == name).map(|(_, version)| version.clone());
    let host = nix::sys::utsname::uname()?;
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    Ok(Origin {
        hostname: text(host.nodename()),
        kernel: text(host.release()),
        engine: engine.version.clone(),
        containerd: component("containerd"),
        runc: component("runc").unwrap_or_default(),
        criu: Criu::in_path()?.version()?.to_string(),
        cgroup: if engine.cgroup_version == "2" { CgroupVersion::V2 } else { CgroupVersion::V1 },
        architecture: text(host.machine()),
        storage_driver: engine.storage_driver.clone(),
    })
}

fn network(hostname: String, init: i32) -> Result<Network, Box<dyn Error + Send + Sync>> {
    let interfaces = NetNs::of_process(u32::try_from(init)?)?.interfaces()?;
    let interfaces = interfaces.into_iter().filter(|interface| interface.name != "lo");
    let describe = |interface: crate::network::netns::Interface| Interface {
        mac: interface.mac.map(MacAddress),
        addresses: interface
            .addresses
            .iter()
            .filter_map(|address| format!("{}/{}", address.address, address.prefix).parse::<InterfaceAddress>().ok())
            .collect(),
        name: interface.name,
    };
    Ok(Network { hostname, interfaces: interfaces.map(describe).collect() })
}

/// Bytes of memory in a directory of CRIU's images.
pub fn pages_bytes(images: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(images) else { return 0 };
    let pages = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"));
    pages.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

/// A process that was stopped by a signal (job control) before the container was frozen: it stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Its pid on the host.
    pub outer: i32,
    /// Its pid in the container's namespace.
    pub inner: i32,
}

/// The stopped processes in the pid namespace of `init`.
pub fn stopped_processes(init: i32) -> Vec<Stopped> {
    let pids = super::mend::processes_of(init).into_iter();
    let stopped =
        pids.filter_map(|pid| Some(Stopped { outer: i32::try_from(pid).ok()?, inner: stopped_inner_pid(pid)? }));
    stopped.collect()
}

/// The pid inside the namespace, if the process is stopped.
fn stopped_inner_pid(pid: u32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    if !field("State:")?.trim().starts_with('T') {
        return None;
    }
    field("NSpid:")?.split_whitespace().last()?.parse().ok()
}
