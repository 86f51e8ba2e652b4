//! What comes to a host's published ports for a container that has moved to another host goes there.
//!
//! ```text
//!   client C:P ──► A:8080 ══ A: source A:P, destination B:8080 ══► B:8080 ══ B: source C:P, destination container:80 ══►
//! ```
//!
//! New connections meet the rules of [`Forward::put`]: they are translated to the other host and masqueraded, so that
//! the answers come back this way. Open ones are known by their tracked entries alone: [`departed`] are the entries on the
//! host that the container has left, [`arrived`] those where it is now. There its socket still sees the client, to
//! whom it has been talking all along. A container that moves on leaves a chain of such entries; one that comes back takes
//! them in.
//!
//! Connections that the container itself has opened through its host's address are not moved: what it sends would leave
//! from another address.

use super::command;
use super::error::Result;
use super::rules::{self, PREFIX, push};
use super::spec::{Family, Protocol, Published};
use super::tracking::{self, Entry, Tuple};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// Two hosts, by the addresses at which they reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The host that the container leaves.
    pub source: IpAddr,
    /// The host that it comes to.
    pub destination: IpAddr,
}

/// The published ports of one container that has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Tells its rules from others': letters and digits, no more than twelve.
    pub key: String,
    /// Where the container was, and where it is.
    pub link: Link,
    /// What was published here, and is there.
    pub published: Vec<Published>,
}

/// Chains that lead new connections there; in the nat table those before and behind routing, in filter what lets them by.
const TABLES: [(&str, &[&str]); 2] = [("nat", &["PREROUTING", "OUTPUT", "POSTROUTING"]), ("filter", &["FORWARD"])];

/// Which visitors are led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leads {
    /// All: Docker's own rules for the container that has just left are still there, and must not see them.
    Everybody,
    /// Those who come for a port that nobody publishes here anew.
    WhoeverFindsNobody,
    /// Those whose connections are open.
    OpenOnly,
}

impl Forward {
    /// Puts the rules in place, or replaces those that are there, in one go for each table: nobody comes in between.
    ///
    /// # Errors
    /// Those of iptables.
    pub fn put(&self, leads: Leads) -> Result<()> {
        let mut text = String::new();
        for (table, hooks) in TABLES {
            let present = self.present(table)?;
            push(&mut text, format_args!("*{table}"));
            hooks.iter().for_each(|hook| push(&mut text, format_args!(":{} - [0:0]", self.chain(hook))));
            self.unhook(&mut text, hooks, &present);
            self.render(&mut text, hooks, leads);
            text.push_str("COMMIT\n");
        }
        rules::restore(self.family(), &text)
    }

    /// Takes the rules away, which ends what they lead.
    ///
    /// # Errors
    /// Those of iptables.
    pub fn remove(&self) -> Result<()> {
        for (table, hooks) in TABLES {
            let present = self.present(table)?;
            let there: Vec<_> =
                hooks.iter().filter(|hook| present.contains(&format!("-N {}", self.chain(hook)))).collect();
            if there.is_empty() {
                continue;
            }
            let mut text = format!("*{table}\n");
            self.unhook(&mut text, hooks, &present);
            there.iter().for_each(|hook| push(&mut text, format_args!("-F {}", self.chain(hook))));
            there.iter().for_each(|hook| push(&mut text, format_args!("-X {}", self.chain(hook))));
            text.push_str("COMMIT\n");
            rules::restore(self.family(), &text)?;
        }
        Ok(())
    }

    /// Whether a connection is open that goes this way.
    ///
    /// # Errors
    /// When the kernel does not give its table of connections.
    pub fn is_used(&self) -> Result<bool> {
        let entries = tracking::save(&[self.link.destination])?;
        let goes_there = |entry: &Entry| {
            entry.original.destination.ip() != self.link.destination
                && entry.reply.source.ip() == self.link.destination
                && self.published.iter().any(|port| port.host_port == entry.reply.source.port())
        };
        Ok(entries.iter().any(goes_there))
    }

    fn family(&self) -> Family {
        Family::of(self.link.destination)
    }

