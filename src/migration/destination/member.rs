//! The containers that come, and how they are made here.

use super::Arrive;
use crate::docker::{RestartPolicy, creation_request};
use crate::failure::Failure;
use crate::migration::words::{Coming, Offer};
use crate::store::{CheckpointId, ContainerId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A project has a few tens.
const MOST: usize = 256;

/// What only the owner of a network namespace can be given.
const OF_THE_NETWORKS_OWNER: [&str; 4] = ["Hostname", "Domainname", "ExposedPorts", "MacAddress"];

/// One of the containers that come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// The checkpoint that brings it.
    pub checkpoint: CheckpointId,
    /// Its name.
    pub name: String,
    /// The container that was made for it.
    pub container: Option<ContainerId>,
}

impl Member {
    /// None is made yet.
    pub fn of(coming: &Coming) -> Self {
        let name = coming.container().name().to_owned();
        Self { checkpoint: coming.checkpoint.clone(), name, container: None }
    }

    /// The container, once it was made.
    pub fn id(&self) -> Result<&ContainerId, Failure> {
        self.container.as_ref().ok_or_else(|| Failure::new(format!("there is no container {} yet", self.name)))
    }
}

/// Whether containers that belong together are told as they have to be; they come from another host, which may be wrong.
pub fn examine(id: &CheckpointId, offer: &Offer) -> Result<(), Failure> {
    let malformed =
        |what: String| Err(Failure::usage(what).remedy("bring transship to the same version on both hosts"));
    let first = offer.members.first().map(|member| &member.checkpoint);
    if first != Some(id) || offer.members.len() > MOST {
        return malformed(format!("migration {id} brings {} containers, or another one first", offer.members.len()));
    }
    let (mut checkpoints, mut names, mut ids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for member in &offer.members {
        let container = member.container();
        let is_new = checkpoints.insert(&member.checkpoint) && names.insert(container.name().to_owned());
        if container.name().is_empty() || !is_new || !ids.insert(container.id().to_owned()) {
            return malformed(format!("migration {id} brings {:?} twice", container.name()));
        }
        if let Some(owner) = container.shares_network_of().filter(|owner| !ids.contains(*owner)) {
            return Err(Failure::refused(format!(
                "{} uses the network of the container {owner:.12}, which does not come before it",
                container.name()
            )));
        }
    }
    Ok(())
}

impl Arrive {
    /// The containers that were made.
    pub fn containers(&self) -> Vec<ContainerId> {
        self.members.iter().filter_map(|member| member.container.clone()).collect()
    }

    /// The names of all.
    pub fn name(&self) -> String {
        self.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether others use the network of a member.
    pub fn is_joined(&self, number: usize) -> bool {
        let id = self.offer.members[number].container().id().to_owned();
        self.offer.members.iter().any(|other| other.container().shares_network_of() == Some(&id))
    }

    /// What Docker says of a member where it comes from, with its addresses fixed in every network that takes a fixed one, and
    /// the network that it uses being that of the container here.
    pub fn inspect_to_be(&self, number: usize) -> Result<Value, Failure> {
        let coming = &self.offer.members[number];
        let mut inspect = coming.inspect.clone();
        if let Some(owner) = coming.container().shares_network_of() {
            let place = self.offer.members.iter().position(|other| other.container().id() == owner);
            let owner = self.members
                [place.ok_or_else(|| Failure::new(format!("the container {owner:.12} does not come along")))?]
            .id()?;
            inspect["HostConfig"]["NetworkMode"] = json!(format!("container:{owner}"));
        }
        let networks = inspect.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut);
        for (name, endpoint) in networks.into_iter().flatten() {
            let has_range = self.offer.networks.iter().any(|told| told["Name"] == *name);
            if has_range {
                let mut fixed = json!({});
                for (field, kept) in [("IPAddress", "IPv4Address"), ("GlobalIPv6Address", "IPv6Address")] {
                    if endpoint[field].as_str().is_some_and(|address| !address.is_empty()) {
                        fixed[kept] = endpoint[field].clone();
                    }
                }
                endpoint["IPAMConfig"] = fixed;
            }
        }
        Ok(inspect)
    }
}

/// What Docker is asked to make a container of: it has no restart policy until it runs.
pub fn request(inspect: &Value) -> Value {
    let mut request = creation_request(inspect);
    request["HostConfig"]["RestartPolicy"] = json!(RestartPolicy::default());
    if inspect.pointer("/HostConfig/NetworkMode").and_then(Value::as_str).is_some_and(|it| it.starts_with("container:"))
        && let Some(request) = request.as_object_mut()
    {
        OF_THE_NETWORKS_OWNER.iter().for_each(|field| drop(request.remove(*field)));
    }
    let endpoints = request.pointer_mut("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object_mut);
    for (name, endpoint) in endpoints.into_iter().flatten() {
        let mac =
            inspect.pointer("/NetworkSettings/Networks").and_then(|networks| networks[name]["MacAddress"].as_str());
        if let Some(mac) = mac.filter(|mac| !mac.is_empty()) {
            endpoint["MacAddress"] = mac.into();
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming(checkpoint: &CheckpointId, id: &str, name: &str, network: &str) -> Coming {
        let inspect = json!({ "Id": id, "Name": format!("/{name}"), "Config": { "Hostname": "h", "Image": "i" },
            "HostConfig": { "NetworkMode": network } });
        Coming { checkpoint: checkpoint.clone(), inspect }
    }

    fn offer(members: Vec<Coming>) -> Offer {
        let here = [127, 0, 0, 1].into();
        let link = crate::network::ways::Link { source: here, destination: here };
        let origin = crate::store::testing::manifest().origin;
        let needs = crate::migration::words::Needs::default();
        Offer {
            members,
            networks: Vec::new(),
            volumes: Vec::new(),
            binds: Vec::new(),
            origin,
            link,
            needs,
            processor: None,
            memory: None,
        }
    }

    #[test]
    fn what_is_not_told_as_it_has_to_be_is_refused() {
        let [one, other] = [(); 2].map(|()| CheckpointId::random().unwrap());
        let owner = || coming(&one, "aa", "web", "front");
        let joiner = |name: &str, of: &str| coming(&other, "bb", name, &format!("container:{of}"));
        assert!(examine(&one, &offer(vec![owner(), joiner("sidecar", "aa")])).is_ok());
        let refused = [
            offer(Vec::new()),
            offer(vec![joiner("sidecar", "aa"), owner()]),
            offer(vec![owner(), joiner("sidecar", "cc")]),
            offer(vec![owner(), joiner("web", "aa")]),
            offer(vec![owner(), owner()]),
            offer((0..=MOST).map(|_| owner()).collect()),
        ];
        refused.iter().for_each(|offer| assert!(examine(&one, offer).is_err(), "{offer:?}"));
        assert!(examine(&other, &offer(vec![owner()])).is_err(), "another migration's");
    }

    #[test]
    fn who_uses_anothers_network_is_made_without_what_belongs_to_that() {
        let checkpoint = CheckpointId::random().unwrap();
        let made = request(&coming(&checkpoint, "bb", "sidecar", "container:aa").inspect);
        assert!(made["Hostname"].is_null());
        assert_eq!(made["HostConfig"]["RestartPolicy"]["Name"], "no");
        assert_eq!(request(&coming(&checkpoint, "aa", "web", "front").inspect)["Hostname"], "h");
    }
}
