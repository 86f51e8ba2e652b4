//! Whole machines: a kernel of a distribution, systemd, cgroup version 2, AppArmor, seccomp, docker.socket, and transship
//! from its package. `scripts/test vm` runs it. What can be seen in the lab is tried there.
//!
//! Scenarios share the machines, so they run one after the other: those of one machine, and beside them those of two. A
//! machine that cannot be had is a failure.

#[path = "../lab/clients.rs"]
#[expect(dead_code, reason = "the lab has more clients")]
mod clients;
mod cuts;
mod cycles;
#[path = "../lab/host.rs"]
#[expect(dead_code, reason = "the lab asks more of them")]
mod host;
mod machines;
mod migrations;
mod package;
mod power;
mod results;
mod rounds;
mod standing;
mod upgrades;

/// What makes the hosts.
const SCRIPT: &str = "scripts/vm";

use machines::slowness;
