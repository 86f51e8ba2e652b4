//! One container of a group that is being frozen.

use crate::archive::rootfs::Snapshot;
use crate::checkpoint::describe::{Stopped, Surroundings};
use crate::checkpoint::dump::Still;
use crate::docker::{Container, RestartPolicy};
use crate::failure::{Failure, OrFail};
use crate::network::hold::FreeQueue;
use crate::network::netns::NetNs;
use crate::network::remembered::Remembered;
use crate::network::spec::ReplyTuple;
use crate::process::{self, Identity};
use crate::restore::settle::remove_directory;
use crate::store::{CheckpointId, ContainerId, Staging};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is known of a container while it is being frozen; survives the helper in the journal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// What Docker said of it before anything was changed.
    pub inspect: Value,
    /// Its first process.
    pub init: Identity,
    /// The boot of this host that its processes belong to; this one where an older helper has not written it down.
    #[serde(default = "process::boot")]
    pub boot: String,
    /// The checkpoint that is being made of it.
    pub checkpoint: CheckpointId,
    /// Those of one chain are worked on one after the other; all are in one where an older helper has not written it down.
    #[serde(default)]
    pub chain: usize,
    /// Paths that CRIU has to be told so that it finds what the container watches on overlayfs.
    pub watched: Vec<PathBuf>,
    /// The queue of its hold, once it stands.
    pub queue: Option<u16>,
    /// Bytes of memory that were written.
    pub pages_bytes: u64,
    /// When it was frozen.
    pub frozen_at: Option<jiff::Timestamp>,
    /// Processes that were stopped before it was frozen.
    pub stopped: Vec<Stopped>,
    /// How long each phase took, in microseconds.
    pub timings: BTreeMap<String, u64>,
    /// Where its checkpoint is being made.
    #[serde(skip)]
    pub staging: Option<Staging>,
    /// The queue that its hold is going to lead to.
    #[serde(skip)]
    pub free_queue: Option<FreeQueue>,
    /// Where what belongs to its connections arrives, as it was shortly before its turn came.
    #[serde(skip)]
    pub outbound: Option<Vec<ReplyTuple>>,
    /// What was told of its surroundings before it stood still.
    #[serde(skip)]
    pub surroundings: Option<Surroundings>,
    /// What the first pass over its writable layer has seen; a killed helper's operation is undone and needs none.
    #[serde(skip)]
    pub snapshot: Option<Snapshot>,
    /// Its network when it stood still; a killed helper's operation is undone and needs none.
    #[serde(skip)]
    pub network: Option<Remembered>,
    /// Whether an operator had paused it when a killed helper's operation was taken up.
    #[serde(skip)]
    pub is_paused: bool,
    /// Its processes, once they are dumped and stand still.
    #[serde(skip)]
    pub still: Option<Still>,
}

impl Member {
    /// A member from what Docker says of a running container.
    pub fn new(container: &Container, init: Identity, id: ContainerId, checkpoint: CheckpointId) -> Self {
        Self {
            id,
            name: container.name().to_owned(),
            inspect: container.inspect().clone(),
            init,
            boot: process::boot(),
            checkpoint,
            chain: 0,
            watched: Vec::new(),
            queue: None,
            pages_bytes: 0,
            frozen_at: None,
            stopped: Vec::new(),
            timings: BTreeMap::new(),
            staging: None,
            free_queue: None,
            outbound: None,
            surroundings: None,
            snapshot: None,
            network: None,
            is_paused: false,
            still: None,
        }
    }

    /// The container as Docker described it.
    pub fn container(&self) -> Container {
        Container::new(self.inspect.clone())
    }

    /// The restart policy before anything was changed.
    pub fn restart_policy(&self) -> RestartPolicy {
        self.container().restart_policy()
    }

    /// Whether it uses another container's network namespace.
    pub fn joins_network(&self) -> bool {
        self.container().shares_network_of().is_some()
    }

    /// Notes how long a phase took.
    pub fn took(&mut self, phase: &str, duration: Duration) {
        self.timings.insert(phase.to_owned(), u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Where its checkpoint is being made, which `pre-copy` has begun.
    pub fn staging(&self) -> Result<&Staging, Failure> {
        self.staging.as_ref().ok_or_else(|| Failure::new(self.store_failed()))
    }

    /// What is told where the store does not take it.
    pub fn store_failed(&self) -> String {
        format!("the store cannot take the checkpoint of {}", self.name)
    }

    /// Where CRIU logs its dump; not in the store, which keeps what was dumped.
    pub fn work_directory(&self) -> PathBuf {
        Path::new("/run/transship/dump").join(self.id.as_str())
    }

    /// A dump's log is of no use when the dump has served.
    pub fn remove_work_directory(&self) {
        remove_directory(&self.work_directory());
    }

    /// Its network namespace.
    pub fn network_namespace(&self) -> Result<NetNs, Failure> {
        if !self.init.is_alive() {
            return Err(Failure::new(format!("{} has ended", self.name)));
        }
        NetNs::of_process(self.init.pid.unsigned_abs())
            .or_fail(|| format!("the network namespace of {} cannot be opened", self.name))
    }
}
