//! What was seen, as plain data: the rules know nothing else.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use serde::Serialize;

use crate::criu::rpc::Version;

/// A program that freezing depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "detail")]
pub enum Tool {
    #[default]
    Missing,
    /// It is there and does not tell its version; the reason.
    Broken(String),
    Version(Version),
}

/// What the host offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    pub criu: Tool,
    pub runc: Tool,
    /// The kernel's major and minor version.
    pub kernel: (u32, u32),
    /// Whether dockerd calls the interposer instead of runc; told, not seen.
    pub interposer: bool,
    /// Capabilities of the helper's process, as a bit mask.
    pub capabilities: u64,
    /// `CONFIG_CHECKPOINT_RESTORE`: `/proc/self/map_files` and `ns_last_pid` are there.
    pub checkpoint_restore: bool,
    /// Why a TCP socket cannot be put in repair mode, where it cannot.
    pub tcp_repair_error: Option<String>,
    /// Kernel modules that list sockets, where they are missing: `tcp_diag`, `unix_diag` ...
    pub missing_diag: Vec<String>,
    /// Whether there is a cgroup freezer (version 1's controller, or version 2).
    pub freezer: bool,
    /// Which of the programs that lock a network are missing: `iptables-restore`, `ip6tables-restore`.
    pub missing_iptables: Vec<String>,
    /// How `/etc/criu/runc.conf` says that CRIU locks networks: `iptables`, `nftables` or `skip`.
    pub network_lock: Option<String>,
}

/// All that was seen of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContainerFacts {
    pub engine: EngineFacts,
    pub processes: Vec<ProcessFacts>,
    /// The container's unix sockets whose other end is not in the container.
    pub external_unix: Vec<ExternalUnix>,
    pub netlink: Vec<NetlinkSocket>,
    /// Listening TCP sockets with connections that were not accepted yet.
    pub waiting: Vec<WaitingConnections>,
    pub mounts: Vec<MountFacts>,
    pub proxied: Vec<ProxiedConnections>,
    pub space: SpaceFacts,
    /// The user namespace of the host, to tell a remapped one.
    pub host_user_namespace: u64,
}

impl ContainerFacts {
    /// The container's first process.
    pub fn init(&self) -> Option<&ProcessFacts> {
        self.processes.iter().find(|process| process.pid == self.engine.init_pid)
    }

    /// Whether a process is its first one or descends from it. What `docker exec` starts, a health check among it, does not:
    /// CRIU dumps the tree only.
    pub fn is_in_tree(&self, process: &ProcessFacts) -> bool {
        let parents: HashMap<i32, i32> = self.processes.iter().map(|other| (other.pid, other.parent)).collect();
        let mut at = process.pid;
        // No tree is deeper than it has members, whatever was read while it changed.
        for _ in 0..=self.processes.len() {
            if at == self.engine.init_pid {
                return true;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    }

    /// Memory that its processes have of their own, in bytes. What is shared counts with each that has it.
    pub fn memory(&self) -> u64 {
        let by_process = self.processes.iter().map(|process| process.anonymous + process.shared + process.swapped);
        by_process.fold(self.space.tmpfs, u64::saturating_add)
    }
}

/// What Docker says of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineFacts {
    pub id: String,
    /// Without Docker's leading slash.
    pub name: String,
    /// Docker's word: `running`, `paused`, `restarting`, `exited` ...
    pub status: String,
    /// Seen from the host.
    pub init_pid: i32,
    pub runtime: String,
    pub storage_driver: String,
    pub auto_remove: bool,
    /// Whether a swarm's scheduler has put it here.
    pub swarm_task: bool,
    pub restart_policy: String,
    pub network_mode: String,
    pub pid_mode: String,
    pub ipc_mode: String,
    pub uts_mode: String,
    pub privileged: bool,
    pub tty: bool,
    pub open_stdin: bool,
    /// Drivers of the devices asked for by `--gpus` and its like.
    pub device_requests: Vec<String>,
    /// Paths inside the container of the devices given by `--device`.
    pub devices: Vec<String>,
    pub mounts: Vec<EngineMount>,
    /// The health check's command, as Docker runs it; empty where there is none.
    pub health_check: Vec<String>,
    pub apparmor_profile: String,
    pub selinux_label: String,
    /// All its addresses.
    pub addresses: Vec<String>,
}

/// A mount that Docker made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineMount {
    /// `bind`, `volume`, `tmpfs` ...
    pub kind: String,
    pub name: String,
    pub source: String,
    pub destination: String,
    pub driver: String,
    pub propagation: String,
}

