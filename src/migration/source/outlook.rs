//! Whether containers can go to a peer, and what becomes of their open connections. Nothing is touched, on either host.

use super::images::{self, Way};
use super::{How, group, link, talk};
use crate::checkpoint::preflight::{ContainerFacts, Finding, Purpose};
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::migration::words::Welcome;
use crate::network::prospects::{self, Prospect, Seen};
use crate::network::sockets::{self, Connection};
use crate::network::ways::{Link, Moving};
use crate::network::{published, segment, tracking};
use crate::operations::check;
use crate::operations::checkpoint::Member;
use crate::world::Context;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// So many of the other ends are told.
const TOLD: usize = 5;

/// One answer for each container; all running ones, where none is named.
pub fn of(context: &Context, references: &[String], how: &How) -> Result<Vec<Value>, Failure> {
    let link = link::to_reachable(context, &how.peer)?;
    let mut answers = Vec::new();
    for container in &check::chosen(context, references)? {
        let together = together(context, container);
        let group: Vec<Container> = match &together {
            Ok(members) => members.iter().map(Member::container).collect(),
            Err(_) => vec![container.clone()],
        };
        let ids: Vec<String> = group.iter().map(|member| member.id().to_owned()).collect();
        let (mut findings, facts) = check::findings(context, container, &ids, Purpose::Migrate)?;
        let mut image = None;
        if check::is_able(&findings) {
            match together.and_then(|members| ask(context, members, how, link)) {
                Ok(welcome) => image = Some(image_of(context, container, &welcome, &how.peer)?),
                Err(failure) => {
                    findings.insert(0, Finding::of_peer(container.name(), &failure.to_string(), failure.remedy));
                }
            }
        }
        answers.push(json!({
            "name": container.name(),
            "id": container.id(),
            "peer": how.peer,
            "able": check::is_able(&findings),
            "findings": findings,
            "image": image,
            "connections": connections(context, container, (&facts, &group), link, &how.peer)?,
        }));
    }
    Ok(answers)
}

/// The container and all that move with it.
fn together(context: &Context, container: &Container) -> Result<Vec<Member>, Failure> {
    Ok(group::of(context, &[container.id().to_owned()])?.into_iter().flatten().collect())
}

/// What this host and the peer say to it.
fn ask(context: &Context, members: Vec<Member>, how: &How, link: Link) -> Result<Welcome, Failure> {
    talk::look(context, &super::planned(context, members, how, link)?)
}

/// How its image comes there.
fn image_of(context: &Context, container: &Container, welcome: &Welcome, peer: &str) -> Result<Value, Failure> {
    let (way, reason) = match images::way(context, container, welcome)? {
        Way::IsThere => ("is-there", format!("{peer} has it")),
        Way::Pulled(name) => ("pulled", format!("{peer} pulls {name}; where it cannot, it is sent")),
        Way::Sent(reason) => ("sent", format!("it is sent: {reason}")),
    };
    Ok(json!({ "name": container.image(), "way": way, "reason": reason }))
}

/// Tells before a migration which connections it would lose.
pub fn warn(context: &Context, members: &[Member], link: Link, peer: &str) -> Result<(), Failure> {
    let group: Vec<Container> = members.iter().map(Member::container).collect();
    for container in &group {
        let facts = check::facts(context, container)?;
        let all = connections(context, container, (&facts, &group), link, peer)?;
        for kind in all.iter().filter(|kind| !kind.lives) {
            context.told.note(&format!("{} of {} will be lost: {}", kind.counted(), container.name(), kind.reason));
        }
    }
    Ok(())
}

