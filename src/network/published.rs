//! What a container owns on the network, read from what `docker inspect` says.
//!
//! Read from the JSON itself rather than from a typed model, since the fields moved over the years: up to Docker 28 the
//! default bridge's addresses also stood directly in `NetworkSettings`, since 29 they stand in `Networks` alone; whether a
//! port on all addresses is listed once or for each family differs too.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::error::{Error, Result};
use super::spec::{HoldSpec, Protocol, Published};

/// The addresses and published ports of a container, from its object in the output of `docker inspect`. Its outbound
/// connections are not known there. A container without a network of its own (`host`, `none`) has neither.
///
/// # Errors
/// [`Error::Malformed`] with the field that does not read.
pub fn from_inspect(container: &Value) -> Result<HoldSpec> {
    let settings = container
        .get("NetworkSettings")
        .and_then(Value::as_object)
        .ok_or_else(|| malformed("there is no NetworkSettings"))?;
    Ok(HoldSpec { addresses: addresses(settings)?, published: published(settings)?, outbound: Vec::new() })
}

fn addresses(settings: &Map<String, Value>) -> Result<Vec<IpAddr>> {
    let networks = settings.get("Networks").and_then(Value::as_object);
    let endpoints = networks.into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let mut found = BTreeSet::new();
    for place in endpoints.chain([settings]) {
        for field in ["IPAddress", "GlobalIPv6Address"] {
            if let Some(text) = text(place, field) {
                let address = text.parse().map_err(|_| malformed(format!("{field} is {text:?}")))?;
                found.insert(address);
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn published(settings: &Map<String, Value>) -> Result<Vec<Published>> {
    let mut found = BTreeSet::new();
    for (port, bindings) in settings.get("Ports").and_then(Value::as_object).into_iter().flatten() {
        // An exposed port that is not published has null.
        for binding in bindings.as_array().into_iter().flatten() {
            found.insert(binding_of(port, binding)?);
        }
    }
    Ok(found.into_iter().collect())
}

fn binding_of(port: &str, binding: &Value) -> Result<Published> {
    let bad = || malformed(format!("{port} is published at {binding}"));
    let binding = binding.as_object().ok_or_else(bad)?;
    let protocol = port.split_once('/').map_or(Some(Protocol::Tcp), |(_, name)| Protocol::from_name(name));
    Ok(Published {
        protocol: protocol.ok_or_else(bad)?,
        host_ip: text(binding, "HostIp").map(str::parse).transpose().map_err(|_| bad())?,
        host_port: text(binding, "HostPort")
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0)
            .ok_or_else(bad)?,
    })
}

/// A field with something in it.
fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn malformed(why: impl ToString) -> Error {
    Error::malformed("what Docker says of a container's network", why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn port(protocol: Protocol, host_ip: Option<&str>, host_port: u16) -> Published {
        Published { protocol, host_ip: host_ip.map(ip), host_port }
    }

    /// Docker 20.10, default bridge, one port on all addresses and one exposed only.
    #[test]
    fn reads_docker_20_10() {
        let inspect = json!({
            "Id": "4f5b", "NetworkSettings": {
                "Bridge": "", "SandboxID": "9c1f", "HairpinMode": false,
                "Ports": {
                    "443/tcp": null,
                    "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
                },
                "SandboxKey": "/var/run/docker/netns/9c1f", "Gateway": "172.17.0.1", "GlobalIPv6Address": "",
                "IPAddress": "172.17.0.2", "IPPrefixLen": 16, "MacAddress": "02:42:ac:11:00:02",
                "Networks": {"bridge": {
                    "IPAMConfig": null, "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2", "IPPrefixLen": 16,
                    "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
                    "MacAddress": "02:42:ac:11:00:02", "DriverOpts": null
                }}
            }
        });
        let spec = from_inspect(&inspect).unwrap();
        assert_eq!(spec.addresses, [ip("172.17.0.2")]);
        let both = [port(Protocol::Tcp, Some("0.0.0.0"), 8080), port(Protocol::Tcp, Some("::"), 8080)];
        assert_eq!(spec.published, both);
    }

    /// Docker 26.1, two user-defined networks, one with IPv6; ports on one address, over UDP and SCTP.
    #[test]
    fn reads_docker_26() {
        let inspect = json!({
            "NetworkSettings": {
                "Ports": {
                    "53/udp": [{"HostIp": "192.0.2.2", "HostPort": "53"}],
                    "9899/sctp": [{"HostIp": "", "HostPort": "49153"}]
                },
                "IPAddress": "", "GlobalIPv6Address": "",
                "Networks": {
                    "back": {"IPAMConfig": {"IPv4Address": "10.9.0.7"}, "IPAddress": "10.9.0.7",
                             "GlobalIPv6Address": "", "DNSNames": ["db", "4f5b"]},
                    "front": {"IPAMConfig": {}, "IPAddress": "172.30.0.2", "GlobalIPv6Address": "fd30::2",
                              "GlobalIPv6PrefixLen": 64}
                }
            }
        });
        let spec = from_inspect(&inspect).unwrap();
        assert_eq!(spec.addresses, [ip("10.9.0.7"), ip("172.30.0.2"), ip("fd30::2")]);
        assert_eq!(spec.published, [port(Protocol::Udp, Some("192.0.2.2"), 53), port(Protocol::Sctp, None, 49153)]);
    }

    /// Docker 28.5 keeps the old fields; 29 has no addresses outside of `Networks`.
    #[test]
    fn reads_docker_28_and_later() {
        let mut inspect = json!({
            "NetworkSettings": {
                "SandboxID": "77aa",
                "Ports": {"7000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "7000"}]},
                "Networks": {"bridge": {"IPAMConfig": null, "MacAddress": "de:ad:be:ef:00:01", "GwPriority": 0,
                    "IPAddress": "172.17.0.3", "GlobalIPv6Address": ""}}
            }
        });
        let later = from_inspect(&inspect).unwrap();
        inspect["NetworkSettings"]["IPAddress"] = json!("172.17.0.3");
        assert_eq!(from_inspect(&inspect).unwrap(), later);
        assert_eq!(later.addresses, [ip("172.17.0.3")]);
        assert_eq!(later.published, [port(Protocol::Tcp, Some("127.0.0.1"), 7000)]);
    }

    #[test]
    fn a_container_without_a_network_owns_nothing() {
        let host = json!({"NetworkSettings": {"Ports": {}, "IPAddress": "",
            "Networks": {"host": {"IPAddress": "", "GlobalIPv6Address": ""}}}});
        assert_eq!(from_inspect(&host).unwrap(), HoldSpec::default());
        let shared = json!({"NetworkSettings": {"Ports": {}, "Networks": {}}});
        assert_eq!(from_inspect(&shared).unwrap(), HoldSpec::default());
    }

    #[test]
    fn what_does_not_read_is_named() {
        let said = |inspect: Value| from_inspect(&inspect).unwrap_err().to_string();
        assert!(said(json!({})).contains("NetworkSettings"));
        assert!(said(json!({"NetworkSettings": {"IPAddress": "nowhere"}})).contains("nowhere"));
        let ports = |bindings| json!({"NetworkSettings": {"Ports": {"80/tcp": bindings}}});
        assert!(said(ports(json!([{"HostIp": "", "HostPort": "99999"}]))).contains("80/tcp"));
        assert!(said(ports(json!(["8080"]))).contains("8080"));
    }
}
