//! Sockets. After CRIU's `sk-inet.c`, `sk-unix.c` and `sk-netlink.c`.

use std::collections::BTreeSet;

use super::super::facts::{ContainerFacts, FileKind};
use super::super::{Context, Finding};
use super::count;

/// Protocols that CRIU dumps, as the kernel names them, without the `v6` or `6` of the newer family.
const DUMPED: [&str; 10] =
    ["TCP", "UDP", "UDP-Lite", "UDPLITE", "RAW", "PING", "UNIX", "UNIX-STREAM", "NETLINK", "PACKET"];
/// Clients named in one finding.
const NAMED: usize = 5;

/// The rules on sockets.
pub(super) fn judge(facts: &ContainerFacts, _: &Context<'_>) -> Vec<Finding> {
    let mut found = protocols(facts);
    found.extend(connected_outside(facts));
    found.extend(datagrams_outside(facts));
    found.extend(unread_netlink(facts));
    found.extend(waiting(facts));
    found.extend(proxied(facts));
    found.extend(engine_socket(facts));
    found
}

fn protocols(facts: &ContainerFacts) -> Vec<Finding> {
    let files = facts.processes.iter().flat_map(|process| &process.files);
    let used: BTreeSet<&str> = files
        .filter_map(|file| match &file.kind {
            FileKind::Socket { protocol, .. } if !protocol.is_empty() => Some(plain(protocol)),
            _ => None,
        })
        .collect();
    used.into_iter().filter(|protocol| !DUMPED.contains(protocol)).map(|p| protocol(facts, p)).collect()
}

fn plain(protocol: &str) -> &str {
    protocol.strip_suffix("v6").unwrap_or(protocol)
}

fn protocol(facts: &ContainerFacts, protocol: &str) -> Finding {
    let name = &facts.engine.name;
    if protocol == "MPTCP" {
        return Finding::refuse(
            "socket.mptcp",
            name,
            "The container has multipath TCP sockets, which CRIU cannot dump; Go programs open them unasked.",
            "Set GODEBUG=multipathtcp=0 for a Go program, or sysctl net.mptcp.enabled=0 for the container.",
        );
    }
    Finding::refuse(
        "socket.protocol",
        name,
        format!("The container has sockets of the protocol {protocol}, which CRIU cannot dump."),
        "Have the program close them, or stop the container for the operation.",
    )
}

/// A stream has two ends, and both have to be dumped.
fn connected_outside(facts: &ContainerFacts) -> Option<Finding> {
    let streams: Vec<_> = facts.external_unix.iter().filter(|socket| !socket.datagram).collect();
    if streams.is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = streams.iter().map(|socket| socket.peer_name.as_deref().unwrap_or("no name")).collect();
    let names = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    Some(Finding::refuse(
        "socket.unix-outside",
        &facts.engine.name,
        format!(
            "The container has {} over unix sockets to programs outside of it: {names}.",
            count(streams.len(), "connection")
        ),
        "End the connections, for the Docker socket by stopping what uses it, or stop the container for the operation.",
    ))
}

/// CRIU connects these anew, by name, where there is one.
fn datagrams_outside(facts: &ContainerFacts) -> Vec<Finding> {
    let (named, nameless): (Vec<_>, Vec<_>) =
        facts.external_unix.iter().filter(|socket| socket.datagram).partition(|socket| socket.peer_name.is_some());
    let mut found = Vec::new();
    if !nameless.is_empty() {
        found.push(Finding::refuse(
            "socket.unix-nameless",
            &facts.engine.name,
            format!("{} to somebody outside without a name.", count(nameless.len(), "unix datagram socket leads")),
            "Restart the program that made them, or stop the container for the operation.",
        ));
    }
    if !named.is_empty() {
        let names: BTreeSet<&str> = named.iter().filter_map(|socket| socket.peer_name.as_deref()).collect();
        let names = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        found.push(Finding::warn(
            "socket.unix-datagram",
            &facts.engine.name,
            format!("The container sends to {names} outside of it, and is connected to that name anew."),
            "Make sure that it is there at the restore.",
        ));
    }
    found
}

/// CRIU fails on a netlink socket that has something to read. Most often somebody reads it a moment later.
fn unread_netlink(facts: &ContainerFacts) -> Option<Finding> {
    let unread = facts.netlink.iter().filter(|socket| socket.unread > 0).count();
    (unread > 0).then(|| {
        Finding::warn(
            "socket.netlink-unread",
            &facts.engine.name,
            format!(
                "The container has not read what came in on {}, and cannot be dumped until it does.",
                count(unread, "netlink socket")
            ),
            "Nothing, if it reads a moment later; else restart the program that does not.",
        )
    })
}

