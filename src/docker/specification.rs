//! From what `docker inspect` says back to what `docker create` takes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What Docker does with a container that stops by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    #[serde(rename = "Name")]
    pub name: String,
    /// How often `on-failure` tries; 0 is without end.
    #[serde(rename = "MaximumRetryCount", default)]
    pub maximum_retry_count: i64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { name: "no".into(), maximum_retry_count: 0 }
    }
}

impl RestartPolicy {
    /// Whether Docker would start the container again.
    pub fn restarts(&self) -> bool {
        !matches!(self.name.as_str(), "" | "no")
    }
}

/// The body of `POST /containers/create` that makes a container like the inspected one.
///
/// `image` is named by its content id, so that a tag that has moved since does not bring other files under
/// the restored processes. Anonymous volumes are named, so that the new container gets the same ones.
pub fn creation_request(inspect: &Value) -> Value {
    let mut request = inspect["Config"].as_object().cloned().unwrap_or_default();
    request.insert("Image".into(), inspect["Image"].clone());
    // Docker derives the host name from the id when none was given; the restored processes keep the old one.
    let mut host = inspect["HostConfig"].as_object().cloned().unwrap_or_default();
    let mounts = anonymous_volumes(inspect, &host);
    if !mounts.is_empty() {
        let mut all = host.get("Mounts").and_then(Value::as_array).cloned().unwrap_or_default();
        all.extend(mounts);
        host.insert("Mounts".into(), Value::Array(all));
    }
    request.insert("HostConfig".into(), Value::Object(host));
    request.insert("NetworkingConfig".into(), json!({ "EndpointsConfig": endpoints(inspect) }));
    Value::Object(request)
}

/// The same request, for what bears one label more.
pub fn labelled(mut request: Value, label: &str, value: &str) -> Value {
    if !request["Labels"].is_object() {
        request["Labels"] = json!({});
    }
    request["Labels"][label] = value.into();
    request
}

/// The same request, for what does not bear that label.
pub fn unlabelled(mut request: Value, label: &str) -> Value {
    if let Some(labels) = request["Labels"].as_object_mut() {
        labels.remove(label);
    }
    request
}

/// Volumes that the image or `-v /path` asked for without a name.
fn anonymous_volumes(inspect: &Value, host: &Map<String, Value>) -> Vec<Value> {
    let named_by_binds: Vec<&str> = host
        .get("Binds")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|bind| bind.as_str()?.split(':').nth(1))
        .collect();
    let named_by_mounts: Vec<&str> = host
        .get("Mounts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|mount| mount["Target"].as_str())
        .collect();
    let mounts = inspect["Mounts"].as_array().into_iter().flatten();
    mounts
        .filter(|mount| mount["Type"] == "volume")
        .filter(|mount| {
            let target = mount["Destination"].as_str().unwrap_or_default();
            !named_by_binds.contains(&target) && !named_by_mounts.contains(&target)
        })
        .map(|mount| {
            json!({
                "Type": "volume",
                "Source": mount["Name"],
                "Target": mount["Destination"],
                "ReadOnly": mount["RW"] == false,
            })
        })
        .collect()
}

/// The networks with what the operator chose for them, without what Docker filled in.
fn endpoints(inspect: &Value) -> Value {
    let networks = inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let chosen = |endpoint: &Value| {
        let mut kept = Map::new();
        for key in ["IPAMConfig", "Links", "DriverOpts", "GwPriority"] {
            if !endpoint[key].is_null() {
                kept.insert(key.into(), endpoint[key].clone());
            }
        }
        // Docker adds the short id as an alias of its own.
        let id = inspect["Id"].as_str().unwrap_or_default();
        let aliases: Vec<&Value> = endpoint["Aliases"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|alias| alias.as_str().is_some_and(|alias| !id.starts_with(alias)))
            .collect();
        kept.insert("Aliases".into(), json!(aliases));
        Value::Object(kept)
    };
    networks.into_iter().flatten().map(|(name, endpoint)| (name.clone(), chosen(endpoint))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_names_the_image_by_content_and_keeps_anonymous_volumes() {
        let inspect = json!({
            "Id": "abcdef012345", "Image": "sha256:1", "Config": { "Image": "web:latest", "Cmd": ["x"] },
            "HostConfig": { "Binds": ["data:/data"], "Memory": 5 },
            "Mounts": [
                { "Type": "volume", "Name": "data", "Destination": "/data", "RW": true },
                { "Type": "volume", "Name": "f00", "Destination": "/cache", "RW": true },
            ],
            "NetworkSettings": { "Networks": { "front": {
                "Aliases": ["abcdef", "web"], "IPAMConfig": { "IPv4Address": "10.0.0.9" }, "IPAddress": "10.0.0.9" } } },
        });
        let request = creation_request(&inspect);
        assert_eq!(request["Image"], "sha256:1");
        assert_eq!(request["HostConfig"]["Memory"], 5);
        assert_eq!(
            request["HostConfig"]["Mounts"],
            json!([
            { "Type": "volume", "Source": "f00", "Target": "/cache", "ReadOnly": false }])
        );
        let endpoint = &request["NetworkingConfig"]["EndpointsConfig"]["front"];
        assert_eq!(endpoint["Aliases"], json!(["web"]));
        assert_eq!(endpoint["IPAMConfig"]["IPv4Address"], "10.0.0.9");
        assert!(endpoint["IPAddress"].is_null());
    }
}