    fn present(&self, table: &str) -> Result<HashSet<String>> {
        let text = command::run(self.family().tool(), &["-w", "10", "-t", table, "-S"], "")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn unhook(&self, text: &mut String, hooks: &[&str], present: &HashSet<String>) {
        for hook in hooks {
            let chain = self.chain(hook);
            if present.contains(&rules::jump(hook, &chain)) {
                push(text, format_args!("-D {hook} -j {chain}"));
            }
        }
    }

    fn render(&self, text: &mut String, hooks: &[&str], leads: Leads) {
        let of_family = |port: &&Published| port.host_ip.is_none_or(|ip| Family::of(ip) == self.family());
        let published: Vec<_> = self.published.iter().filter(of_family).collect();
        for hook in hooks {
            // What lets packets by, and what sends their answers back, is in nobody's way.
            let is_for_new = matches!(*hook, "PREROUTING" | "OUTPUT");
            if !(is_for_new && leads == Leads::OpenOnly) {
                published.iter().for_each(|port| self.rule(text, hook, port));
            }
            let how = if is_for_new && leads != Leads::Everybody { "-A" } else { "-I" };
            push(text, format_args!("{how} {hook} -j {}", self.chain(hook)));
        }
    }

    fn rule(&self, text: &mut String, hook: &str, port: &Published) {
        let (chain, name, number) = (self.chain(hook), port.protocol.name(), port.host_port);
        let there = SocketAddr::new(self.link.destination, number);
        let to = self.link.destination;
        match hook {
            "PREROUTING" | "OUTPUT" => {
                let matches = rules::destination(port);
                push(text, format_args!("-A {chain} {matches} -j DNAT --to-destination {there}"));
            }
            "POSTROUTING" => {
                let translated = format!("-m conntrack --ctstate DNAT --ctorigdstport {number}");
                push(
                    text,
                    format_args!("-A {chain} -d {to} -p {name} -m {name} --dport {number} {translated} -j MASQUERADE"),
                );
            }
            _ => {
                let translated = "-m conntrack --ctstate DNAT";
                push(
                    text,
                    format_args!("-A {chain} -d {to} -p {name} -m {name} --dport {number} {translated} -j ACCEPT"),
                );
                push(
                    text,
                    format_args!("-A {chain} -s {to} -p {name} -m {name} --sport {number} {translated} -j ACCEPT"),
                );
            }
        }
    }

    fn chain(&self, hook: &str) -> String {
        // A chain's name has at most 28 letters.
        let short = match hook {
            "PREROUTING" => "in",
            "OUTPUT" => "own",
            "POSTROUTING" => "out",
            _ => "by",
        };
        format!("{PREFIX}f{}-{short}", self.key)
    }
}

/// The entries by which open connections to published ports go on to the other host, on the host that the container
/// has left. Those that have come from there need none: they do not leave it any more.
pub fn departed(entries: &[Entry], container: &[IpAddr], link: Link) -> Vec<Entry> {
    let moved = |entry: &&Entry| through_port(entry, container, link) && entry.original.source.ip() != link.destination;
    let rewrite = |entry: &Entry| Entry {
        reply: Tuple {
            source: SocketAddr::new(link.destination, entry.original.destination.port()),
            destination: SocketAddr::new(link.source, entry.original.source.port()),
        },
        ..entry.clone()
    };
    entries.iter().filter(moved).map(rewrite).collect()
}

/// The entries by which the container's open connections go on where it is now; `here` are those of that host. Those that
/// reach it by its own address stay as they are.
pub fn arrived(entries: &[Entry], container: &[IpAddr], link: Link, here: &[Entry]) -> Vec<Entry> {
    let led_by: HashMap<Tuple, Tuple> = here.iter().map(|entry| (entry.reply, entry.original)).collect();
    let rewrite = |entry: &Entry| {
        if !through_port(entry, container, link) {
            return entry.clone();
        }
        // A visitor of this host, who was led away from here when the container was there.
        let own = led_by.get(&entry.original.inverse()).copied();
        let led = Tuple {
            source: SocketAddr::new(link.source, entry.original.source.port()),
            destination: SocketAddr::new(link.destination, entry.original.destination.port()),
        };
        Entry { original: own.unwrap_or(led), ..entry.clone() }
    };
    entries.iter().map(rewrite).collect()
}

/// Whether somebody else's connection came to the container through a published port.
fn through_port(entry: &Entry, container: &[IpAddr], link: Link) -> bool {
    entry.protocol == Protocol::Tcp
        && entry.original.destination.ip() == link.source
        && entry.destination_nat().is_some_and(|to| container.contains(&to.ip()))
        && !container.contains(&entry.original.source.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple { source: socket(source), destination: socket(destination) }
    }

    fn entry(original: Tuple, reply: Tuple) -> Entry {
        Entry { protocol: Protocol::Tcp, original, reply, status: 6, timeout: 100, mark: 0, zone: 0, tcp: None }
    }

    fn link() -> Link {
        Link { source: "10.0.0.1".parse().unwrap(), destination: "10.0.0.2".parse().unwrap() }
    }

    #[test]
    fn an_open_connection_is_led_to_the_other_host_and_there_to_the_socket_that_knows_the_client() {
        let container = ["172.30.0.9".parse().unwrap()];
        let open = entry(tuple("10.0.0.100:5555", "10.0.0.1:8080"), tuple("172.30.0.9:80", "10.0.0.100:5555"));
        let here = &departed(std::slice::from_ref(&open), &container, link())[0];
        assert_eq!(here.original, open.original);
        assert_eq!(here.source_nat(), Some(socket("10.0.0.1:5555")));
        assert_eq!(here.destination_nat(), Some(socket("10.0.0.2:8080")));
        let there = &arrived(std::slice::from_ref(&open), &container, link(), &[])[0];
        assert_eq!(there.original, here.reply.inverse());
        assert_eq!(there.source_nat(), Some(socket("10.0.0.100:5555")));
        assert_eq!(there.destination_nat(), Some(socket("172.30.0.9:80")));
    }

    #[test]
    fn a_container_that_moves_on_still_sees_the_client() {
        let container = ["172.30.0.9".parse().unwrap()];
        let open = entry(tuple("10.0.0.100:5555", "10.0.0.1:8080"), tuple("172.30.0.9:80", "10.0.0.100:5555"));
        let second = arrived(&[open], &container, link(), &[]);
        let onward = Link { source: link().destination, destination: "10.0.0.3".parse().unwrap() };
        let third = &arrived(&second, &container, onward, &[])[0];
        assert_eq!(third.original, tuple("10.0.0.2:5555", "10.0.0.3:8080"));
        assert_eq!(third.source_nat(), Some(socket("10.0.0.100:5555")));
    }

    #[test]
    fn a_container_that_comes_back_is_reached_without_the_way_round() {
        let container = ["172.30.0.9".parse().unwrap()];
        let open = entry(tuple("10.0.0.100:5555", "10.0.0.1:8080"), tuple("172.30.0.9:80", "10.0.0.100:5555"));
        let led = departed(std::slice::from_ref(&open), &container, link());
        let there = arrived(std::slice::from_ref(&open), &container, link(), &[]);
        let back = Link { source: link().destination, destination: link().source };
        assert!(departed(&there, &container, back).is_empty());
        assert_eq!(arrived(&there, &container, back, &led), [open]);
    }

    #[test]
    fn a_connection_to_the_container_itself_stays_as_it_is() {
        let container = ["172.30.0.9".parse().unwrap()];
        let direct = tuple("10.0.0.100:5555", "172.30.0.9:80");
        let open = entry(direct, direct.inverse());
        assert!(departed(std::slice::from_ref(&open), &container, link()).is_empty());
        assert_eq!(arrived(std::slice::from_ref(&open), &container, link(), &[]), [open]);
    }

    fn rendered(published: Vec<Published>, leads: Leads) -> String {
        let mut text = String::new();
        let forward = Forward { key: "ab12".into(), link: link(), published };
        TABLES.iter().for_each(|(_, hooks)| forward.render(&mut text, hooks, leads));
        text
    }

    #[test]
    fn i7_a_port_that_is_published_here_anew_is_not_led_away() {
        let port = |ip: &str| Published { protocol: Protocol::Tcp, host_ip: ip.parse().ok(), host_port: 8080 };
        let text = rendered(vec![port("0.0.0.0"), port("::")], Leads::WhoeverFindsNobody);
        assert!(text.contains("-A PREROUTING -j TRANSSHIP-fab12-in\n"), "behind Docker's own: {text}");
        assert_eq!(text.matches("-A TRANSSHIP-fab12-in ").count(), 1, "once for a family: {text}");
    }

    #[test]
    fn new_connections_are_translated_masqueraded_and_let_by() {
        let published = vec![Published { protocol: Protocol::Tcp, host_ip: None, host_port: 8080 }];
        let text = rendered(published.clone(), Leads::Everybody);
        let prerouting = "-A TRANSSHIP-fab12-in -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080 \
             -j DNAT --to-destination 10.0.0.2:8080\n";
        assert!(text.contains(prerouting), "{text}");
        assert!(text.contains("--ctorigdstport 8080 -j MASQUERADE\n"));
        assert!(text.contains("-I PREROUTING -j TRANSSHIP-fab12-in\n"));
        let by = "-A TRANSSHIP-fab12-by -s 10.0.0.2 -p tcp -m tcp --sport 8080 -m conntrack --ctstate DNAT -j ACCEPT\n";
        assert!(text.contains(by));
        let text = rendered(published, Leads::OpenOnly);
        assert!(!text.contains("DNAT --to-destination") && text.contains(by), "{text}");
    }
}
