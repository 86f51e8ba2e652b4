//! The hold inside the container's own network namespace.
//!
//! The hold on the host does not see what never passes the host: neighbours on the same bridge, and the container talking to
//! itself over `lo`. Before the dump, [`hold_new`] keeps all new connections out, wherever they come from, until the queues
//! of accepted ones are empty ([`wait_until_clear`](super::backlog::wait_until_clear)). Between a dump that
//! left the container frozen and its being killed, [`silence`] sees to it that its dying sockets say nothing to anybody.
//! [`release`] undoes either for the way back.
//!
//! New connections are parked, not dropped. When the dump is followed by the end of the namespace the parked ones are lost
//! like dropped ones would be, and the hold on the host has those that count. But when the container goes on (a checkpoint
//! with `--leave-running`, or a rollback), a dropped one would cost its client a second until it tries again, and a
//! container that talks to itself over `lo` just the same. A connection the container was about to open is dumped as such
//! (SYN_SENT) and tries again by itself after the restore.
//!
//! The rules die with the namespace and are not restored. They are made with the host's own iptables, so the container need
//! not have any.

use super::error::{Error, Result};
use super::hold::Bounds;
use super::netns::{NetNs, read_kernel, write_kernel};
use super::queue::{self, Keeper};
use super::rules;
use super::spec::Family;

const NEW: &str = "TRANSSHIP-NEW";
const SILENT: &str = "TRANSSHIP-SILENT";
/// Queues are numbered anew in each namespace, and a container has hardly any of its own.
const QUEUES: std::ops::RangeInclusive<u16> = 0x5453..=0x5462;

/// ARP answers for no address (Documentation/networking/ip-sysctl.rst, `arp_ignore`); iptables does not see ARP.
const ARP_IGNORE: &str = "/proc/sys/net/ipv4/conf/all/arp_ignore";
const ANSWER_NOTHING: &str = "8";
const ANSWER_AS_USUAL: &str = "0";

/// New connections of a namespace, kept. Dropped without [`release`](Self::release) its rules stay until the namespace is
/// gone or [`release`](self::release) is called on it.
#[must_use = "dropping it loses the parked connections and leaves its rules"]
pub struct NewConnections {
    namespace: NetNs,
    keeper: Keeper,
}

/// Keeps new TCP connections, from outside and over `lo`, out of the namespace; open ones go on.
///
/// # Errors
/// When the namespace has no free queue, or iptables refuses; then nothing is left behind.
pub fn hold_new(namespace: NetNs, bounds: Bounds) -> Result<NewConnections> {
    let keeper = namespace.run(|| {
        let keeper = free_queue(bounds)?;
        let target = format!("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j NFQUEUE --queue-num {}", keeper.queue);
        match place(NEW, &["PREROUTING"], &target) {
            Ok(()) => Ok(keeper),
            Err(error) => {
                // The failure is reported, not what follows from it.
                if let Err(error) = remove(&[NEW]) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot take a failed hold back");
                }
                Err(error)
            }
        }
    })?;
    Ok(NewConnections { namespace, keeper })
}

impl NewConnections {
    /// Lets new connections in, first those that waited. Returns how many packets those were.
    ///
    /// # Errors
    /// Those of iptables; what was parked is then lost, and clients try again by themselves.
    pub fn release(self) -> Result<u64> {
        self.namespace.run(|| remove(&[NEW]))?;
        Ok(self.keeper.close()?.parked)
    }
}

/// Drops everything that comes into or leaves the namespace, ARP answers included. May be repeated.
///
/// # Errors
/// Those of iptables. IPv6 may fail only where the namespace has no IPv6 addresses but those of `lo`.
pub fn silence(namespace: &NetNs) -> Result<()> {
    namespace.run(|| {
        place(SILENT, &["PREROUTING", "OUTPUT"], "-j DROP")?;
        write_kernel(ARP_IGNORE, ANSWER_NOTHING)
    })
}

/// Removes what [`hold_new`] and [`silence`] have made, also after their helper has died. It may be called on any namespace,
/// any number of times.
///
/// # Errors
/// Those of iptables.
pub fn release(namespace: &NetNs) -> Result<()> {
    namespace.run(|| {
        remove(&[NEW, SILENT])?;
        if read_kernel(ARP_IGNORE)?.trim() == ANSWER_NOTHING {
            write_kernel(ARP_IGNORE, ANSWER_AS_USUAL)?;
        }
        Ok(())
    })
}

fn free_queue(bounds: Bounds) -> Result<Keeper> {
    let taken = queue::in_use()?;
    let free = QUEUES.clone().find(|queue| !taken.contains(queue));
    let queue = free.ok_or(Error::NoFreeQueue { first: *QUEUES.start(), last: *QUEUES.end() })?;
    Keeper::open(queue, bounds.max_packets)
}

/// A chain of one rule, entered first of all from the hooks, in both families. Nobody looks first whether it is there: a
/// container waits, and [`remove`] takes away as many jumps as there are.
fn place(chain: &str, hooks: &[&str], rule: &str) -> Result<()> {
    let placed = rules::for_both(|family| {
        let jumps: String = hooks.iter().map(|hook| format!("-I {hook} 1 -j {chain}\n")).collect();
        rules::restore(family, &format!("*raw\n:{chain} - [0:0]\n-A {chain} {rule}\n{jumps}COMMIT\n"))
    });
    for (family, placed) in Family::BOTH.into_iter().zip(placed) {
        match placed {
            Err(error) if family == Family::V6 && !has_ipv6()? => {
                tracing::debug!(
                    chain,
                    error = &error as &dyn std::error::Error,
                    "no IPv6 rules in a namespace without"
                );
            }
            other => other?,
        }
    }
    Ok(())
}

