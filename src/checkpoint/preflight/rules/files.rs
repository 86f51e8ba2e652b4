//! What processes have open. After CRIU's `files.c`, `tty.c` and `fsnotify.c`.

use std::collections::BTreeSet;

use super::super::facts::{ContainerFacts, DeletedFile, DeviceNumber, FileKind, OpenFile, ProcessFacts};
use super::super::{Context, Finding};
use super::{criu_at_least, process_subject, size};
use crate::checkpoint::preflight::look::overlay_watches;

/// Anonymous inodes that CRIU dumps.
const DUMPED: [&str; 5] = ["eventfd", "eventpoll", "signalfd", "timerfd", "pidfd"];
const MEMORY_DEVICES: u32 = 1;
const TUN: DeviceNumber = (10, 200);
/// `/dev/tty`, whatever the terminal is.
const CONTROLLING_TERMINAL: (u32, u32) = (5, 0);
const AUTOFS: DeviceNumber = (10, 235);

/// The rules on open files.
pub(super) fn judge(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for process in &facts.processes {
        let mut told = BTreeSet::new();
        for file in &process.files {
            // A thousand descriptors of one kind are one finding.
            let finding = one(facts, process, file, context).filter(|finding| told.insert(finding.reason.clone()));
            found.extend(finding);
        }
    }
    found.extend(watches(facts, context));
    found.extend(deleted(facts, context));
    found
}

fn one(facts: &ContainerFacts, process: &ProcessFacts, file: &OpenFile, context: &Context<'_>) -> Option<Finding> {
    let subject = process_subject(facts, process);
    match &file.kind {
        FileKind::Anonymous { name } => anonymous(subject, name, context),
        FileKind::Device { path, block, major, minor, on } => {
            let terminal = is_pseudo_terminal(*major).then_some(*on);
            if *block || !is_dumped(*major, *minor) {
                return Some(device(subject, path));
            }
            tun(subject.clone(), (*major, *minor))
                .or_else(|| controlling_terminal(process, subject.clone(), (*major, *minor)))
                .or_else(|| foreign_terminal(facts, subject, path, terminal))
        }
        FileKind::Unknown { link } => Some(Finding::warn(
            "file.unknown",
            subject,
            format!("Descriptor {} is of a kind that is not known here: {link}.", file.fd),
            "Try a checkpoint with --leave-running first.",
        )),
        FileKind::Socket { .. } | FileKind::Watcher { .. } | FileKind::Deleted(_) => None,
    }
}

fn anonymous(subject: String, name: &str, context: &Context<'_>) -> Option<Finding> {
    if name == "pidfd" && !criu_at_least(context.host, 4, 1) {
        return Some(Finding::refuse(
            "file.pidfd",
            subject,
            "The process has a pidfd open, which this CRIU cannot dump.",
            "Install CRIU 4.1 or newer.",
        ));
    }
    if DUMPED.contains(&name) {
        return None;
    }
    Some(match name {
        "io_uring" => Finding::refuse(
            "file.io-uring",
            subject,
            "The process uses io_uring, which CRIU cannot dump.",
            "Switch it off in the program (for node: UV_USE_IO_URING=0), or forbid it by seccomp, and restart it.",
        ),
        _ => Finding::refuse(
            "file.anonymous",
            subject,
            format!("The process has a kernel object open ({name}) that CRIU cannot dump."),
            "Run the program without the feature that needs it, or stop the container for the operation.",
        ),
    })
}

/// Character devices that CRIU dumps: memory devices (null, zero, full, random, urandom ...), terminals, tun, autofs.
fn is_dumped(major: u32, minor: u32) -> bool {
    match major {
        MEMORY_DEVICES => true,
        4 => (1..=63).contains(&minor),
        5 => minor <= 2,
        // USB and low density serial lines, which are terminals too.
        188 | 204 => true,
        _ => is_pseudo_terminal(major) || [TUN, AUTOFS].contains(&(major, minor)),
    }
}

/// Masters are 128 to 135, slaves from 136 on.
fn is_pseudo_terminal(major: u32) -> bool {
    (128..=136).contains(&major)
}

