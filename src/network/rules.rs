//! The rules that lead a container's packets into its hold's queue.
//!
//! They stand in a chain of their own in the `raw` table, which every packet meets before connection tracking, reached from
//! PREROUTING (what comes in, and what the container sends) and OUTPUT (what processes on the host send). Each change is one
//! `iptables-restore`, so that no packet ever sees half a hold. The rules name a queue without asking for a bypass: when
//! nobody listens, packets are dropped and sent again by whoever sent them; a crash refuses nobody.
//!
//! [`render`] is pure; the rest runs the host's own iptables, whichever variant that is.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::command;
use super::error::{Error, Result};
use super::queue::{ANY_PASS, pass_mark};
use super::spec::{Family, HoldSpec, Protocol, Published, ReplyTuple};

/// All chains begin with this, and nothing else does.
pub(super) const PREFIX: &str = "TRANSSHIP-";
const HOOKS: [&str; 2] = ["PREROUTING", "OUTPUT"];
/// No packet ever comes here: the chain is there for what its one rule needs. As long as it stands the kernel has a rule that
/// wants connection tracking. When the last such rule goes, the kernel takes connection tracking out of its path, and drops
/// every packet that is parked in any queue over that (`nf_ct_netns_put`, `nf_queue_nf_hook_drop`). A dockerd that
/// starts takes its own away and puts them in anew. All holds share the chain; it goes with the last one, when that one's
/// packets have gone.
const TRACKED: &str = "TRANSSHIP-TRACKED";
/// Up to so many reply tuples stand in the chain itself. More are spread over chains of their own by port, since every
/// packet walks through the main one.
const FEW: usize = 16;

/// Changes to one family by this process do not overlap: the variant on nf_tables would have to start over.
static ONE_AT_A_TIME: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// New TCP connections only.
    NewOnly,
    /// Everything that comes for the container; what it sends goes out.
    Inbound,
    /// That, and what is sent in its name; the end of a connection is not said at all.
    Closing,
    /// Everything, either way.
    All,
}

pub(super) fn chain(queue: u16) -> String {
    format!("{PREFIX}{queue}")
}

/// The chains of a hold in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub family: Family,
    /// Its own chain, and the parts of that.
    chains: Vec<String>,
}

/// Puts the rules of a hold in place, or replaces those it has; `present` says which rules a family has now. Both families
/// are changed at the same time.
///
/// # Errors
/// Those of `iptables-restore`. IPv6 may fail where nothing is known to need it: the host may have none.
pub(super) fn apply(
    spec: &HoldSpec,
    queue: u16,
    mode: Mode,
    present: impl Fn(Family) -> Result<Vec<String>> + Sync,
) -> Result<Vec<Placed>> {
    let outcomes = for_both(|family| {
        let (chains, rules) = render(spec, queue, mode, family, &present(family)?);
        restore(family, &rules).map(|()| Placed { family, chains })
    });
    let mut placed = Vec::new();
    for (family, outcome) in Family::BOTH.into_iter().zip(outcomes) {
        match outcome {
            Err(error) if family == Family::V6 && !spec.requires(family) => {
                tracing::debug!(queue, error = &error as &dyn std::error::Error, "no IPv6 rules for this hold");
            }
            other => placed.push(other?),
        }
    }
    Ok(placed)
}

/// The rules a hold has when nobody has touched them: enough to know for [`apply`].
pub(super) fn jumps(placed: &[Placed], queue: u16, family: Family) -> Vec<String> {
    let there = placed.iter().any(|placed| placed.family == family);
    HOOKS.iter().filter(|_| there).map(|hook| jump(hook, &chain(queue))).collect()
}

/// Does the same for both families at once: starting a program is most of what a change costs.
pub(super) fn for_both<T: Send>(task: impl Fn(Family) -> T + Sync) -> [T; 2] {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| task(Family::V6));
        let first = task(Family::V4);
        [first, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
    })
}

