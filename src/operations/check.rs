//! `check`: what stands against freezing and restoring, found by looking and by trying.

use crate::checkpoint::mend::processes_of;
use crate::checkpoint::preflight::{self, ContainerFacts, Finding, HostFacts, Purpose, Severity};
use crate::criu::canary::{self, CanaryError, CanaryReport};
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::services::{Interposition, effective_runc};
use crate::world::Context;
use serde_json::{Value, json};
use std::path::PathBuf;

/// CRIU's limit for deleted files that are open, as dumps set it, in bytes.
pub const GHOST_LIMIT: u64 = 1 << 30;

/// Says of the host and of each container (all running ones, where none is named) whether it can be done.
pub fn run(context: &Context, references: &[String], with_canary: bool) -> Result<Value, Failure> {
    answer(context, with_canary, || freezable(context, references))
}

/// What is said of the host, and what `look` says of containers.
pub fn answer(
    context: &Context,
    with_canary: bool,
    look: impl FnOnce() -> Result<Vec<Value>, Failure>,
) -> Result<Value, Failure> {
    let mut findings = preflight::inspect_host(&host_facts());
    let canary = match with_canary {
        true => try_canary(context, &mut findings),
        false => Value::Null,
    };
    let containers = look()?;
    Ok(json!({
        "host": { "able": is_able(&findings), "findings": findings },
        "canary": canary,
        "containers": containers,
    }))
}

fn freezable(context: &Context, references: &[String]) -> Result<Vec<Value>, Failure> {
    let containers = chosen(context, references)?;
    let group: Vec<String> = containers.iter().map(|container| container.id().to_owned()).collect();
    let one = |container: &Container| {
        let (findings, _) = findings(context, container, &group, Purpose::Freeze)?;
        Ok(json!({
            "name": container.name(),
            "id": container.id(),
            "able": is_able(&findings),
            "findings": findings,
        }))
    };
    containers.iter().map(one).collect()
}

/// What was found of one container of a group, and of what.
pub fn findings(
    context: &Context,
    container: &Container,
    group: &[String],
    purpose: Purpose,
) -> Result<(Vec<Finding>, ContainerFacts), Failure> {
    let facts = facts(context, container)?;
    let findings = preflight::inspect_container(&facts, &judged(&host_facts(), group, purpose));
    Ok((findings, facts))
}

/// What was found of a container that is to be frozen.
pub struct Judgement {
    /// What stands against it; the host's own reasons come first.
    pub refusals: Vec<Finding>,
    /// Paths that CRIU has to be told so that it finds what the container watches on overlayfs.
    pub watched: Vec<PathBuf>,
}

/// Judges one container of a group.
pub fn judge(
    context: &Context,
    container: &Container,
    group: &[String],
    leave_running: bool,
) -> Result<Judgement, Failure> {
    let purpose = if leave_running { Purpose::LeaveRunning } else { Purpose::Freeze };
    let host = host_facts();
    let mut findings = preflight::inspect_host(&host);
    if leave_running {
        // A backup is not restored now; whether the interposer is in place matters then.
        findings.retain(|finding| finding.code != "interposer.missing");
    }
    let facts = facts(context, container)?;
    findings.extend(preflight::inspect_container(&facts, &judged(&host, group, purpose)));
    findings.retain(|finding| finding.severity == Severity::Refuse);
    Ok(Judgement { refusals: findings, watched: preflight::watched_paths(&facts) })
}

fn host_facts() -> HostFacts {
    HostFacts::collect(effective_runc() == Interposition::Interposed)
}

/// The containers that are meant: all running ones, where none is named.
pub fn chosen(context: &Context, references: &[String]) -> Result<Vec<Container>, Failure> {
    if references.is_empty() {
        let all = context.containers().or_fail(|| "the containers cannot be listed".into())?;
        return Ok(all.into_iter().filter(Container::is_running).collect());
    }
    let find = |reference: &String| {
        let found = context.docker.container(reference).or_fail(|| format!("there is no container {reference}"));
        found.map_err(|failure| failure.as_refusal().remedy("see: docker ps"))
    };
    references.iter().map(find).collect()
}

/// What is to be seen of a container.
pub fn facts(context: &Context, container: &Container) -> Result<ContainerFacts, Failure> {
    let pids = container.pid().map(processes_of).unwrap_or_default();
    let pids: Vec<i32> = pids.iter().filter_map(|pid| i32::try_from(*pid).ok()).collect();
    let store = context.catalog.layout().root();
    ContainerFacts::collect(container.inspect(), &pids, store)
        .or_fail(|| format!("{} cannot be looked at", container.name()))
}

fn judged<'a>(host: &'a HostFacts, group: &'a [String], purpose: Purpose) -> preflight::Context<'a> {
    preflight::Context { host, purpose, group, ghost_limit: GHOST_LIMIT, irmap_paths: true }
}

/// Whether nothing stands against it.
pub fn is_able(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Refuse)
}

/// Dumps and restores a process of our own; only that shows that CRIU and this kernel understand each other.
fn try_canary(context: &Context, findings: &mut Vec<Finding>) -> Value {
    match canary(context) {
        Ok(report) => serde_json::to_value(report).unwrap_or_default(),
        Err(error) => {
            findings.push(Finding::dead_canary(Failure::new("").because(&error).why.join(": ")));
            json!({ "error": error.to_string(), "log": error.log().map(|log| &log.lines) })
        }
    }
}

/// What freezing and restoring a process of our own takes on this host.
pub fn canary(context: &Context) -> Result<CanaryReport, CanaryError> {
    canary::run(&own_program(), &context.catalog.layout().tmp())
}

/// The canary is this very program under another first word; its file may have been replaced since it was started.
fn own_program() -> PathBuf {
    std::fs::read_link("/proc/self/exe").unwrap_or_else(|_| "/usr/sbin/transshipd".into())
}
