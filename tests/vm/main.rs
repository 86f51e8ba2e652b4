//! Whole machines: a kernel of a distribution, systemd, cgroup version 2, AppArmor, seccomp, docker.socket, and transship
//! from its package. `scripts/test vm` runs it. What can be seen in the lab is tried there.
//!
//! One machine serves all scenarios, so they run one after the other. A machine that cannot be had is a failure.

#[path = "../lab/clients.rs"]
#[expect(dead_code, reason = "the lab has more clients")]
mod clients;
mod cycles;
#[path = "../lab/host.rs"]
mod host;
mod machine;
mod package;
mod power;
mod upgrades;

/// What makes the hosts.
const SCRIPT: &str = "scripts/vm";
