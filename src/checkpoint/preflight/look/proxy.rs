//! Connections that go through Docker's userland proxy: it holds them itself, and dies with dockerd.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::process::read_text;
use crate::checkpoint::preflight::facts::ProxiedConnections;

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
    let mut by_port: BTreeMap<(u16, u16), Vec<String>> = BTreeMap::new();
    for proxy in proxies {
        let clients = clients(&proxy);
        if !clients.is_empty() {
            by_port.entry((proxy.host_port, proxy.container.port())).or_default().extend(clients);
        }
    }
    let ports = by_port.into_iter();
    ports
        .map(|((host_port, container_port), clients)| ProxiedConnections { host_port, container_port, clients })
        .collect()
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

/// Who is connected to the proxy at its published port.
fn clients(proxy: &Proxy) -> Vec<String> {
    let owned = sockets_of(proxy.pid);
    let tables = ["tcp", "tcp6"].iter().filter_map(|name| read_text(&format!("/proc/{}/net/{name}", proxy.pid)).ok());
    let mut found = Vec::new();
    for table in tables {
        let rows = table.lines().skip(1).filter_map(parse_row);
        let mine = rows.filter(|row| row.established && owned.contains(&row.inode));
        found.extend(mine.filter(|row| row.local.port() == proxy.host_port).map(|row| row.remote.to_string()));
    }
    found
}

fn sockets_of(pid: i32) -> HashSet<u64> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    let links = fds.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    established: bool,
    inode: u64,
}

/// `sl local rem st tx:rx tr:tm retr uid timeout inode ...`
fn parse_row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some(Row {
        local: parse_address(fields.get(1)?)?,
        remote: parse_address(fields.get(2)?)?,
        established: *fields.get(3)? == "01",
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Addresses are 32-bit words in the machine's byte order, in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|at| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
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
    fn rows_are_taken_apart() {
        let row = "   0: 0100007F:1F90 0200000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let row = parse_row(row).unwrap();
        assert_eq!((row.local.to_string(), row.remote.to_string()), ("127.0.0.1:8080".into(), "10.0.0.2:50000".into()));
        assert!(row.established && row.inode == 4711);
        let mapped = parse_address("0000000000000000FFFF00000100007F:0050").unwrap();
        assert_eq!(mapped.to_string(), "127.0.0.1:80");
        assert_eq!(parse_address("ünlikely:0050"), None);
    }

    #[test]
    fn our_own_connection_is_found_in_the_tables() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let _server = listener.accept().unwrap();
        let me = Proxy { pid: std::process::id() as i32, host_port: address.port(), container: address };
        assert_eq!(clients(&me), [client.local_addr().unwrap().to_string()]);
    }
}
