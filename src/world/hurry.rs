//! What makes this host quicker while containers are away.

use super::World;
use super::rcu::Expedited;
use crate::services::Heavier;

/// This host hurries until it is dropped.
#[derive(Debug)]
#[must_use = "the host takes its time when it is dropped"]
pub struct Hurry {
    _expedited: Expedited,
    _heavier: Heavier,
}

impl World {
    /// Has this host hurry until the answer, and those of others who asked, are dropped.
    pub fn hurry(&self) -> Hurry {
        Hurry { _expedited: self.rcu.expedite(), _heavier: self.weights.raise() }
    }

    /// Puts back what a helper that was killed in a hurry has left (I5).
    pub fn sweep_hurry(&self) {
        if let Err(error) = self.rcu.sweep() {
            tracing::error!(%error, "/sys/kernel/rcu_expedited was left at 1, and could not be set back to 0");
        }
        if let Err(error) = self.weights.sweep() {
            tracing::error!(%error, "weights of services' cgroups were left raised, and could not be put back");
        }
    }
}
