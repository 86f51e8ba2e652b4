//! Features that CRIU tells of on its command line only (`criu check --feature`, `criu/cr-check.c`).

use std::process::{Command, Stdio};

/// Whether CRIU can lock a network namespace by nftables: one netlink message, where iptables is a program to be
/// started for each family.
pub fn locks_networks_by_nftables() -> bool {
    let mut check = Command::new("criu");
    check.args(["check", "--feature", "network_lock_nftables"]).stdout(Stdio::null()).stderr(Stdio::null());
    check.status().is_ok_and(|status| status.success())
}
