//! What `transship check` looks at: can this host freeze, can this container be frozen, and if not, why not and what
//! helps.
//!
//! Looking and judging are apart. [`HostFacts::collect`] and [`ContainerFacts::collect`] look (`look/`): at /proc,
//! sysfs, netlink and what `docker inspect` said, without stopping or tracing anything. [`inspect_host`] and
//! [`inspect_container`] judge (`rules/`): pure functions from facts to findings, one for each thing that is known to
//! break a checkpoint. A rule refuses only what is known to fail or to lose something; what works with a catch is a
//! warning.
//!
//! What CRIU can dump is taken from its sources (`criu/files.c`, `sk-inet.c`, `sk-unix.c`, `namespaces.c`, `tty.c`,
//! `mount.c` of 4.2); what runc and Docker can, from theirs and from trials.

pub mod facts;
mod look;
mod rules;

use serde::Serialize;

pub use facts::{ContainerFacts, HostFacts};
pub use look::{LookError, watched_paths};
pub use rules::space_needed;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The operation must not begin.
    Refuse,
    /// The operation works, with the catch that is told.
    Warn,
}

/// One thing found, with its reason and its remedy; each a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name of the rule, such as `file.io-uring`.
    pub code: &'static str,
    pub severity: Severity,
    /// What it is about: `host`, the container's name, or one of its processes (`NAME: COMMAND (PID)`).
    pub subject: String,
    pub reason: String,
    pub remedy: String,
}

impl Finding {
    fn refuse(
        code: &'static str,
        subject: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (subject, reason, remedy) = (subject.into(), reason.into(), remedy.into());
        Self { code, severity: Severity::Refuse, subject, reason, remedy }
    }

    fn warn(
        code: &'static str,
        subject: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warn, ..Self::refuse(code, subject, reason, remedy) }
    }
}

impl Finding {
    /// Something that stands against a migration and that only the hosts know that are to carry it out.
    pub fn of_peer(subject: &str, reason: &str, remedy: Option<String>) -> Self {
        let remedy = remedy.unwrap_or_else(|| "See the reason; what is meant is on the destination.".to_owned());
        Self::refuse("migrate.refused", subject, reason, remedy)
    }

    /// The canary did not live through its own dump and restore: nothing else will.
    pub fn dead_canary(reason: String) -> Self {
        Self::refuse(
            "host.canary",
            "host",
            format!("a small process with an open connection did not live through a dump and a restore: {reason}"),
            "Install a newer CRIU (4.2 or later for kernels from 6.16 on), and see the log lines above.",
        )
    }
}

/// What is to be done with the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// It is dumped and stopped, and restored on this host.
    Freeze,
    /// It is dumped and goes on running.
    LeaveRunning,
    /// It is dumped here and restored on another host.
    Migrate,
}

/// What a container is judged for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub host: &'a HostFacts,
    pub purpose: Purpose,
    /// Ids and names of all containers of the same operation.
    pub group: &'a [String],
    /// CRIU's limit for a file that is deleted and still open, in bytes, as the dump will set it.
    pub ghost_limit: u64,
    /// Whether the dump tells CRIU the paths of [`watched_paths`] (its option `irmap-scan-path`).
    pub irmap_paths: bool,
}

/// What keeps this host from freezing anything; refusals first.
pub fn inspect_host(facts: &HostFacts) -> Vec<Finding> {
    sorted(rules::host(facts))
}

/// What keeps this container from being frozen for the context's purpose; refusals first.
pub fn inspect_container(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    sorted(rules::container(facts, context))
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| finding.severity);
    findings
}