fn remove(unwanted: &[&str]) -> Result<()> {
    for family in Family::BOTH {
        let present = match rules::list(family) {
            Err(Error::Command { .. } | Error::Spawn { .. }) if family == Family::V6 => continue,
            other => other?,
        };
        let there = |chain: &&&str| present.contains(&format!("-N {chain}"));
        let chains: Vec<&str> = unwanted.iter().filter(there).copied().collect();
        if let Some(rules) = rules::removal(&present, &chains) {
            rules::restore(family, &rules)?;
        }
    }
    Ok(())
}

/// Whether any interface but `lo` has an IPv6 address. The file is missing where the kernel has no IPv6.
fn has_ipv6() -> Result<bool> {
    match std::fs::read_to_string("/proc/thread-self/net/if_inet6") {
        Ok(text) => Ok(text.lines().any(|line| line.split_whitespace().next_back() != Some("lo"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::Kernel { path: "/proc/thread-self/net/if_inet6".into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::super::command;
    use super::super::lab::{Namespace, Segment, ask, ask_all, connect, echo_server, resolve};
    use super::*;

    fn of(namespace: &Namespace) -> NetNs {
        NetNs::at(std::path::Path::new(&namespace.path())).unwrap()
    }

    fn nothing_left(namespace: &Namespace) {
        for tool in ["iptables-save", "ip6tables-save"] {
            let rules = namespace.run(|| command::run(tool, &["-t", "raw"], ""));
            assert!(!rules.contains("TRANSSHIP"), "{rules}");
        }
        assert_eq!(namespace.run(|| read_kernel(ARP_IGNORE)).trim(), ANSWER_AS_USUAL);
        assert!(namespace.run(queue::in_use).is_empty());
    }

    fn until_waiting(namespace: &Namespace, new: &NewConnections, packets: u64) {
        while namespace.run(|| queue::waiting_and_dropped(new.keeper.queue)).0 < packets {
            std::thread::yield_now();
        }
    }

    /// New connections wait, from a neighbour, from the host and from within; open ones go on; and all are let in again.
    #[test]
    fn new_connections_wait_wherever_they_come_from() {
        let segment = Segment::new();
        echo_server(&segment.container, "0.0.0.0:7000");
        echo_server(&segment.container, "[fd30::2]:7001");
        let sources = [
            (&segment.neighbour, "172.30.0.2:7000"),
            (&segment.neighbour, "[fd30::2]:7001"),
            (&segment.host, "172.30.0.2:7000"),
            (&segment.container, "127.0.0.1:7000"),
        ];
        let mut open = sources.map(|(from, to)| connect(from, to));
        let new = hold_new(of(&segment.container), Bounds::default()).unwrap();
        std::thread::scope(|scope| {
            let connecting = sources.map(|(from, to)| scope.spawn(move || connect(from, to)));
            until_waiting(&segment.container, &new, 4);
            ask_all(&mut open, 1);
            let released = Instant::now();
            assert_eq!(new.release().unwrap(), 4);
            for connecting in connecting {
                ask(&mut connecting.join().unwrap(), 2);
            }
            assert!(released.elapsed() < Duration::from_millis(500), "{:?}", released.elapsed());
        });
        nothing_left(&segment.container);
    }

    /// I2: what dies in silence is not heard; what is brought back goes on.
    #[test]
    fn i2_a_silenced_namespace_says_nothing_and_goes_on_after() {
        let segment = Segment::new();
        echo_server(&segment.container, "172.30.0.2:7000");
        let mut kept = connect(&segment.neighbour, "172.30.0.2:7000");
        echo_server(&segment.client, "192.0.2.1:9000");
        let listener = segment.neighbour.run(|| Ok(std::net::TcpListener::bind("172.30.0.3:7000").unwrap()));
        let dying = connect(&segment.container, "172.30.0.3:7000");
        let (mut survivor, _) = listener.accept().unwrap();
        ask(&mut kept, 1);

        silence(&segment.container.net).unwrap();
        silence(&segment.container.net).unwrap();
        drop(dying);
        survivor.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(survivor.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        for address in ["172.30.0.2", "fd30::2"] {
            assert!(resolve(&segment.neighbour, address).contains("FAILED"));
        }

        release(&segment.container.net).unwrap();
        release(&segment.container.net).unwrap();
        ask(&mut kept, 2);
        nothing_left(&segment.container);
    }

    /// I5: a helper that dies leaves rules that the next one finds.
    #[test]
    fn i5_what_a_dead_helper_left_is_removed() {
        let namespace = Namespace::new();
        echo_server(&namespace, "127.0.0.1:7000");
        drop(hold_new(of(&namespace), Bounds::default()).unwrap());
        assert!(!namespace.run(|| rules::list(Family::V4)).is_empty());
        release(&namespace.net).unwrap();
        ask(&mut connect(&namespace, "127.0.0.1:7000"), 1);
        nothing_left(&namespace);
    }
}
