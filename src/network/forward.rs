//! What comes to a host's published ports for a container that has moved to another host goes there.
//!
//! New connections meet the rules of [`Forward::put`]: they are translated to the other host and masqueraded, so that
//! the answers come back this way. Open ones are known by their tracked entries alone ([`super::ways`]); the rules let
//! them by.

use super::command;
use super::error::Result;
use super::rules::{self, PREFIX, push};
use super::spec::{Family, Published};
use super::tracking::{self, Entry, Tuple};
use super::ways::Link;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::SocketAddr;

/// What is led of one container that has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Tells its rules from others': letters and digits, no more than twelve.
    pub key: String,
    /// Where the container was, and where it is.
    pub link: Link,
    /// What was published here, and is there.
    pub published: Vec<Published>,
    /// What comes back from there by the connections that were open when it moved.
    #[serde(default)]
    pub open: Vec<Tuple>,
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
    /// Puts the rules of these in place, or replaces those that are there, in one go for each family: nobody comes in between,
    /// and what takes time is starting iptables.
    ///
    /// # Errors
    /// Those of iptables.
    pub fn put(ways: &[(&Self, Leads)]) -> Result<()> {
        for family in Family::BOTH {
            let own: Vec<_> = ways.iter().filter(|(forward, _)| forward.family() == family).collect();
            if own.is_empty() {
                continue;
            }
            let mut text = String::new();
            // At the same time: a container waits for it.
            let present = std::thread::scope(|threads| {
                let asked = TABLES.map(|(table, _)| threads.spawn(move || present(family, table)));
                asked.map(|asked| asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            });
            for ((table, hooks), present) in TABLES.into_iter().zip(present) {
                let present = present?;
                push(&mut text, format_args!("*{table}"));
                for (forward, leads) in &own {
                    hooks.iter().for_each(|hook| push(&mut text, format_args!(":{} - [0:0]", forward.chain(hook))));
                    forward.unhook(&mut text, hooks, &present);
                    forward.render(&mut text, hooks, *leads);
                }
                text.push_str("COMMIT\n");
            }
            rules::restore(family, &text)?;
        }
        Ok(())
    }

    /// Takes the rules away, which ends what they lead.
    ///
    /// # Errors
    /// Those of iptables.
    pub fn remove(&self) -> Result<()> {
        for (table, hooks) in TABLES {
            let present = present(self.family(), table)?;
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
        let open: HashSet<&Tuple> = self.open.iter().collect();
        let is_visitor = |entry: &Entry| {
            entry.original.destination.ip() != self.link.destination
                && entry.reply.source.ip() == self.link.destination
                && self.published.iter().any(|port| port.host_port == entry.reply.source.port())
        };
        Ok(entries.iter().any(|entry| open.contains(&entry.reply) || is_visitor(entry)))
    }

    fn family(&self) -> Family {
        Family::of(self.link.destination)
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
            if *hook == "FORWARD" {
                self.let_open_ones_by(text, hook);
            }
            let how = if is_for_new && leads != Leads::Everybody { "-A" } else { "-I" };
            push(text, format_args!("{how} {hook} -j {}", self.chain(hook)));
        }
    }

    /// Those that are known by their entries alone: translated to the other host, and open by the word of whoever let them
    /// in.
    fn let_open_ones_by(&self, text: &mut String, hook: &str) {
        let (chain, there) = (self.chain(hook), self.link.destination);
        let translated = format!("-m conntrack --ctstate DNAT --ctreplsrc {there}");
        push(text, format_args!("-A {chain} {translated} -m conntrack --ctstate ESTABLISHED -j ACCEPT"));
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

/// The rules of a table, as `iptables -S` prints them.
fn present(family: Family, table: &str) -> Result<HashSet<String>> {
    let text = command::run(family.tool(), &["-w", "10", "-t", table, "-S"], "")?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::super::spec::Protocol;
    use super::*;

    fn link() -> Link {
        Link { source: "10.0.0.1".parse().unwrap(), destination: "10.0.0.2".parse().unwrap() }
    }

    fn rendered(published: Vec<Published>, leads: Leads) -> String {
        let mut text = String::new();
        let forward = Forward { key: "ab12".into(), link: link(), published, open: Vec::new() };
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
        let open = "-A TRANSSHIP-fab12-by -m conntrack --ctstate DNAT --ctreplsrc 10.0.0.2 \
             -m conntrack --ctstate ESTABLISHED -j ACCEPT\n";
        assert_eq!(text.matches(open).count(), 1, "{text}");
    }
}
