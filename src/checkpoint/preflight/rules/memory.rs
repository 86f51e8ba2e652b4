//! What is mapped. After CRIU's `proc_parse.c`.

use super::super::facts::{ContainerFacts, ProcessFacts};
use super::super::{Context, Finding, Purpose};
use super::{process_subject, size};

/// From this much on it is worth telling that swapped memory has to be read back first.
const MUCH_SWAPPED: u64 = 256 << 20;

/// The rules on memory.
pub(super) fn judge(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    let rules: [fn(&ContainerFacts, &ProcessFacts) -> Option<Finding>; 4] = [devices, secret, uprobes, shared];
    let each = facts.processes.iter().flat_map(|process| rules.iter().filter_map(|rule| rule(facts, process)));
    each.chain(huge_pages(facts, context)).chain(swapped(facts)).collect()
}

fn devices(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    if process.maps.devices.is_empty() {
        return None;
    }
    Some(Finding::refuse(
        "memory.device",
        process_subject(facts, process),
        format!("The process has devices mapped into its memory: {}.", process.maps.devices.join(", ")),
        "Run the program without them, or stop the container for the operation.",
    ))
}

fn secret(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    process.maps.secret_memory.then(|| {
        Finding::refuse(
            "memory.secret",
            process_subject(facts, process),
            "The process has memory that even the kernel cannot read (memfd_secret).",
            "Switch that off in the program, or stop the container for the operation.",
        )
    })
}

fn uprobes(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    process.maps.uprobes.then(|| {
        Finding::refuse(
            "memory.uprobes",
            process_subject(facts, process),
            "The process has uprobes set by a tracing tool, which CRIU cannot dump.",
            "End the tool (perf, bpftrace or an observability agent) and restart the program.",
        )
    })
}

/// System V segments belong to an IPC namespace, and only the container's own is dumped.
fn shared(facts: &ContainerFacts, process: &ProcessFacts) -> Option<Finding> {
    let mode = facts.engine.ipc_mode.as_str();
    if !process.maps.sysv_shared || !(mode == "host" || mode.starts_with("container:")) {
        return None;
    }
    Some(Finding::refuse(
        "memory.sysv-shared",
        process_subject(facts, process),
        format!("The process uses System V shared memory of an IPC namespace that is not its own (--ipc {mode})."),
        "Create the container anew with --ipc private.",
    ))
}

fn huge_pages(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let used = facts.processes.iter().any(|process| process.maps.huge_pages);
    let place = if context.purpose == Purpose::Migrate { "the destination" } else { "this host" };
    used.then(|| {
        Finding::warn(
            "memory.huge-pages",
            &facts.engine.name,
            format!("The container uses reserved huge pages, as many of which must be free on {place}."),
            "Reserve them beforehand (vm.nr_hugepages).",
        )
    })
}

fn swapped(facts: &ContainerFacts) -> Option<Finding> {
    let bytes: u64 = facts.processes.iter().map(|process| process.swapped).sum();
    (bytes >= MUCH_SWAPPED).then(|| {
        Finding::warn(
            "memory.swapped",
            &facts.engine.name,
            format!("{} of the container are swapped out and have to be read back while it is frozen.", size(bytes)),
            "Give the host more memory, or expect a longer freeze.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{refused, warned};
    use super::*;

    #[test]
    fn what_cannot_be_read_back_is_refused() {
        assert_eq!(refused(|f| f.processes[1].maps.devices = vec!["/dev/nvidia0".into()]), ["memory.device"]);
        assert_eq!(refused(|f| f.processes[1].maps.secret_memory = true), ["memory.secret"]);
        assert_eq!(refused(|f| f.processes[1].maps.uprobes = true), ["memory.uprobes"]);
    }

    #[test]
    fn shared_segments_must_be_the_containers_own() {
        let shared = |mode: &str| {
            refused(|f: &mut ContainerFacts| {
                f.engine.ipc_mode = mode.into();
                f.processes[1].maps.sysv_shared = true;
            })
        };
        assert!(shared("private").is_empty() && shared("shareable").is_empty());
        assert_eq!(shared("host"), ["memory.sysv-shared"]);
    }

    #[test]
    fn what_takes_longer_or_needs_room_is_told() {
        assert_eq!(warned(|f| f.processes[1].maps.huge_pages = true), ["memory.huge-pages"]);
        assert_eq!(warned(|f| f.processes[1].swapped = 1 << 30), ["memory.swapped"]);
        assert!(warned(|f| f.processes[1].swapped = 4096).is_empty());
    }
}
