//! Connections that go through Docker's userland proxy: it holds them itself, and dies with dockerd.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};

use super::process::read_text;
use crate::checkpoint::preflight::facts::ProxiedConnections;
use crate::network::sockets::{self, Connection};

/// What one proxy process forwards, from its command line.
#[derive(Debug, PartialEq, Eq)]
struct Proxy {
    pid: i32,
    host_port: u16,
    container: SocketAddr,
}

/// The connections of all proxies that forward to one of `addresses`.
pub(super) fn connections(addresses: &[String]) -> Vec<ProxiedConnections> {
    let wanted: HashSet<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let proxies = pids.filter_map(proxy).filter(|proxy| wanted.contains(&proxy.container.ip()));
    let mut by_port: BTreeMap<(u16, u16), ProxiedConnections> = BTreeMap::new();
    for proxy in proxies {
        let (host_port, container_port) = (proxy.host_port, proxy.container.port());
        let port = by_port.entry((host_port, container_port)).or_default();
        (port.host_port, port.container_port) = (host_port, container_port);
        for own in connections_of(&proxy) {
            if own.local.port() == host_port {
                port.clients.push(own.remote.to_string());
            } else if own.remote == proxy.container {
                port.ends.push(own.local);
            }
        }
    }
    by_port.into_values().filter(|port| !port.clients.is_empty()).collect()
}

fn proxy(pid: i32) -> Option<Proxy> {
    if fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() != "docker-proxy" {
        return None;
    }
    let command = read_text(&format!("/proc/{pid}/cmdline")).ok()?;
    parse_command(pid, &command.split('\0').collect::<Vec<_>>())
}

fn parse_command(pid: i32, command: &[&str]) -> Option<Proxy> {
    let option = |name: &str| {
        let at = command.iter().position(|word| word.trim_start_matches('-') == name)?;
        command.get(at + 1).copied()
    };
    if option("proto")? != "tcp" {
        return None;
    }
    let address: IpAddr = option("container-ip")?.parse().ok()?;
    let port = option("container-port")?.parse().ok()?;
    Some(Proxy { pid, host_port: option("host-port")?.parse().ok()?, container: SocketAddr::new(address, port) })
}

/// The proxy's own connections, to its clients and to the container.
fn connections_of(proxy: &Proxy) -> impl Iterator<Item = Connection> {
    let owned = sockets_of(proxy.pid);
    sockets::open_in(proxy.pid).unwrap_or_default().into_iter().filter(move |open| owned.contains(&open.inode))
}

fn sockets_of(pid: i32) -> HashSet<u64> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    let links = fds.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_known_by_its_command_line() {
        let line = "/usr/sbin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 \
                    -container-port 80 -use-listen-fd";
        let proxy = parse_command(7, &line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((proxy.host_port, proxy.container.to_string()), (8080, "172.17.0.2:80".to_owned()));
        let udp = line.replace("tcp", "udp");
        assert_eq!(parse_command(7, &udp.split_whitespace().collect::<Vec<_>>()), None);
        assert_eq!(parse_command(7, &["docker-proxy", "-proto"]), None);
    }

    #[test]
    fn our_own_connection_is_found_in_the_tables() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let _server = listener.accept().unwrap();
        let me = Proxy { pid: std::process::id() as i32, host_port: address.port(), container: address };
        let own: Vec<Connection> = connections_of(&me).filter(|open| open.local.port() == me.host_port).collect();
        assert_eq!(own[0].remote, client.local_addr().unwrap());
    }
}
