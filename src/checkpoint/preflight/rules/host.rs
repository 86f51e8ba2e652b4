//! What keeps a host from freezing anything at all.

use super::super::Finding;
use super::super::facts::{HostFacts, Tool};
use crate::criu::rpc::Version;

/// runc before this lacks what its checkpoint needs today.
const OLDEST_RUNC: Version = Version::new(1, 0, 0);
/// CRIU before this runs no action scripts for runc, and so would end a container without asking whether it may.
const OLDEST_CRIU: Version = Version::new(3, 19, 0);
/// From this kernel on an inet socket has no SO_PASSCRED, which older CRIU insists on reading.
const KERNEL_WITHOUT_PASSCRED: (u32, u32) = (6, 16);
const CRIU_WITHOUT_PASSCRED: Version = Version::new(4, 2, 0);

/// Capabilities without which nothing works, by their bit numbers.
const NEEDED: [(u32, &str); 9] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (12, "CAP_NET_ADMIN"),
    (18, "CAP_SYS_CHROOT"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
];
const SYS_RESOURCE: u32 = 24;

/// All rules for a host.
pub(in super::super) fn judge(facts: &HostFacts) -> Vec<Finding> {
    let rules: [fn(&HostFacts) -> Option<Finding>; 10] = [
        criu,
        criu_and_kernel,
        runc,
        interposer,
        capabilities,
        resource,
        kernel,
        tcp_repair,
        socket_lists,
        network_lock,
    ];
    rules.iter().filter_map(|rule| rule(facts)).chain(freezer(facts)).collect()
}

fn refuse(code: &'static str, reason: impl Into<String>, remedy: impl Into<String>) -> Option<Finding> {
    Some(Finding::refuse(code, "host", reason, remedy))
}

fn criu(facts: &HostFacts) -> Option<Finding> {
    match &facts.criu {
        Tool::Missing => refuse("criu.missing", "CRIU is not installed.", "Install the package criu, 4.2 or newer."),
        Tool::Broken(why) => refuse(
            "criu.broken",
            format!("CRIU does not start: {why}."),
            "Install a CRIU that fits this kernel, 4.2 or newer.",
        ),
        Tool::Version(version) if *version < OLDEST_CRIU => {
            refuse("criu.old", format!("CRIU {version} is older than {OLDEST_CRIU}."), "Install CRIU 4.2 or newer.")
        }
        Tool::Version(_) => None,
    }
}

fn criu_and_kernel(facts: &HostFacts) -> Option<Finding> {
    let Tool::Version(version) = &facts.criu else {
        return None;
    };
    let too_old = *version >= OLDEST_CRIU && *version < CRIU_WITHOUT_PASSCRED;
    if !too_old || facts.kernel < KERNEL_WITHOUT_PASSCRED {
        return None;
    }
    let (major, minor) = facts.kernel;
    refuse(
        "criu.kernel",
        format!("CRIU {version} cannot dump TCP sockets on kernel {major}.{minor}, although `criu check` passes."),
        "Install CRIU 4.2 or newer.",
    )
}

fn runc(facts: &HostFacts) -> Option<Finding> {
    match &facts.runc {
        Tool::Missing => refuse("runc.missing", "runc is not installed.", "Install the package runc."),
        Tool::Broken(why) => {
            refuse("runc.broken", format!("runc does not start: {why}."), "Repair or reinstall the package runc.")
        }
        Tool::Version(version) if *version < OLDEST_RUNC => {
            refuse("runc.old", format!("runc {version} is older than {OLDEST_RUNC}."), "Install a newer package runc.")
        }
        Tool::Version(_) => None,
    }
}

fn interposer(facts: &HostFacts) -> Option<Finding> {
    if facts.interposer {
        return None;
    }
    refuse(
        "interposer.missing",
        "Docker does not call transship's interposer in place of runc, so nothing could be restored.",
        "Put the interposer in place as the package does, and restart Docker.",
    )
}

fn capabilities(facts: &HostFacts) -> Option<Finding> {
    let has = |bit: u32| facts.capabilities & (1 << bit) != 0;
    let lacking: Vec<&str> = NEEDED.iter().filter(|(bit, _)| !has(*bit)).map(|(_, name)| *name).collect();
    if lacking.is_empty() {
        return None;
    }
    refuse(
        "host.capabilities",
        format!("The helper lacks {}.", lacking.join(", ")),
        "Run the helper as root, outside of any container, without a restricted capability set.",
    )
}

fn resource(facts: &HostFacts) -> Option<Finding> {
    if facts.capabilities & (1 << SYS_RESOURCE) != 0 {
        return None;
    }
    Some(Finding::warn(
        "host.resource",
        "host",
        "The helper lacks CAP_SYS_RESOURCE, without which CRIU cannot read the limits of other users' processes.",
        "Give the helper CAP_SYS_RESOURCE, or freeze only containers whose processes all run as root.",
    ))
}

