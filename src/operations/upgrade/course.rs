//! One container's way through an upgrade.

use super::strategy::Strategy;
use crate::docker::RestartPolicy;
use crate::process::Identity;
use crate::report::{ContainerCourse, Span};
use crate::store::{CheckpointId, ContainerId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// A container, or several that share a network namespace and go together, and what becomes of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Course {
    /// The containers, the owner of the network first.
    pub members: Vec<Traveller>,
    /// How they go.
    pub strategy: Strategy,
    /// Why that.
    pub reason: String,
    /// In which wave they come back, from 0.
    pub wave: usize,
    /// The first of the owner's addresses that Docker has chosen, if there is one.
    pub address: Option<Ipv4Addr>,
    /// Whether the next wave waits until they are healthy.
    pub wait_healthy: bool,
    /// Their memory in bytes, about.
    pub memory_bytes: u64,
    /// When they were stopped and started, where they go that way.
    #[serde(default)]
    pub spans: Vec<Span>,
}

/// One of the containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traveller {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its first process before the upgrade; none where it was just being restarted.
    pub init: Option<Identity>,
    /// Whether its health check passed before the upgrade; none where it has none.
    pub was_healthy: Option<bool>,
    /// What Docker does when it ends by itself, where it is stopped and that is set aside.
    #[serde(default)]
    pub restart_policy: Option<RestartPolicy>,
    /// The checkpoint that was made of it last.
    pub checkpoint: Option<CheckpointId>,
    /// How long it was away, in microseconds; added up where it was frozen more than once.
    pub away_us: u64,
    /// Packets that were kept for it meanwhile, and those that did not fit; none while that is not known.
    pub held: Option<(u64, u64)>,
}

impl Course {
    /// Its containers' names.
    pub fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// Its containers' names for people.
    pub fn title(&self) -> String {
        self.names().join(", ")
    }

    /// Remembers the checkpoints that were just made of its containers.
    pub fn note_checkpoints(&mut self, made: &[(ContainerId, CheckpointId)]) {
        for (container, checkpoint) in made {
            for member in self.members.iter_mut().filter(|member| member.id == *container) {
                member.checkpoint = Some(checkpoint.clone());
            }
        }
    }

    /// What a report tells of its containers, all but what each went through.
    pub fn tell(&self) -> Vec<ContainerCourse> {
        let one = |(index, member): (usize, &Traveller)| ContainerCourse {
            name: member.name.clone(),
            strategy: self.strategy.to_string(),
            reason: self.reason.clone(),
            spans: self.spans.clone(),
            away_us: (member.away_us > 0).then_some(member.away_us),
            // All of the group's is told with its first.
            memory_bytes: (index == 0).then_some(self.memory_bytes),
            parked: member.held.map(|(parked, _)| parked),
            dropped: member.held.map(|(_, dropped)| dropped),
            note: None,
        };
        self.members.iter().enumerate().map(one).collect()
    }

    /// What is told of it when all is over.
    pub fn answer(&self) -> Value {
        let member = |member: &Traveller| json!({ "name": member.name, "id": member.id, "away_us": member.away_us, "checkpoint": member.checkpoint });
        json!({
            "names": self.names(),
            "strategy": self.strategy,
            "reason": self.reason,
            "wave": self.wave,
            "wait_healthy": self.wait_healthy,
            "memory_bytes": self.memory_bytes,
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
        })
    }
}