/// The chains there are after rules were replaced: those without rules now are still there.
pub(super) fn merge(before: Vec<Placed>, mut now: Vec<Placed>) -> Vec<Placed> {
    for before in before {
        match now.iter_mut().find(|now| now.family == before.family) {
            Some(now) => now.chains.extend(before.chains),
            None => now.push(before),
        }
    }
    for placed in &mut now {
        placed.chains.sort();
        placed.chains.dedup();
    }
    now
}

/// Takes away the rules of one hold; when it is known which they are, without looking first. Where it was the last one,
/// [`sweep`] has to follow.
///
/// # Errors
/// Those of iptables; where somebody else has changed the rules in between, they are looked for.
pub(super) fn remove(queue: u16, placed: Option<&[Placed]>) -> Result<()> {
    let Some(placed) = placed else {
        return sweep_one(queue);
    };
    let removed = for_both(|family| {
        let Some(own) = placed.iter().find(|placed| placed.family == family) else {
            return Ok(());
        };
        let chains: Vec<&str> = own.chains.iter().map(String::as_str).collect();
        removal(&jumps(placed, queue, family), &chains).map_or(Ok(()), |rules| restore(family, &rules))
    });
    if removed.into_iter().collect::<Result<()>>().is_ok() { Ok(()) } else { sweep_one(queue) }
}

/// Takes away whatever rules one hold has, in any family.
pub(super) fn sweep_one(queue: u16) -> Result<()> {
    for family in Family::BOTH {
        let present = match list(family) {
            Err(Error::Command { .. } | Error::Spawn { .. }) if family == Family::V6 => continue,
            other => other?,
        };
        let own: Vec<&str> = chains(&present).filter(|chain| owner(chain) == Some(queue)).collect();
        if let Some(rules) = removal(&present, &own) {
            restore(family, &rules)?;
        }
    }
    Ok(())
}

/// Takes away what no hold needs: rules that lead to a queue nobody listens to, which a dead helper left or one that could
/// not lift a hold, and what holds share where there is none. A hold's own packets have to be gone by then. Returns the
/// queues of the holds it removed.
///
/// # Errors
/// Those of iptables; a host without IPv6 tables has nothing to sweep there.
pub(super) fn sweep(listened_to: impl Fn() -> Result<Vec<u16>> + Sync) -> Result<Vec<u16>> {
    let swept = for_both(|family| {
        // A hold that is placed meanwhile brings the shared chain itself, and does so before or after all of this.
        let turn = turn(family);
        let present = list(family)?;
        // Asked after the rules: a hold opens its queue first, and closes it last.
        let listened_to = listened_to()?;
        if let Some(rules) = unneeded(&present, &listened_to) {
            restore_in(&turn, family, &rules)?;
        }
        Ok(owners(&present).filter(|owner| !listened_to.contains(owner)).collect::<Vec<_>>())
    });
    let mut swept = match swept {
        [v4, Err(Error::Command { .. } | Error::Spawn { .. })] => v4?,
        [v4, v6] => [v4?, v6?].concat(),
    };
    swept.sort_unstable();
    swept.dedup();
    Ok(swept)
}

/// The transaction that removes all that leads to none of the queues somebody listens to.
fn unneeded(present: &[String], listened_to: &[u16]) -> Option<String> {
    let needed = owners(present).any(|owner| listened_to.contains(&owner));
    let goes = |chain: &&str| match owner(chain) {
        Some(owner) => !listened_to.contains(&owner),
        None => *chain == TRACKED && !needed,
    };
    removal(present, &chains(present).filter(goes).collect::<Vec<_>>())
}

