//! What processes tell of themselves.

use super::super::facts::{ContainerFacts, ProcessFacts};
use super::super::{Context, Finding, Purpose};
use super::process_subject;

/// The rules on processes.
pub(super) fn judge(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    let rules: [fn(&ContainerFacts, &ProcessFacts) -> Option<Finding>; 4] = [traced, zombie, uninterruptible, session];
    let each = facts.processes.iter().flat_map(|process| {
        let ruled = rules.iter().filter_map(move |rule| rule(facts, process));
        ruled.chain(executed(facts, process, context.purpose))
    });
    unseen(facts).into_iter().chain(each).collect()
}

/// Facts without a first process were collected while the container ended, or by the wrong cgroup.
fn unseen(facts: &ContainerFacts) -> Option<Finding> {
    if facts.init().is_some() {
        return None;
    }
    Some(Finding::refuse(
        "process.no-init",
        &facts.engine.name,
        "The container's first process cannot be found.",
        "See whether the container still runs, and try again.",
    ))
}

/// A process has one tracer, and CRIU has to be it.
fn traced(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    if process.tracer == 0 {
        return None;
    }
    Some(Finding::refuse(
        "process.traced",
        process_subject(facts, process),
        format!("The process is traced by process {}, a debugger or strace.", process.tracer),
        "End the tracing.",
    ))
}

fn zombie(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    if process.state != 'Z' || process.threads <= 1 {
        return None;
    }
    Some(Finding::refuse(
        "process.zombie-threads",
        process_subject(facts, process),
        "The process' main thread has ended while other threads go on, which CRIU cannot dump.",
        "Restart the program in the container.",
    ))
}

fn uninterruptible(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    if process.state != 'D' {
        return None;
    }
    Some(Finding::warn(
        "process.uninterruptible",
        process_subject(facts, process),
        "The process waits for a disk or a network file system, and cannot be frozen before that ends.",
        "Nothing, if it is a short wait; else see to the device or server it waits for.",
    ))
}

/// CRIU has nobody to make the session anew from when its leader is not in the container. In a nested pid namespace
/// the number means something else, and that is refused anyway.
fn session(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    let own_numbers = facts.init().map(|init| init.namespaces.get("pid")) != Some(process.namespaces.get("pid"));
    if process.inner_session != 0 || own_numbers || !facts.is_in_tree(process) {
        return None;
    }
    Some(Finding::refuse(
        "process.session",
        process_subject(facts, process),
        "The process belongs to a session whose leader is outside of the container.",
        "End it and start it anew, by `setsid` where it was started by nsenter.",
    ))
}

/// `docker exec`: the process is the shim's child, not the container's, and CRIU dumps a tree.
fn executed(facts: &ContainerFacts, process: &ProcessFacts, purpose: Purpose) -> Option<Finding> {
    let known = |pid: i32| facts.processes.iter().any(|other| other.pid == pid);
    let root = process.pid != facts.engine.init_pid && !known(process.parent);
    if !root || facts.init().is_none() {
        return None;
    }
    let subject = process_subject(facts, process);
    if is_probe(&facts.engine.health_check, &process.command) {
        return Some(Finding::warn(
            "process.health-probe",
            subject,
            "Docker's health check is running in the container at this moment.",
            "Nothing: it ends by itself, and the freeze waits for that.",
        ));
    }
    if purpose == Purpose::LeaveRunning {
        return Some(Finding::warn(
            "process.exec",
            subject,
            "The process was started by `docker exec`; it goes on running, and is not part of the checkpoint.",
            "Nothing, unless it should be part of it: then have the container's own program start it.",
        ));
    }
    Some(Finding::refuse(
        "process.exec",
        subject,
        "The process was started by `docker exec`; it is not part of the container's own tree and would be lost.",
        "End the `docker exec` session.",
    ))
}

/// Whether Docker's health check, which is run as `docker exec` runs its command, looks like that at some moment.
fn is_probe(health_check: &[String], command: &[String]) -> bool {
    match health_check {
        [] => false,
        _ if begins_or_ends(command) || command == health_check => true,
        // dash and busybox run a shell's only command in the shell's place.
        [_, option, text] if option == "-c" => {
            let only = text.trim().strip_prefix("exec ").unwrap_or(text);
            bare(only) == bare(&command.concat())
        }
        _ => false,
    }
}

/// A process that runc has made and that is not its command yet, or one that has ended and is still listed.
fn begins_or_ends(command: &[String]) -> bool {
    match command {
        [] => true,
        [program, init] => init == "init" && program.ends_with("runc"),
        _ => false,
    }
}

/// A command without what a shell takes away.
fn bare(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace() && !matches!(letter, '"' | '\'' | '\\')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::Severity;
    use super::super::testing::{found, process, refused, warned};
    use super::*;

    #[test]
    fn states_are_judged() {
        assert_eq!(refused(|f| f.processes[1].tracer = 9), ["process.traced"]);
        assert_eq!(warned(|f| f.processes[1].state = 'D'), ["process.uninterruptible"]);
        assert!(refused(|f| (f.processes[1].state, f.processes[1].threads) = ('Z', 1)).is_empty());
        assert_eq!(refused(|f| (f.processes[1].state, f.processes[1].threads) = ('Z', 2)), ["process.zombie-threads"]);
        assert!(refused(|f| f.processes[1].state = 'T').is_empty());
    }

    #[test]
    fn a_session_from_outside_is_refused() {
        assert_eq!(refused(|f| f.processes[1].inner_session = 0), ["process.session"]);
    }

    #[test]
    fn an_exec_is_refused_once_and_its_children_are_not_told_of() {
        let exec = |f: &mut ContainerFacts| {
            f.processes.push(process(200, 40, "bash"));
            f.processes.push(process(201, 200, "top"));
        };
        assert_eq!(refused(exec), ["process.exec"]);
        assert_eq!(found(Purpose::LeaveRunning, exec), [("process.exec", Severity::Warn)]);
    }

    #[test]
    fn a_health_probe_is_waited_for() {
        let probe = |f: &mut ContainerFacts| {
            f.engine.health_check = vec!["/bin/sh".into(), "-c".into(), "curl localhost".into()];
            let mut shell = process(200, 40, "sh");
            shell.command = f.engine.health_check.clone();
            f.processes.push(shell);
        };
        assert_eq!(warned(probe), ["process.health-probe"]);
        assert!(refused(probe).is_empty());
    }

    #[test]
    fn a_health_probe_is_known_at_every_moment() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let check = ["/bin/sh", "-c", "curl -f \"http://localhost/a b\""].map(str::to_owned);
        assert!(is_probe(&check, &words("runc init")) && is_probe(&check, &words("/usr/sbin/runc init")));
        assert!(is_probe(&check, &[]), "it has ended");
        assert!(is_probe(&check, &check));
        assert!(is_probe(&check, &["curl", "-f", "http://localhost/a b"].map(str::to_owned)));
        assert!(!is_probe(&check, &words("bash")) && !is_probe(&[], &words("runc init")) && !is_probe(&[], &[]));
        assert!(is_probe(&words("pg_isready -q"), &words("pg_isready -q")));
        assert!(!is_probe(&words("pg_isready -q"), &words("psql")));
    }

    #[test]
    fn without_a_first_process_nothing_is_frozen() {
        assert_eq!(refused(|f| f.engine.init_pid = 9), ["process.no-init"]);
    }
}