fn device(subject: String, path: &str) -> Finding {
    if ["/dev/nvidia", "/dev/dri/", "/dev/kfd"].iter().any(|start| path.starts_with(start)) {
        return Finding::refuse(
            "file.gpu",
            subject,
            format!("The process uses a graphics processor ({path}), whose memory is not part of a checkpoint."),
            "Stop the container for the operation.",
        );
    }
    Finding::refuse(
        "file.device",
        subject,
        format!("The process has the device {path} open, which CRIU cannot dump."),
        "Have the program close it, or stop the container for the operation.",
    )
}

fn tun(subject: String, device: DeviceNumber) -> Option<Finding> {
    (device == TUN).then(|| {
        Finding::refuse(
            "file.tun",
            subject,
            "The process has a tun or tap interface, which goes with the network namespace and is not restored.",
            "Stop the container for the operation.",
        )
    })
}

/// CRIU dumps `/dev/tty` only while the session leader's own group has the terminal (`tty_verify_ctty`, `criu/tty.c`).
fn controlling_terminal(process: &ProcessFacts, subject: String, number: (u32, u32)) -> Option<Finding> {
    let refused = number == CONTROLLING_TERMINAL && process.terminal_taken;
    refused.then(|| {
        Finding::refuse(
            "file.controlling-terminal",
            subject,
            "The process has /dev/tty open while a job, or a child of --init, has the terminal, which CRIU cannot dump.",
            "End the foreground job, or run this program without --init.",
        )
    })
}

/// A terminal that lies on no devpts of the container was passed in from outside.
fn foreign_terminal(facts: &ContainerFacts, subject: String, path: &str, on: Option<DeviceNumber>) -> Option<Finding> {
    let on = on?;
    if facts.mounts.iter().any(|mount| mount.device == on) {
        return None;
    }
    Some(Finding::refuse(
        "file.terminal",
        subject,
        format!("The process has a terminal from outside of the container open ({path})."),
        "End the process, or start it from a terminal of the container.",
    ))
}

/// CRIU before 4.3 does not find watched files on overlayfs, unless it is told where they are.
fn watches(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let count = overlay_watches(facts).len();
    if count == 0 || context.irmap_paths || criu_at_least(context.host, 4, 3) {
        return None;
    }
    Some(Finding::refuse(
        "file.watch-overlay",
        &facts.engine.name,
        format!("The container watches {count} of its files by inotify, which this CRIU cannot find on overlayfs."),
        "Install CRIU 4.3 or newer, or name the files in its configuration by irmap-scan-path.",
    ))
}

/// CRIU stores the content of deleted files, up to a limit.
fn deleted(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let largest = deleted_files(facts).max_by_key(|file| file.bytes)?;
    if largest.bytes <= context.ghost_limit {
        return None;
    }
    Some(Finding::refuse(
        "file.deleted",
        &facts.engine.name,
        format!(
            "The file {} is deleted, still open, and {} large; the limit is {}.",
            largest.path,
            size(largest.bytes),
            size(context.ghost_limit)
        ),
        "Have the program close it, for most by reopening its logs or restarting it, or raise the limit.",
    ))
}

