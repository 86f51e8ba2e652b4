//! The rules: one function for each thing that is known to break a checkpoint, from facts to findings.

mod engine;
mod files;
mod host;
mod memory;
mod mounts;
mod namespaces;
mod network;
mod processes;
mod space;

use super::facts::{ContainerFacts, HostFacts, ProcessFacts, Tool};
use super::{Context, Finding};
use crate::criu::rpc::Version;

pub(super) use host::judge as host;
pub use space::needed as space_needed;

/// All rules for a container. One that does not run is only told that.
pub(super) fn container(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    let state = engine::state(facts);
    if !state.is_empty() && facts.processes.is_empty() {
        return state;
    }
    let groups: [fn(&ContainerFacts, &Context<'_>) -> Vec<Finding>; 8] = [
        engine::judge,
        processes::judge,
        files::judge,
        memory::judge,
        namespaces::judge,
        network::judge,
        mounts::judge,
        space::judge,
    ];
    state.into_iter().chain(groups.iter().flat_map(|judge| judge(facts, context))).collect()
}

/// How a process is named to people.
fn process_subject(facts: &ContainerFacts, process: &ProcessFacts) -> String {
    format!("{}: {} ({})", facts.engine.name, process.name, process.pid)
}

/// Whether the host's CRIU is at least this one; false where its version is unknown.
fn criu_at_least(host: &HostFacts, major: u32, minor: u32) -> bool {
    matches!(&host.criu, Tool::Version(version) if *version >= Version::new(major, minor, 0))
}

/// Sizes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `1 connection`, `2 connections`.
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
pub(super) mod testing {
    //! An ordinary container that every rule lets pass, to be spoilt by the tests one way each.

    use super::super::facts::{DeviceNumber, EngineFacts, FileKind, MountFacts, OpenFile, SpaceFacts};
    use super::super::{Purpose, Severity};
    use super::*;

    pub fn host_facts() -> HostFacts {
        HostFacts {
            criu: Tool::Version(Version::new(4, 2, 1)),
            runc: Tool::Version(Version::new(1, 3, 6)),
            kernel: (6, 12),
            interposer: true,
            capabilities: u64::MAX,
            checkpoint_restore: true,
            freezer: true,
            ..HostFacts::default()
        }
    }

    pub fn process(pid: i32, parent: i32, name: &str) -> ProcessFacts {
        let kinds = ["pid", "mnt", "net", "user", "ipc", "uts", "cgroup", "time", "pid_for_children"];
        ProcessFacts {
            pid,
            parent,
            inner_pid: pid - 99,
            inner_session: 1,
            name: name.into(),
            command: vec![format!("/usr/bin/{name}")],
            state: 'S',
            threads: 4,
            namespaces: kinds.iter().map(|kind| ((*kind).into(), if *kind == "user" { 1 } else { 5 })).collect(),
            anonymous: 20 << 20,
            ..ProcessFacts::default()
        }
    }

    pub fn facts() -> ContainerFacts {
        let open = |fd, kind| OpenFile { fd, kind };
        let device =
            |path: &str, major, minor| FileKind::Device { path: path.into(), block: false, major, minor, on: (0, 6) };
        let mut init = process(100, 50, "nginx");
        init.files = vec![
            open(0, device("/dev/null", 1, 3)),
            open(4, FileKind::Socket { inode: 7, protocol: "TCP".into() }),
            open(5, FileKind::Socket { inode: 8, protocol: "UNIX-STREAM".into() }),
            open(6, FileKind::Anonymous { name: "eventpoll".into() }),
        ];
        ContainerFacts {
            engine: EngineFacts {
                id: "0123456789ab".into(),
                name: "web".into(),
                status: "running".into(),
                init_pid: 100,
                runtime: "runc".into(),
                storage_driver: "overlay2".into(),
                network_mode: "bridge".into(),
                ipc_mode: "private".into(),
                apparmor_profile: "docker-default".into(),
                ..EngineFacts::default()
            },
            processes: vec![init, process(101, 100, "worker")],
            mounts: vec![
                mount((0, 65), "/", "overlay"),
                mount((0, 70), "/dev", "tmpfs"),
                mount((0, 6), "/dev/pts", "devpts"),
            ],
            space: SpaceFacts { tmpfs: 4096, layer: Some(1 << 20), layer_partly: false, free: 100 << 30 },
            host_user_namespace: 1,
            ..ContainerFacts::default()
        }
    }

    pub fn mount(device: DeviceNumber, mount_point: &str, file_system: &str) -> MountFacts {
        MountFacts {
            device,
            root: "/".into(),
            mount_point: mount_point.into(),
            file_system: file_system.into(),
            options: "rw".into(),
            slave: false,
        }
    }

    pub fn context(host: &HostFacts, purpose: Purpose) -> Context<'_> {
        Context { host, purpose, group: &[], ghost_limit: 1 << 30, irmap_paths: true }
    }

    pub fn container_findings(facts: &ContainerFacts, context: &Context<'_>) -> Vec<(&'static str, Severity)> {
        container(facts, context).iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    /// Codes and severities of what is found in an ordinary container that was spoilt.
    pub fn found(purpose: Purpose, spoil: impl FnOnce(&mut ContainerFacts)) -> Vec<(&'static str, Severity)> {
        let mut facts = facts();
        spoil(&mut facts);
        let host = host_facts();
        container_findings(&facts, &context(&host, purpose))
    }

    pub fn refused(spoil: impl FnOnce(&mut ContainerFacts)) -> Vec<&'static str> {
        let found = found(Purpose::Freeze, spoil).into_iter();
        found.filter(|(_, severity)| *severity == Severity::Refuse).map(|(code, _)| code).collect()
    }

    pub fn warned(spoil: impl FnOnce(&mut ContainerFacts)) -> Vec<&'static str> {
        let found = found(Purpose::Freeze, spoil).into_iter();
        found.filter(|(_, severity)| *severity == Severity::Warn).map(|(code, _)| code).collect()
    }

    #[test]
    fn an_ordinary_container_passes_for_every_purpose() {
        for purpose in [Purpose::Freeze, Purpose::LeaveRunning, Purpose::Migrate] {
            assert_eq!(found(purpose, |_| {}), []);
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!((size(17), size(1536), size(5 << 30)), ("17 B".into(), "1.5 KiB".into(), "5.0 GiB".into()));
        assert_eq!((count(1, "client"), count(2, "client")), ("1 client".into(), "2 clients".into()));
    }
}
