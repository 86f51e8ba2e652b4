//! The truth: real Docker hosts, real programs, real clients. `scripts/test lab` runs it.
//!
//! Hosts are shared by all scenarios, so they run one after the other. A lab that cannot be had is a failure.

mod breaks;
mod cancels;
mod chance;
mod clients;
mod crashes;
mod cycles;
mod damage;
mod evacuations;
mod figures;
mod fleet;
mod groups;
mod host;
mod images;
mod interposer;
mod kinds;
mod lab;
mod links;
mod migrations;
mod oldest;
mod postcopy;
mod restarts;
mod rounds;
mod ships;
mod soak;
mod stores;
mod upgrades;

/// What makes the hosts.
const SCRIPT: &str = "scripts/lab";

/// How many times longer things take than on a machine of its own.
fn slowness() -> u32 {
    1
}