/// Connections of one kind.
#[derive(Debug, serde::Serialize)]
struct Kind {
    /// Whether they live on.
    lives: bool,
    count: usize,
    /// Some of the other ends.
    peers: Vec<SocketAddr>,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Kind {
    fn of(prospect: Prospect, ends: &[SocketAddr], peer: &str) -> Self {
        let (reason, remedy) = words(prospect, peer);
        let mut peers = ends.to_vec();
        peers.truncate(TOLD);
        Self { lives: prospect.lives(), count: ends.len(), peers, reason, remedy }
    }

    fn counted(&self) -> String {
        let peers: Vec<String> = self.peers.iter().map(ToString::to_string).collect();
        let more = if self.count > peers.len() { ", …" } else { "" };
        let plural = if self.count == 1 { "" } else { "s" };
        format!("{} connection{plural} ({}{more})", self.count, peers.join(", "))
    }
}

/// The connections that a container of a group would lose.
pub fn lost(
    context: &Context,
    container: &Container,
    group: &[Container],
    link: Link,
) -> Result<Vec<Connection>, Failure> {
    let found = prospects(context, container, (&check::facts(context, container)?, group), link)?;
    Ok(found.into_iter().filter(|(prospect, _)| !prospect.lives()).flat_map(|(_, lost)| lost).collect())
}

/// Connections of one container for people, by what becomes of them.
fn connections(
    context: &Context,
    container: &Container,
    (facts, group): (&ContainerFacts, &[Container]),
    link: Link,
    peer: &str,
) -> Result<Vec<Kind>, Failure> {
    let found = prospects(context, container, (facts, group), link)?;
    // Who is behind the proxy.
    let clients = || facts.proxied.iter().flat_map(|port| &port.clients).filter_map(|client| client.parse().ok());
    let kind = |(prospect, all): (Prospect, Vec<Connection>)| {
        let ends: Vec<SocketAddr> = match prospect {
            Prospect::Proxy => clients().collect(),
            _ => all.iter().map(|open| open.remote).collect(),
        };
        Kind::of(prospect, &ends, peer)
    };
    Ok(found.into_iter().map(kind).collect())
}

/// Those of a container that has a network of its own, by what becomes of them.
fn prospects(
    context: &Context,
    container: &Container,
    (facts, group): (&ContainerFacts, &[Container]),
    link: Link,
) -> Result<BTreeMap<Prospect, Vec<Connection>>, Failure> {
    let failed = || format!("the connections of {} cannot be listed", container.name());
    let Some(pid) = container.pid().filter(|_| container.shares_network_of().is_none()) else {
        return Ok(BTreeMap::new());
    };
    let addresses = published::from_inspect(container.inspect()).or_fail(failed)?.addresses;
    let segments = segment::from_inspect(container.inspect()).or_fail(failed)?;
    let (open, entries) = sockets::open_throughout(pid, || tracking::save(&addresses)).or_fail(failed)?;
    let entries = entries.or_fail(failed)?;
    let proxies: HashSet<SocketAddr> = facts.proxied.iter().flat_map(|port| port.ends.iter().copied()).collect();
    let on_segment = on_segment(context, container)?;
    let specs = group.iter().filter_map(|other| published::from_inspect(other.inspect()).ok());
    let along: Vec<IpAddr> = specs.flat_map(|spec| spec.addresses).collect();
    let seen =
        Seen { connections: &open, entries: &entries, proxies: &proxies, on_segment: &on_segment, along: &along };
    Ok(prospects::of(&seen, &Moving { addresses: &addresses, segments: &segments, link }))
}

/// Those of its addresses that are on the hosts' own segment.
fn on_segment(context: &Context, container: &Container) -> Result<Vec<IpAddr>, Failure> {
    let networks = container.inspect().pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let mut found = Vec::new();
    for (name, endpoint) in networks.into_iter().flatten() {
        let told = context.docker.network(name).or_fail(|| format!("the network {name} cannot be looked at"))?;
        if matches!(told["Driver"].as_str(), Some("macvlan" | "ipvlan")) {
            let addresses = ["IPAddress", "GlobalIPv6Address"].iter().filter_map(|field| endpoint[*field].as_str());
            found.extend(addresses.filter_map(|address| address.parse::<IpAddr>().ok()));
        }
    }
    Ok(found)
}

fn words(prospect: Prospect, peer: &str) -> (String, Option<String>) {
    let (reason, remedy) = match prospect {
        Prospect::Visitor => (format!("come by a published port of this host, which leads them to {peer}"), None),
        Prospect::Called => (format!("opened by the container; this host leads what comes back to {peer}"), None),
        Prospect::ByHost => (
            format!("come to the container's own address by way of this host, which leads them to {peer}"),
            Some("new ones have to come by a published port".to_owned()),
        ),
        Prospect::OnSegment => (
            "on the hosts' own segment, where packets cannot be held back, some are reset".to_owned(),
            Some("let it connect anew, or use a network of Docker's driver bridge".to_owned()),
        ),
        Prospect::Proxy => (
            "end in Docker's userland proxy, which stays here".to_owned(),
            Some("connect by an address of this host that is not of its loopback".to_owned()),
        ),
        Prospect::Neighbour => (
            "the other end is beside the container, on a bridge of this host".to_owned(),
            Some("move both together, or let it connect by a published port".to_owned()),
        ),
        Prospect::Host => (
            "the other end is a program of this host".to_owned(),
            Some(format!("let it connect anew, by an address that {peer} reaches")),
        ),
        Prospect::Peer => (format!("the container has called {peer} itself"), Some("let it connect anew".to_owned())),
        Prospect::OtherFamily => (
            format!("this host and {peer} do not reach each other by that address family"),
            Some("let it connect anew, or pair the hosts by addresses of that family".to_owned()),
        ),
        Prospect::Untracked => {
            ("this host does not track them, and cannot lead them".to_owned(), Some("let it connect anew".to_owned()))
        }
    };
    (reason, remedy)
}