/// One process of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessFacts {
    /// Seen from the host.
    pub pid: i32,
    pub parent: i32,
    /// Seen from the innermost pid namespace.
    pub inner_pid: i32,
    /// 0 where the session's leader is outside of that namespace.
    pub inner_session: i32,
    /// Whether the session has a terminal whose foreground process group is not the session leader's.
    pub terminal_taken: bool,
    pub name: String,
    pub command: Vec<String>,
    /// The kernel's letter: R S D Z T t I.
    pub state: char,
    pub threads: u32,
    /// Who traces it; 0 for nobody.
    pub tracer: i32,
    /// Namespace inode numbers by the kernel's names: `pid`, `mnt`, `net`, `user` ...
    pub namespaces: BTreeMap<String, u64>,
    /// Only the files that some rule looks at, not every open one.
    pub files: Vec<OpenFile>,
    pub maps: MapFacts,
    /// Memory that a dump has to write, in bytes: anonymous, shared and swapped.
    pub anonymous: u64,
    pub shared: u64,
    pub swapped: u64,
}

/// An open file that may be in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenFile {
    pub fd: i32,
    pub kind: FileKind,
}

/// What an open file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FileKind {
    Socket {
        inode: u64,
        protocol: String,
    },
    /// A device, with the file system that its node lies on.
    Device {
        path: String,
        block: bool,
        major: u32,
        minor: u32,
        on: DeviceNumber,
    },
    /// An anonymous inode by the kernel's name, without brackets: `eventpoll`, `io_uring` ...
    Anonymous {
        name: String,
    },
    /// An inotify or fanotify descriptor.
    Watcher {
        fanotify: bool,
        watches: Vec<Watch>,
    },
    /// A file without a name any more.
    Deleted(DeletedFile),
    /// Something the kernel describes in a way that is not known here.
    Unknown {
        link: String,
    },
}

/// A device number, major and minor.
pub type DeviceNumber = (u32, u32);

/// What a watch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Watch {
    pub device: DeviceNumber,
    pub inode: u64,
    /// The kernel's type of file handle; 0xf8 for overlayfs.
    pub handle_type: u32,
}

/// A deleted file that is still open or mapped; CRIU puts its content into the images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeletedFile {
    pub path: String,
    pub device: DeviceNumber,
    pub inode: u64,
    /// On disk.
    pub bytes: u64,
}

/// What of a process' mappings may be in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MapFacts {
    /// Devices and anonymous inodes that are mapped.
    pub devices: Vec<String>,
    pub deleted: Vec<DeletedFile>,
    pub secret_memory: bool,
    pub uprobes: bool,
    pub sysv_shared: bool,
    pub huge_pages: bool,
}

/// A unix socket whose other end is outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExternalUnix {
    pub inode: u32,
    /// A datagram socket, whose other end need only have a name.
    pub datagram: bool,
    pub peer: u32,
    /// What the other end is called, where it could be found.
    pub peer_name: Option<String>,
}

/// A netlink socket of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetlinkSocket {
    pub inode: u64,
    pub protocol: u32,
    /// Bytes that it has received and nobody has read.
    pub unread: u64,
}

/// Connections that wait for `accept`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WaitingConnections {
    pub port: u16,
    pub count: u32,
}

/// A mount in the container's mount namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MountFacts {
    pub device: DeviceNumber,
    pub root: String,
    pub mount_point: String,
    pub file_system: String,
    /// The superblock's options.
    pub options: String,
    /// The mount's peer group lies outside of the namespace.
    pub slave: bool,
}

/// Connections that end in Docker's userland proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProxiedConnections {
    pub host_port: u16,
    pub container_port: u16,
    /// The clients' addresses.
    pub clients: Vec<String>,
    /// The proxy's own ends of its connections to the container.
    pub ends: Vec<SocketAddr>,
}

/// What a checkpoint needs and what there is, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpaceFacts {
    /// Contents of the container's own tmpfs mounts.
    pub tmpfs: u64,
    /// The root filesystem's writable layer, `None` where it cannot be read.
    pub layer: Option<u64>,
    /// The layer has more files than were counted.
    pub layer_partly: bool,
    /// Free where checkpoints are stored.
    pub free: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_parents_ends() {
        let process = |pid, parent| ProcessFacts { pid, parent, ..ProcessFacts::default() };
        let mut facts = ContainerFacts::default();
        facts.engine.init_pid = 1;
        facts.processes = vec![process(1, 0), process(2, 1), process(300, 301), process(301, 300)];
        assert_eq!(facts.processes.iter().filter(|process| facts.is_in_tree(process)).count(), 2);
    }
}
