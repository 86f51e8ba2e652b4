//! Whether a container can have its networks and its addresses here: its connections are bound to them.

use crate::docker::{Container, is_same_network};
use crate::failure::{Failure, OrFail};
use crate::network::segment::{self, Subnet};
use crate::world::Context;
use serde_json::Value;
use std::net::IpAddr;

/// The network that every container is in that was given none.
const DEFAULT: &str = "bridge";

/// Refuses a network that is another one here, or that cannot be made beside those that are.
pub fn network(here: &[Value], told: &Value) -> Result<(), Failure> {
    let name = name_of(told);
    if let Some(own) = here.iter().find(|own| name_of(own) == name) {
        return match is_same_network(own, told) {
            true => Ok(()),
            false => Err(Failure::refused(format!(
                "the network {name} there is another one: its driver or its subnet differ"
            ))
            .remedy("give both hosts a network of the same name and subnet")),
        };
    }
    let wanted = subnets(told);
    let overlaps = |own: &&Value| subnets(own).iter().any(|one| wanted.iter().any(|other| one.overlaps(other)));
    match here.iter().find(overlaps) {
        None => Ok(()),
        Some(own) => Err(Failure::refused(format!(
            "the network {name} cannot be made there: the network {} has the same addresses",
            name_of(own)
        ))
        .remedy(format!("remove that one if nobody needs it: docker network rm {}", name_of(own)))),
    }
}

/// Refuses a container whose address somebody has here, or that is in no network's range.
pub fn addresses(context: &Context, here: &[Value], coming: &Container) -> Result<(), Failure> {
    if coming.inspect().pointer("/HostConfig/NetworkMode").and_then(Value::as_str) == Some("host") {
        return Err(Failure::refused(format!("{} uses its host's own network", coming.name()))
            .remedy("give it a network of its own"));
    }
    segment::from_inspect(coming.inspect()).or_fail(|| "its addresses cannot be read".into())?;
    let endpoints = coming.inspect().pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    for (name, endpoint) in endpoints.into_iter().flatten() {
        let Some(own) = here.iter().find(|own| name_of(own) == name) else { continue };
        for address in ["IPAddress", "GlobalIPv6Address"].iter().filter_map(|field| parse(&endpoint[*field])) {
            in_range(own, coming, address)?;
            // A list of networks does not tell who is in them.
            let told = context.docker.network(name).or_fail(|| format!("the network {name} cannot be looked at"))?;
            not_taken(&told, coming, address)?;
        }
    }
    Ok(())
}

fn in_range(own: &Value, coming: &Container, address: IpAddr) -> Result<(), Failure> {
    let ranges = subnets(own);
    if name_of(own) != DEFAULT || ranges.iter().any(|range| range.has(address)) {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{} has the address {address}, which Docker's default bridge there does not have",
        coming.name()
    ))
    .remedy("give it a user-defined network, or both hosts the same default bridge (\"bip\" in Docker's daemon.json)"))
}

fn not_taken(own: &Value, coming: &Container, address: IpAddr) -> Result<(), Failure> {
    let endpoints = own["Containers"].as_object().into_iter().flatten().map(|(_, endpoint)| endpoint);
    let has_it = |endpoint: &&Value| {
        ["IPv4Address", "IPv6Address"].iter().any(|field| parse(&endpoint[*field]) == Some(address))
    };
    match endpoints.into_iter().find(has_it) {
        None => Ok(()),
        Some(other) => Err(Failure::refused(format!(
            "{} has the address {address}, which {} has there",
            coming.name(),
            name_of(other)
        ))
        .remedy("stop that one, or give containers that move fixed addresses (--ip)")),
    }
}

/// An address as Docker writes it, with or without the length of its subnet.
fn parse(text: &Value) -> Option<IpAddr> {
    text.as_str()?.split('/').next()?.parse().ok()
}

fn name_of(told: &Value) -> &str {
    told["Name"].as_str().unwrap_or_default()
}

fn subnets(told: &Value) -> Vec<Subnet> {
    let configs = told.pointer("/IPAM/Config").and_then(Value::as_array).into_iter().flatten();
    configs.filter_map(|config| config["Subnet"].as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn net(name: &str, subnet: &str) -> Value {
        json!({ "Name": name, "Driver": "bridge", "IPAM": { "Config": [{ "Subnet": subnet }] } })
    }

    #[test]
    fn a_network_comes_where_it_is_the_same_or_has_addresses_of_its_own() {
        let here = [net("bridge", "172.17.0.0/16"), net("front", "10.60.0.0/24")];
        assert!(network(&here, &net("front", "10.60.0.0/24")).is_ok());
        assert!(network(&here, &net("back", "10.61.0.0/24")).is_ok());
        assert!(network(&here, &net("front", "10.61.0.0/24")).unwrap_err().what.contains("another one"));
        assert!(network(&here, &net("back", "10.60.0.128/25")).unwrap_err().what.contains("front"));
    }

    #[test]
    fn an_address_that_somebody_has_is_refused_with_his_name() {
        let coming = Container::new(json!({ "Name": "/web" }));
        let mut own = net("front", "10.60.0.0/24");
        own["Containers"] = json!({ "abc": { "Name": "other", "IPv4Address": "10.60.0.5/24", "IPv6Address": "" } });
        assert!(not_taken(&own, &coming, "10.60.0.5".parse().unwrap()).unwrap_err().what.contains("other"));
        assert!(not_taken(&own, &coming, "10.60.0.6".parse().unwrap()).is_ok());
        let bridge = net("bridge", "172.18.0.0/16");
        assert!(in_range(&bridge, &coming, "172.17.0.2".parse().unwrap()).is_err());
        assert!(in_range(&bridge, &coming, "172.18.0.2".parse().unwrap()).is_ok());
    }
}