/// Deleted files that are open or mapped; one that several processes have comes several times.
pub(super) fn deleted_files(facts: &ContainerFacts) -> impl Iterator<Item = &DeletedFile> {
    facts.processes.iter().flat_map(|process| {
        let open = process.files.iter().filter_map(|file| match &file.kind {
            FileKind::Deleted(deleted) => Some(deleted),
            _ => None,
        });
        open.chain(&process.maps.deleted)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Tool, Watch};
    use super::super::super::{Purpose, Severity};
    use super::super::testing::{container_findings, context, facts, host_facts, refused, warned};
    use super::*;
    use crate::criu::rpc::Version;

    fn with(kind: FileKind) -> impl Fn(&mut ContainerFacts) {
        move |f| f.processes[1].files.push(OpenFile { fd: 9, kind: kind.clone() })
    }

    fn anonymous(name: &str) -> FileKind {
        FileKind::Anonymous { name: name.into() }
    }

    fn device(path: &str, major: u32, minor: u32, on: DeviceNumber) -> FileKind {
        FileKind::Device { path: path.into(), block: false, major, minor, on }
    }

    #[test]
    fn kernel_objects_are_judged_by_what_criu_dumps() {
        for name in ["eventfd", "eventpoll", "signalfd", "timerfd", "pidfd"] {
            assert!(refused(with(anonymous(name))).is_empty(), "{name}");
        }
        assert_eq!(refused(with(anonymous("io_uring"))), ["file.io-uring"]);
        for name in ["bpf-map", "bpf-prog", "perf_event", "userfaultfd", "kvm-vm", "landlock-ruleset", "dmabuf"] {
            assert_eq!(refused(with(anonymous(name))), ["file.anonymous"], "{name}");
        }
    }

    #[test]
    fn an_old_criu_knows_no_pidfd() {
        let mut facts = facts();
        with(anonymous("pidfd"))(&mut facts);
        let mut host = host_facts();
        host.criu = Tool::Version(Version::new(4, 0, 0));
        let found = container_findings(&facts, &context(&host, Purpose::Freeze));
        assert_eq!(found, [("file.pidfd", Severity::Refuse)]);
    }

    #[test]
    fn devices_are_judged_by_number() {
        let inside = (0, 6);
        for (path, major, minor) in
            [("/dev/urandom", 1, 9), ("/dev/tty", 5, 0), ("/dev/ptmx", 5, 2), ("/dev/pts/0", 136, 0)]
        {
            assert!(refused(with(device(path, major, minor, inside))).is_empty(), "{path}");
        }
        assert_eq!(refused(with(device("/dev/fuse", 10, 229, inside))), ["file.device"]);
        assert_eq!(refused(with(device("/dev/kvm", 10, 232, inside))), ["file.device"]);
        assert_eq!(refused(with(device("/dev/nvidia0", 195, 0, inside))), ["file.gpu"]);
        assert_eq!(refused(with(device("/dev/net/tun", 10, 200, inside))), ["file.tun"]);
        let block = FileKind::Device { path: "/dev/sda".into(), block: true, major: 8, minor: 0, on: inside };
        assert_eq!(refused(with(block)), ["file.device"]);
    }

    #[test]
    fn a_terminal_must_be_the_containers_own() {
        assert_eq!(refused(with(device("/dev/pts/3", 136, 3, (0, 99)))), ["file.terminal"]);
    }

    #[test]
    fn the_controlling_terminal_must_be_with_the_session_leader() {
        let taken = |facts: &mut ContainerFacts| {
            with(device("/dev/tty", 5, 0, (0, 6)))(facts);
            facts.processes.iter_mut().for_each(|process| process.terminal_taken = true);
        };
        assert_eq!(refused(taken), ["file.controlling-terminal"]);
    }

    #[test]
    fn watches_on_overlayfs_need_a_newer_criu_or_their_paths() {
        let watch = Watch { device: (0, 65), inode: 7, handle_type: 0xf8 };
        let mut facts = facts();
        with(FileKind::Watcher { fanotify: false, watches: vec![watch] })(&mut facts);
        let mut host = host_facts();
        let told = context(&host, Purpose::Freeze);
        assert_eq!(container_findings(&facts, &told), []);
        let untold = Context { irmap_paths: false, ..told };
        assert_eq!(container_findings(&facts, &untold), [("file.watch-overlay", Severity::Refuse)]);
        host.criu = Tool::Version(Version::new(4, 3, 0));
        let newer = Context { irmap_paths: false, ..context(&host, Purpose::Freeze) };
        assert_eq!(container_findings(&facts, &newer), []);
    }

    #[test]
    fn a_deleted_file_counts_up_to_the_limit() {
        let file =
            |bytes| FileKind::Deleted(DeletedFile { path: "/var/log/a".into(), bytes, ..DeletedFile::default() });
        assert!(refused(with(file(1 << 30))).is_empty());
        assert_eq!(refused(with(file((1 << 30) + 1))), ["file.deleted"]);
    }

    #[test]
    fn many_of_one_kind_are_told_once() {
        let many = |f: &mut ContainerFacts| {
            let kind = anonymous("io_uring");
            f.processes[1].files = (0..1000).map(|fd| OpenFile { fd, kind: kind.clone() }).collect();
        };
        assert_eq!(refused(many), ["file.io-uring"]);
        assert_eq!(warned(with(FileKind::Unknown { link: "what".into() })), ["file.unknown"]);
    }
}