fn kernel(facts: &HostFacts) -> Option<Finding> {
    if facts.checkpoint_restore {
        return None;
    }
    refuse(
        "kernel.checkpoint-restore",
        "This kernel was built without CONFIG_CHECKPOINT_RESTORE.",
        "Boot a kernel with it; all of Debian's have it.",
    )
}

fn freezer(facts: &HostFacts) -> Option<Finding> {
    if facts.freezer {
        return None;
    }
    refuse(
        "kernel.freezer",
        "There is no cgroup freezer on this host.",
        "Boot with cgroup version 2, or enable version 1's freezer controller.",
    )
}

fn tcp_repair(facts: &HostFacts) -> Option<Finding> {
    let why = facts.tcp_repair_error.as_ref()?;
    refuse(
        "kernel.tcp-repair",
        format!("A TCP connection cannot be taken over on this kernel: {why}."),
        "Run the helper with CAP_NET_ADMIN, on a kernel with CONFIG_CHECKPOINT_RESTORE.",
    )
}

fn socket_lists(facts: &HostFacts) -> Option<Finding> {
    if facts.missing_diag.is_empty() {
        return None;
    }
    let modules = facts.missing_diag.join(", ");
    refuse(
        "kernel.diag",
        format!("The kernel cannot list all sockets: {modules} missing."),
        format!("Load the modules: modprobe -a {}.", facts.missing_diag.join(" ")),
    )
}

fn network_lock(facts: &HostFacts) -> Option<Finding> {
    let iptables = facts.network_lock.as_deref().is_none_or(|method| method == "iptables");
    if !iptables || facts.missing_iptables.is_empty() {
        return None;
    }
    refuse(
        "criu.network-lock",
        format!("CRIU holds packets back by iptables, and {} cannot be found.", facts.missing_iptables.join(", ")),
        "Install the package iptables, or write `network-lock nftables` to /etc/criu/runc.conf.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::host_facts;
    use super::*;

    fn codes(spoil: impl FnOnce(&mut HostFacts)) -> Vec<&'static str> {
        let mut facts = host_facts();
        spoil(&mut facts);
        judge(&facts).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_good_host_passes() {
        assert_eq!(codes(|_| {}), Vec::<&str>::new());
    }

    #[test]
    fn each_lack_is_told() {
        type Spoil = fn(&mut HostFacts);
        let cases: [(Spoil, &str); 14] = [
            (|f| f.criu = Tool::Missing, "criu.missing"),
            (|f| f.criu = Tool::Broken("vdso".into()), "criu.broken"),
            (|f| f.criu = Tool::Version(Version::new(3, 15, 0)), "criu.old"),
            (|f| f.runc = Tool::Missing, "runc.missing"),
            (|f| f.runc = Tool::Broken("x".into()), "runc.broken"),
            (|f| f.runc = Tool::Version(Version::new(0, 9, 0)), "runc.old"),
            (|f| f.interposer = false, "interposer.missing"),
            (|f| f.capabilities &= !(1 << 21), "host.capabilities"),
            (|f| f.capabilities &= !(1 << 24), "host.resource"),
            (|f| f.checkpoint_restore = false, "kernel.checkpoint-restore"),
            (|f| f.freezer = false, "kernel.freezer"),
            (|f| f.tcp_repair_error = Some("Operation not permitted".into()), "kernel.tcp-repair"),
            (|f| f.missing_diag = vec!["unix_diag".into()], "kernel.diag"),
            (|f| f.missing_iptables = vec!["iptables-restore".into()], "criu.network-lock"),
        ];
        for (spoil, code) in cases {
            assert_eq!(codes(spoil), [code]);
        }
    }

    #[test]
    fn criu_is_judged_together_with_the_kernel() {
        let pair = |criu: Version, kernel| codes(|f| (f.criu, f.kernel) = (Tool::Version(criu), kernel));
        assert_eq!(pair(Version::new(4, 1, 1), (6, 16)), ["criu.kernel"]);
        assert_eq!(pair(Version::new(4, 1, 1), (7, 0)), ["criu.kernel"]);
        assert!(pair(Version::new(4, 1, 1), (6, 15)).is_empty());
        assert!(pair(Version::new(4, 2, 0), (7, 0)).is_empty());
        assert_eq!(pair(Version::new(3, 0, 0), (7, 0)), ["criu.old"], "told once");
    }

    #[test]
    fn without_iptables_nftables_or_skip_will_do() {
        let lock = |method: &str| {
            codes(|f| {
                f.missing_iptables = vec!["iptables-restore".into()];
                f.network_lock = Some(method.into());
            })
        };
        assert!(lock("nftables").is_empty() && lock("skip").is_empty());
        assert_eq!(lock("iptables"), ["criu.network-lock"]);
    }
}
