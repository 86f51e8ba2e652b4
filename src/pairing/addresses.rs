//! Where other hosts can reach this one, unless the operator says so.

use crate::failure::{Failure, OrFail};
use crate::transport::Address;
use crate::transport::token::MAX_ADDRESSES;
use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Interfaces of Docker's, whose addresses lead to containers of this host.
const DOCKERS_OWN: [&str; 4] = ["docker", "br-", "veth", "lo"];

/// The addresses that were given, or else this host's own.
pub fn of(given: &[String], port: u16) -> Result<Vec<Address>, Failure> {
    if given.len() > MAX_ADDRESSES {
        return Err(Failure::usage(format!("at most {MAX_ADDRESSES} addresses can be told")));
    }
    let read = |text: &String| {
        Address::parse_or(text, port).map_err(|error| Failure::usage("an address cannot be used").because(&error))
    };
    if !given.is_empty() {
        return given.iter().map(read).collect();
    }
    let interfaces = interfaces().or_fail(|| "this host's addresses cannot be found".into())?;
    let chosen = choose(&interfaces, &default_routes());
    if chosen.is_empty() {
        return Err(Failure::refused("this host has no address that others could reach it at")
            .remedy("say where it is reached: --address HOST[:PORT]"));
    }
    Ok(chosen.into_iter().map(|ip| Address::of(ip, port)).collect())
}

/// Those of interfaces that have a default route, or else all that may lead out.
fn choose(interfaces: &[(String, IpAddr)], default_routes: &BTreeSet<String>) -> Vec<IpAddr> {
    let is_outward =
        |(name, ip): &&(String, IpAddr)| is_global(ip) && !DOCKERS_OWN.iter().any(|dockers| name.starts_with(dockers));
    let outward: Vec<_> = interfaces.iter().filter(is_outward).collect();
    let has_route = outward.iter().any(|(name, _)| default_routes.contains(name));
    let chosen = outward.into_iter().filter(|(name, _)| !has_route || default_routes.contains(name));
    chosen.map(|(_, ip)| *ip).take(MAX_ADDRESSES).collect()
}

fn is_global(ip: &IpAddr) -> bool {
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !is_local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

fn interfaces() -> nix::Result<Vec<(String, IpAddr)>> {
    let found = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
        Some((interface.interface_name, ip))
    });
    Ok(found.collect())
}

/// Names of the interfaces that lead everywhere. A table that is not there has no routes.
fn default_routes() -> BTreeSet<String> {
    let v4 = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    default_routes_v4(&v4).chain(default_routes_v6(&v6)).collect()
}

/// Interface, destination, gateway, flags, three numbers, mask.
fn default_routes_v4(table: &str) -> impl Iterator<Item = String> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, destination, mask) = (fields.next()?, fields.next()?, fields.nth(5)?);
        (destination == "00000000" && mask == "00000000").then(|| name.to_owned())
    })
}

/// Destination, length of its prefix, six more fields, flags, interface.
fn default_routes_v6(table: &str) -> impl Iterator<Item = String> {
    table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, length, .., name] = fields.as_slice() else { return None };
        let is_default = destination.bytes().all(|digit| digit == b'0') && *length == "00" && *name != "lo";
        is_default.then(|| (*name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(list: &[(&str, &str)]) -> Vec<(String, IpAddr)> {
        list.iter().map(|(name, ip)| ((*name).to_owned(), ip.parse().unwrap())).collect()
    }

    const HOST: &[(&str, &str)] = &[
        ("lo", "127.0.0.1"),
        ("eth0", "192.0.2.1"),
        ("eth0", "fe80::1"),
        ("eth0", "2001:db8::1"),
        ("eth1", "10.0.0.1"),
        ("docker0", "172.17.0.1"),
        ("br-0123456789ab", "172.18.0.1"),
    ];

    fn chosen(routes: &[&str]) -> Vec<String> {
        let routes = routes.iter().map(|name| (*name).to_owned()).collect();
        choose(&interfaces(HOST), &routes).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn the_addresses_with_a_default_route_are_told() {
        assert_eq!(chosen(&["eth0"]), ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn without_a_default_route_all_but_dockers_are_told() {
        assert_eq!(chosen(&[]), ["192.0.2.1", "2001:db8::1", "10.0.0.1"]);
    }

    #[test]
    fn default_routes_are_found_as_the_kernel_prints_them() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_routes_v4(v4).collect::<Vec<_>>(), ["eth0"]);
        let none = "00000000000000000000000000000000";
        let v6 = format!(
            "{none} 00 {none} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             {none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo\n\
             20010db8000000000000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001     eth1\n"
        );
        assert_eq!(default_routes_v6(&v6).collect::<Vec<_>>(), ["eth0"]);
    }

    #[test]
    fn what_the_operator_gives_is_taken_as_it_is() {
        let given = ["web.example".to_owned(), "10.0.0.1:1".to_owned()];
        let told: Vec<_> = of(&given, 7423).unwrap().iter().map(Address::to_string).collect();
        assert_eq!(told, ["web.example:7423", "10.0.0.1:1"]);
        assert!(of(&["a b".to_owned()], 7423).is_err());
    }
}