/// The queues that rules lead to, whether somebody listens or not.
pub(super) fn queues_with_rules() -> Result<Vec<u16>> {
    let [v4, v6] = for_both(list);
    let mut all: Vec<u16> = owners(&v4?).collect();
    all.extend(owners(&v6.unwrap_or_default()));
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The raw table as `iptables -S` prints it, a rule a line.
pub(super) fn list(family: Family) -> Result<Vec<String>> {
    let text = command::run(family.tool(), &["-w", "10", "-t", "raw", "-S"], "")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Feeds one transaction to iptables-restore; what it does not mention stays.
pub(super) fn restore(family: Family, rules: &str) -> Result<()> {
    restore_in(&turn(family), family, rules)
}

fn turn(family: Family) -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME[usize::from(family == Family::V6)].lock().unwrap_or_else(PoisonError::into_inner)
}

fn restore_in(_turn: &MutexGuard<'_, ()>, family: Family, rules: &str) -> Result<()> {
    command::run(family.restore_tool(), &["--noflush", "--wait=10"], rules).map(drop)
}

/// The transaction that removes these chains and every jump to them; none where there is nothing to remove.
pub(super) fn removal(present: &[String], chains: &[&str]) -> Option<String> {
    if chains.is_empty() {
        return None;
    }
    let mut rules = String::from("*raw\n");
    for hook in HOOKS {
        for chain in chains {
            let jump = jump(hook, chain);
            present
                .iter()
                .filter(|line| **line == jump)
                .for_each(|_| push(&mut rules, format_args!("-D{}", &jump[2..])));
        }
    }
    chains.iter().for_each(|chain| push(&mut rules, format_args!("-F {chain}")));
    chains.iter().for_each(|chain| push(&mut rules, format_args!("-X {chain}")));
    rules.push_str("COMMIT\n");
    Some(rules)
}

/// A jump as `iptables -S` prints it.
pub(super) fn jump(hook: &str, chain: &str) -> String {
    format!("-A {hook} -j {chain}")
}

fn chains(present: &[String]) -> impl Iterator<Item = &str> {
    present.iter().filter_map(|line| line.strip_prefix("-N "))
}

/// The hold a chain belongs to: `TRANSSHIP-21587`, or `TRANSSHIP-21587-3` for a part.
fn owner(chain: &str) -> Option<u16> {
    chain.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn owners(present: &[String]) -> impl Iterator<Item = u16> {
    chains(present).filter_map(owner)
}

/// The chains of a hold and the transaction that gives it its rules, on top of what is there. A chain that is there already
/// is filled anew.
pub(super) fn render(
    spec: &HoldSpec,
    queue: u16,
    mode: Mode,
    family: Family,
    present: &[String],
) -> (Vec<String>, String) {
    let chain = chain(queue);
    let target = format!("-j NFQUEUE --queue-num {queue}");
    let mut rules = Rules { chain: &chain, target: &target, chains: vec![chain.clone()], text: String::new() };
    rules.pass(queue);
    rules.addresses(spec, mode, family);
    rules.published(spec, mode, family);
    if mode != Mode::NewOnly {
        let replies = spec.outbound.iter().filter(|tuple| Family::of(tuple.host.ip()) == family);
        rules.replies(replies.collect());
    }
    let mut all = format!("*raw\n:{TRACKED} - [0:0]\n-A {TRACKED} -m conntrack --ctstate UNTRACKED -j RETURN\n");
    rules.chains.iter().for_each(|chain| push(&mut all, format_args!(":{chain} - [0:0]")));
    all.push_str(&rules.text);
    for hook in HOOKS.iter().filter(|hook| !present.contains(&jump(hook, &chain))) {
        push(&mut all, format_args!("-I {hook} 1 -j {chain}"));
    }
    all.push_str("COMMIT\n");
    (rules.chains, all)
}

struct Rules<'a> {
    chain: &'a str,
    target: &'a str,
    chains: Vec<String>,
    text: String,
}

/// A TCP segment that opens a connection.
const SYN: &str = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN";

impl Rules<'_> {
    /// Packets that were let go come by again; they go on behind these chains, without the mark. Those that another hold has
    /// let go keep theirs until they come by that one: they have been here before they were parked there, or this hold is
    /// younger, and they were on their way already when it was placed.
    fn pass(&mut self, queue: u16) {
        let (chain, mark) = (format!("{}-pass", self.chain), format!("{:#x}", pass_mark(queue)));
        push(&mut self.text, format_args!("-A {} -m mark --mark {mark} -g {chain}", self.chain));
        push(&mut self.text, format_args!("-A {} -m mark --mark {ANY_PASS} -j RETURN", self.chain));
        push(&mut self.text, format_args!("-A {chain} -j MARK --set-xmark 0x0/0xffffffff"));
        self.chains.push(chain);
    }

    fn addresses(&mut self, spec: &HoldSpec, mode: Mode, family: Family) {
        for address in spec.addresses.iter().filter(|address| Family::of(**address) == family) {
            match mode {
                Mode::NewOnly => self.park(format_args!("-d {address} {SYN}")),
                Mode::Inbound => self.park(format_args!("-d {address}")),
                Mode::Closing | Mode::All => {
                    if mode == Mode::Closing {
                        self.drop_ends(*address);
                    }
                    self.park(format_args!("-s {address}"));
                    self.park(format_args!("-d {address}"));
                }
            }
        }
    }

    /// The end of a connection is the one thing that must not be said in the container's name while it dies: its sockets
    /// say it when the frozen processes are killed. Said in earnest just before the freeze, a FIN is sent again after the
    /// restore, and a RST in answer to the next segment.
    fn drop_ends(&mut self, address: IpAddr) {
        let ends = "-p tcp -m tcp ! --tcp-flags FIN,RST NONE";
        push(&mut self.text, format_args!("-A {} -s {address} {ends} -j DROP", self.chain));
    }

    fn published(&mut self, spec: &HoldSpec, mode: Mode, family: Family) {
        for port in spec.published.iter().filter(|port| port.host_ip.is_none_or(|ip| Family::of(ip) == family)) {
            let matches = destination(port);
            match mode {
                Mode::Inbound | Mode::Closing | Mode::All => self.park(format_args!("{matches}")),
                Mode::NewOnly if port.protocol == Protocol::Tcp => {
                    self.park(format_args!("{matches} --tcp-flags FIN,SYN,RST,ACK SYN"));
                }
                Mode::NewOnly => {}
            }
        }
    }

    fn replies(&mut self, mut tuples: Vec<&ReplyTuple>) {
        if tuples.len() <= FEW {
            tuples.into_iter().for_each(|tuple| self.reply(self.chain.to_owned(), tuple));
            return;
        }
        tuples.sort_by_key(|tuple| (tuple.protocol, tuple.host.port(), tuple.remote));
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let own: Vec<_> = tuples.iter().copied().filter(|tuple| tuple.protocol == protocol).collect();
            // As many chains as each has rules: the shortest way through both.
            let size = own.len().isqrt().max(FEW);
            own.chunks(size).for_each(|part| self.part(protocol, part));
        }
    }

    /// A chain for tuples with neighbouring ports, entered only by packets to those ports.
    fn part(&mut self, protocol: Protocol, tuples: &[&ReplyTuple]) {
        let chain = format!("{}-{}", self.chain, self.chains.len());
        let (first, last) = (tuples[0].host.port(), tuples[tuples.len() - 1].host.port());
        let name = protocol.name();
        push(&mut self.text, format_args!("-A {} -p {name} -m {name} --dport {first}:{last} -j {chain}", self.chain));
        self.chains.push(chain.clone());
        tuples.iter().for_each(|tuple| self.reply(chain.clone(), tuple));
    }

    fn reply(&mut self, chain: String, tuple: &ReplyTuple) {
        let (name, remote, host) = (tuple.protocol.name(), tuple.remote, tuple.host);
        let (from, to, sport, dport) = (remote.ip(), host.ip(), remote.port(), host.port());
        let target = self.target;
        push(
            &mut self.text,
            format_args!("-A {chain} -s {from} -d {to} -p {name} -m {name} --sport {sport} --dport {dport} {target}"),
        );
    }

    fn park(&mut self, matches: std::fmt::Arguments) {
        push(&mut self.text, format_args!("-A {} {matches} {}", self.chain, self.target));
    }
}

/// A published port as a match; its protocol's own match comes last, so that one for TCP flags may follow.
pub(super) fn destination(port: &Published) -> String {
    let name = port.protocol.name();
    let to = port.host_ip.filter(|ip| !ip.is_unspecified()).map_or(String::new(), |ip| format!("-d {ip} "));
    format!("{to}-m addrtype --dst-type LOCAL -p {name} -m {name} --dport {}", port.host_port)
}

pub(super) fn push(text: &mut String, line: std::fmt::Arguments) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests;