fn waiting(facts: &ContainerFacts) -> Option<Finding> {
    let busiest = facts.waiting.iter().max_by_key(|socket| socket.count)?;
    Some(Finding::warn(
        "socket.waiting",
        &facts.engine.name,
        format!(
            "{} on port {} wait to be accepted; the freeze waits for that.",
            count(busiest.count as usize, "connection"),
            busiest.port
        ),
        "Nothing, unless the program has stopped accepting, which then has to be restarted.",
    ))
}

/// The proxy is dockerd's child and holds half of each connection itself.
fn proxied(facts: &ContainerFacts) -> Vec<Finding> {
    let ports = facts.proxied.iter().filter(|port| !port.clients.is_empty());
    ports
        .map(|port| {
            let clients: Vec<&str> = port.clients.iter().take(NAMED).map(String::as_str).collect();
            Finding::warn(
                "socket.proxied",
                &facts.engine.name,
                format!(
                    "{} to port {} run through Docker's userland proxy and will be cut: from {}.",
                    count(port.clients.len(), "connection"),
                    port.host_port,
                    clients.join(", ")
                ),
                format!(
                    "Connect to the container's own address and port {}, or set \"userland-proxy\": false in Docker's daemon.json.",
                    port.container_port
                ),
            )
        })
        .collect()
}

/// Merely having Docker's socket mounted is no hindrance; its clients have to bear with an engine that restarts.
fn engine_socket(facts: &ContainerFacts) -> Option<Finding> {
    let mounted = facts.engine.mounts.iter().any(|mount| mount.source.ends_with("/docker.sock"));
    mounted.then(|| {
        Finding::warn(
            "socket.engine",
            &facts.engine.name,
            "The container has Docker's socket, whose other end changes with the engine or the host.",
            "Make sure that the program connects anew.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{
        EngineMount, ExternalUnix, NetlinkSocket, OpenFile, ProxiedConnections, WaitingConnections,
    };
    use super::super::testing::{refused, warned};
    use super::*;

    fn socket(protocol: &str) -> impl Fn(&mut ContainerFacts) {
        move |f| {
            let kind = FileKind::Socket { inode: 9, protocol: protocol.into() };
            f.processes[1].files.push(OpenFile { fd: 9, kind });
        }
    }

    #[test]
    fn protocols_are_judged_by_what_criu_dumps() {
        for protocol in ["TCP", "TCPv6", "UDPv6", "UDPLITEv6", "RAW", "PINGv6", "UNIX", "NETLINK", "PACKET", ""] {
            assert!(refused(socket(protocol)).is_empty(), "{protocol}");
        }
        for protocol in ["SCTP", "SCTPv6", "DCCP", "AF_VSOCK", "ALG", "XDP", "SMC", "TIPC"] {
            assert_eq!(refused(socket(protocol)), ["socket.protocol"], "{protocol}");
        }
        assert_eq!(refused(socket("MPTCP")), ["socket.mptcp"]);
        assert_eq!(refused(socket("MPTCPv6")), ["socket.mptcp"]);
    }

    #[test]
    fn unix_sockets_that_lead_outside_are_judged_by_kind_and_name() {
        let outside = |datagram, name: Option<&str>| {
            let socket = ExternalUnix { datagram, peer_name: name.map(str::to_owned), ..ExternalUnix::default() };
            move |f: &mut ContainerFacts| f.external_unix = vec![socket]
        };
        assert_eq!(refused(outside(false, Some("/run/docker.sock"))), ["socket.unix-outside"]);
        assert_eq!(refused(outside(true, None)), ["socket.unix-nameless"]);
        assert_eq!(warned(outside(true, Some("/dev/log"))), ["socket.unix-datagram"]);
    }

    #[test]
    fn what_passes_by_itself_is_a_warning() {
        let netlink = |unread| NetlinkSocket { unread, ..NetlinkSocket::default() };
        assert_eq!(warned(|f| f.netlink = vec![netlink(0), netlink(8)]), ["socket.netlink-unread"]);
        assert!(warned(|f| f.netlink = vec![netlink(0)]).is_empty());
        assert_eq!(warned(|f| f.waiting = vec![WaitingConnections { port: 80, count: 3 }]), ["socket.waiting"]);
    }

    #[test]
    fn connections_through_the_proxy_are_told() {
        let port = |clients: &[&str]| ProxiedConnections {
            host_port: 8080,
            container_port: 80,
            clients: clients.iter().map(|client| (*client).to_owned()).collect(),
            ends: Vec::new(),
        };
        assert_eq!(warned(|f| f.proxied = vec![port(&["127.0.0.1:5"])]), ["socket.proxied"]);
        assert!(warned(|f| f.proxied = vec![port(&[])]).is_empty());
    }

    #[test]
    fn the_engines_socket_is_told() {
        let mount = EngineMount { source: "/var/run/docker.sock".into(), ..EngineMount::default() };
        assert_eq!(warned(|f| f.engine.mounts = vec![mount]), ["socket.engine"]);
    }
}
