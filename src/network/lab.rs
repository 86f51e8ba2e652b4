//! Namespaces for the tests: nameless, so that the kernel clears them away with everything in them as soon as the test
//! lets go, by success or panic alike.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::command;
use super::error::{Error, Result};
use super::netns::NetNs;

/// A fresh network namespace with `lo` up.
pub struct Namespace {
    pub net: NetNs,
}

impl Namespace {
    pub fn new() -> Self {
        let net = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            NetNs::current().unwrap()
        })
        .join()
        .unwrap();
        let namespace = Self { net };
        // Detecting duplicate addresses takes a second or two of each test.
        namespace
            .shell("for f in all default; do echo 0 >/proc/sys/net/ipv6/conf/$f/accept_dad; done; ip link set lo up");
        namespace
    }

    /// Runs something inside; a test has nothing to do about errors but show them.
    pub fn run<T: Send>(&self, task: impl FnOnce() -> Result<T> + Send) -> T {
        self.net.run(task).unwrap()
    }

    pub fn ip(&self, batch: &str) {
        self.run(|| command::run("ip", &["-batch", "-"], &format!("{batch}\n")));
    }

    pub fn shell(&self, script: &str) -> String {
        self.run(|| command::run("sh", &["-ec", script], ""))
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.net.as_fd().as_raw_fd())
    }
}

/// Joins two namespaces by a pair of interfaces, up and with addresses.
pub fn veth(a: &Namespace, a_name: &str, a_addresses: &[&str], b: &Namespace, b_name: &str, b_addresses: &[&str]) {
    a.ip(&format!("link add {a_name} type veth peer name {b_name} netns {}", b.path()));
    for (side, name, addresses) in [(a, a_name, a_addresses), (b, b_name, b_addresses)] {
        for address in addresses {
            let quick = if address.contains(':') { " nodad" } else { "" };
            side.ip(&format!("addr add {address} dev {name}{quick}"));
        }
        side.ip(&format!("link set {name} up"));
    }
}

/// A client, a host with a bridge as Docker makes them (with a hardware address that does not follow from its ports), and two containers on the bridge: 192.0.2.1 - (192.0.2.2 |
/// 172.30.0.1) - 172.30.0.2 and .3. Port 8080 of the host leads to 7000 of the first; what the containers send out is
/// masqueraded. Both families (2001:db8:1::/64 outside, fd30::/64 inside). The rule in FORWARD lets everything through that
/// would pass anyhow, but as on a Docker host it is what keeps connections tracked when no NAT rule is left.
pub struct Segment {
    pub client: Namespace,
    pub host: Namespace,
    pub container: Namespace,
    pub neighbour: Namespace,
}

impl Segment {
    pub fn new() -> Self {
        let [client, host, container, neighbour] = std::array::from_fn(|_| Namespace::new());
        veth(
            &client,
            "eth0",
            &["192.0.2.1/24", "2001:db8:1::1/64"],
            &host,
            "eth0",
            &["192.0.2.2/24", "2001:db8:1::2/64"],
        );
        host.ip("link add br0 address 02:42:00:00:00:01 type bridge\naddr add 172.30.0.1/24 dev br0\naddr add fd30::1/64 dev br0 nodad\nlink set br0 up");
        for (namespace, last) in [(&container, 2), (&neighbour, 3)] {
            let (v4, v6) = (format!("172.30.0.{last}/24"), format!("fd30::{last}/64"));
            veth(&host, &format!("veth{last}"), &[], namespace, "eth0", &[&v4, &v6]);
            host.ip(&format!("link set veth{last} master br0"));
            namespace.ip("route add default via 172.30.0.1\nroute add default via fd30::1");
        }
        host.shell(
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
             for t in 'iptables 172.30.0.2:7000 172.30.0.0/24' 'ip6tables [fd30::2]:7000 fd30::/64'; do set -- $t
             $1 -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
             $1 -t nat -N DOCKER
             $1 -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
             $1 -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
             $1 -t nat -A DOCKER ! -i br0 -p tcp --dport 8080 -j DNAT --to-destination $2
             $1 -t nat -A POSTROUTING -s $3 ! -o br0 -j MASQUERADE
             done",
        );
        Self { client, host, container, neighbour }
    }
}

/// Answers everything on `address` inside `namespace` with the same bytes, each connection on a thread of its own.
pub fn echo_server(namespace: &Namespace, address: &str) -> SocketAddr {
    let listener = namespace.run(|| Ok(TcpListener::bind(address).unwrap()));
    let bound = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
    bound
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 65536];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

pub fn connect(namespace: &Namespace, address: &str) -> TcpStream {
    namespace.run(|| {
        let stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(10))
            .map_err(Error::netlink("connect in a test"))?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Ok(stream)
    })
}

/// One question and its answer; how long it took.
pub fn ask(stream: &mut TcpStream, number: u32) -> Duration {
    let start = Instant::now();
    stream.write_all(&number.to_be_bytes()).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(u32::from_be_bytes(answer), number);
    start.elapsed()
}

/// The same question on several connections; the longest it took.
pub fn ask_all(streams: &mut [TcpStream], number: u32) -> Duration {
    streams.iter_mut().map(|stream| ask(stream, number)).max().unwrap_or_default()
}

/// Makes a namespace look for a neighbour, and returns what became of it: an entry with `lladdr`, or `FAILED`.
pub fn resolve(namespace: &Namespace, address: &str) -> String {
    namespace.shell(&format!("ip neigh flush {address}"));
    let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = namespace.run(|| Ok(std::net::UdpSocket::bind(any).unwrap()));
    socket.send_to(b"x", (address, 9)).unwrap();
    let start = Instant::now();
    loop {
        let known = namespace.shell(&format!("ip neigh show {address}"));
        if known.contains("lladdr") || known.contains("FAILED") {
            return known;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{known}");
    }
}
