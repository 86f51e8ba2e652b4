//! A host's place in a swarm: whether the scheduler may give it tasks.

use super::client::{Client, DockerError};
use super::container::Container;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The label that Swarm puts on the containers that are its tasks.
pub const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// This host as a node of a swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// `active`, `pause` or `drain`.
    pub availability: String,
}

impl Container {
    /// Whether a swarm's scheduler has put it here, and would replace it if it ended.
    pub fn is_swarm_task(&self) -> bool {
        self.label(TASK_LABEL).is_some()
    }
}

impl Client {
    /// This host as a node; none where it is none, or no manager: only those may be asked about nodes.
    pub fn own_node(&self) -> Result<Option<Node>, DockerError> {
        let info = self.get("/info")?;
        let swarm = &info["Swarm"];
        let id = swarm["NodeID"].as_str().filter(|id| !id.is_empty() && swarm["ControlAvailable"] == true);
        let Some(id) = id else { return Ok(None) };
        let node = self.node(id)?;
        let availability = node["Spec"]["Availability"].as_str().unwrap_or("active").to_owned();
        Ok(Some(Node { id: id.to_owned(), availability }))
    }

    /// Sets whether the scheduler gives a node tasks; `drain` also takes away those that it has.
    pub fn set_availability(&self, id: &str, availability: &str) -> Result<(), DockerError> {
        let node = self.node(id)?;
        let mut spec = node["Spec"].clone();
        if spec["Availability"] == availability {
            return Ok(());
        }
        spec["Availability"] = availability.into();
        let version = node["Version"]["Index"].as_u64().unwrap_or_default();
        self.post_json(&format!("/nodes/{id}/update?version={version}"), &spec)
    }

    fn node(&self, id: &str) -> Result<Value, DockerError> {
        self.get(&format!("/nodes/{id}"))
    }
}
