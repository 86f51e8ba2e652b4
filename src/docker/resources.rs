//! What containers stand on: networks, volumes, images.

use super::client::{Client, DockerError};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Read;

/// The fields of a network, as `GET /networks/NAME` tells it, that make it the network it is.
const OF_A_NETWORK: [&str; 6] = ["Driver", "EnableIPv6", "Internal", "Attachable", "Options", "Labels"];

/// What has to be the same of an address range for addresses in it to be the same.
const OF_A_RANGE: [&str; 3] = ["Subnet", "IPRange", "Gateway"];

impl Client {
    /// Creates a network from a request body of `POST /networks/create`.
    pub fn create_network(&self, request: &Value) -> Result<(), DockerError> {
        self.post_json("/networks/create", request)
    }

    /// All networks, without who is in them.
    pub fn networks(&self) -> Result<Vec<Value>, DockerError> {
        Ok(self.get("/networks")?.as_array().cloned().unwrap_or_default())
    }

    /// Removes a network that no container uses; nothing happens where there is none.
    pub fn remove_network(&self, name: &str) -> Result<(), DockerError> {
        self.delete(&format!("/networks/{}", super::client::escape(name)))
    }

    /// Creates a volume, or does nothing where there is one of that name.
    pub fn create_volume(&self, request: &Value) -> Result<(), DockerError> {
        self.post_json("/volumes/create", request)
    }

    /// A volume by name, as Docker tells it.
    pub fn volume(&self, name: &str) -> Result<Value, DockerError> {
        self.get(&format!("/volumes/{}", super::client::escape(name)))
    }

    /// Removes a volume that no container uses; nothing happens where there is none.
    pub fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        self.delete(&format!("/volumes/{}", super::client::escape(name)))
    }

    /// An image with its layers, as a tar that [`Client::load_image`] reads.
    pub fn save_image(&self, reference: &str) -> Result<impl Read + Send + use<>, DockerError> {
        self.stream(&format!("/images/{}/get", super::client::escape(reference)))
    }

    /// The layers of an image from the lowest up, by their content's digests.
    pub fn image_layers(&self, reference: &str) -> Result<Vec<String>, DockerError> {
        let told = self.get(&format!("/images/{}/json", super::client::escape(reference)))?;
        let layers = told.pointer("/RootFS/Layers").and_then(Value::as_array).into_iter().flatten();
        Ok(layers.filter_map(|layer| layer.as_str().map(str::to_owned)).collect())
    }

    /// The ids of all images, those without a name too.
    pub fn image_ids(&self) -> Result<HashSet<String>, DockerError> {
        let told = self.get("/images/json?all=1")?;
        let images = told.as_array().into_iter().flatten();
        Ok(images.filter_map(|image| image["Id"].as_str().map(str::to_owned)).collect())
    }

    /// The names with digests that registries know an image by, such as `web@sha256:…`.
    pub fn repository_digests(&self, reference: &str) -> Result<Vec<String>, DockerError> {
        let told = self.get(&format!("/images/{}/json", super::client::escape(reference)))?;
        let digests = told["RepoDigests"].as_array().into_iter().flatten();
        Ok(digests.filter_map(|digest| digest.as_str().map(str::to_owned)).collect())
    }

    /// Removes an image that nothing uses and nobody has given a name: whether it is gone.
    pub fn remove_unused_image(&self, id: &str) -> Result<bool, DockerError> {
        let told = match self.get(&format!("/images/{}/json", super::client::escape(id))) {
            Err(error) if error.is_not_found() => return Ok(true),
            other => other?,
        };
        let has = |names: &str| told[names].as_array().is_some_and(|names| !names.is_empty());
        if has("RepoTags") || has("RepoDigests") {
            return Ok(false);
        }
        self.delete_image(id)
    }

    /// Takes a name from an image, and removes the image where that was its last one; nothing happens where a container uses
    /// it: whether the name is gone.
    pub fn remove_image_name(&self, name: &str) -> Result<bool, DockerError> {
        self.delete_image(name)
    }

    fn delete_image(&self, reference: &str) -> Result<bool, DockerError> {
        match self.delete(&format!("/images/{}", super::client::escape(reference))) {
            Err(DockerError::Refused { status: 409, .. }) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Takes an image in from a tar.
    pub fn load_image(&self, tar: impl Read + Send + 'static) -> Result<(), DockerError> {
        self.post_stream("/images/load?quiet=1", tar)
    }
}

/// The body of `POST /networks/create` that makes a network like the inspected one, its address ranges included.
pub fn network_request(network: &Value) -> Value {
    let mut request = json!({ "Name": network["Name"], "CheckDuplicate": true });
    for field in OF_A_NETWORK.iter().filter(|field| !network[**field].is_null()) {
        request[*field] = network[*field].clone();
    }
    request["IPAM"] = json!({ "Driver": network["IPAM"]["Driver"], "Config": ranges(network) });
    request
}

/// Whether containers have the same addresses in both, and reach the same.
pub fn is_same_network(one: &Value, other: &Value) -> bool {
    one["Driver"] == other["Driver"] && ranges(one) == ranges(other)
}

/// A network's address ranges. A gateway that Docker chose is left out: releases differ in whether they tell it.
fn ranges(network: &Value) -> Vec<Value> {
    let configs = network.pointer("/IPAM/Config").and_then(Value::as_array).into_iter().flatten();
    let range = |config: &Value| {
        let fields = OF_A_RANGE.iter().filter(|field| config[**field].as_str().is_some_and(|text| !text.is_empty()));
        let fields = fields.filter(|field| **field != "Gateway" || !is_first(config));
        fields.map(|field| ((*field).to_owned(), config[*field].clone())).collect()
    };
    configs.map(range).collect()
}

/// Whether the gateway is the subnet's first address, which Docker takes unless told otherwise.
fn is_first(config: &Value) -> bool {
    let address = |text: &Value| text.as_str()?.split('/').next()?.parse::<std::net::Ipv4Addr>().ok();
    let (Some(gateway), Some(subnet)) = (address(&config["Gateway"]), address(&config["Subnet"])) else { return false };
    u32::from(gateway) == u32::from(subnet) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(gateway: Option<&str>) -> Value {
        let mut config = json!({ "Subnet": "10.9.0.0/24" });
        if let Some(gateway) = gateway {
            config["Gateway"] = json!(gateway);
        }
        json!({ "Name": "front", "Id": "abc", "Created": "2026", "Driver": "bridge", "EnableIPv6": false,
            "Options": { "com.docker.network.bridge.name": "br-front" }, "Containers": {},
            "IPAM": { "Driver": "default", "Options": null, "Config": [config] } })
    }

    #[test]
    fn a_network_is_made_again_with_what_makes_it_and_no_more() {
        let request = network_request(&network(Some("10.9.0.254")));
        assert_eq!(request["IPAM"]["Config"], json!([{ "Subnet": "10.9.0.0/24", "Gateway": "10.9.0.254" }]));
        assert_eq!(request["Options"]["com.docker.network.bridge.name"], "br-front");
        assert!(request["Id"].is_null() && request["Created"].is_null());
    }

    #[test]
    fn a_gateway_that_docker_chose_makes_no_difference_and_another_subnet_does() {
        assert!(is_same_network(&network(None), &network(Some("10.9.0.1"))));
        assert!(!is_same_network(&network(None), &network(Some("10.9.0.254"))));
        let mut other = network(None);
        other["IPAM"]["Config"][0]["Subnet"] = json!("10.8.0.0/24");
        assert!(!is_same_network(&network(None), &other));
    }
}
