//! Which containers run, in one answer: inspecting each takes dockerd's time, which containers that are away wait for.

use super::client::{Client, DockerError};
use serde_json::Value;

/// A container that has processes, as the list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub is_paused: bool,
    /// The id of the container whose network it has joined.
    pub shares_network_of: Option<String>,
}

impl Client {
    /// The containers that have processes. One that has just ended may be among them, see [`Self::still_runs`].
    ///
    /// # Errors
    /// Where dockerd does not answer.
    pub fn running(&self) -> Result<Vec<Running>, DockerError> {
        let list = self.get("/containers/json")?;
        Ok(list.as_array().into_iter().flatten().filter_map(running).collect())
    }

    /// Whether one of those that were listed has processes.
    ///
    /// dockerd lists from a copy of its containers' states that it brings up to date only after it has told who waits for a
    /// container's end (moby's `handleContainerExit`), so what something is refused for is looked at once more.
    ///
    /// # Errors
    /// Where dockerd does not answer.
    pub fn still_runs(&self, listed: &Running) -> Result<bool, DockerError> {
        match self.container(&listed.id) {
            Ok(container) => Ok(container.pid().is_some()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn running(listed: &Value) -> Option<Running> {
    let state = listed["State"].as_str()?;
    // One that is being restarted is listed as well.
    let has_processes = matches!(state, "running" | "paused");
    has_processes.then_some(())?;
    // Links give it further names, which have a second slash.
    let names = listed["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let name = names.map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    let network = listed.pointer("/HostConfig/NetworkMode").and_then(Value::as_str).unwrap_or_default();
    Some(Running {
        id: listed["Id"].as_str()?.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        is_paused: state == "paused",
        shares_network_of: network.strip_prefix("container:").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::{Running, running};
    use serde_json::json;

    #[test]
    fn what_has_processes_is_told_with_its_own_name() {
        let listed = |state: &str| {
            json!({ "Id": "abc", "Names": ["/app/db", "/db"], "State": state,
                    "HostConfig": { "NetworkMode": "container:def" } })
        };
        let expected =
            Running { id: "abc".into(), name: "db".into(), is_paused: false, shares_network_of: Some("def".into()) };
        assert_eq!(running(&listed("running")), Some(expected.clone()));
        assert_eq!(running(&listed("paused")), Some(Running { is_paused: true, ..expected }));
        assert_eq!(running(&listed("restarting")), None);
    }
}
