//! Letting a stopped container go on.
//!
//! CRIU leaves restored tasks stopped by `SIGSTOP`. They are continued children before parents: by the time a
//! parent such as a shell looks, its children run again and it sees no job that was stopped.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Continues every process in the pid namespace of `init`, except those whose pid inside the namespace is in
/// `stay_stopped` (they were stopped when the container was frozen).
pub fn processes(init: i32, stay_stopped: &[i32]) -> io::Result<()> {
    let namespace = std::fs::read_link(format!("/proc/{init}/ns/pid"))?;
    let mut members = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let proc = Path::new("/proc").join(pid.to_string());
        // A process that ends while we look is none of ours: ours are stopped.
        if std::fs::read_link(proc.join("ns/pid")).is_ok_and(|other| other == namespace) {
            let Ok(status) = std::fs::read_to_string(proc.join("status")) else { continue };
            members.insert(pid, Member::parse(&status));
        }
    }
    let mut order: Vec<i32> = members.keys().copied().collect();
    order.sort_by_key(|pid| std::cmp::Reverse(depth(*pid, &members)));
    for pid in order {
        if members[&pid].inner.is_none_or(|inner| !stay_stopped.contains(&inner)) {
            kill(Pid::from_raw(pid), Signal::SIGCONT).map_err(io::Error::from)?;
        }
    }
    Ok(())
}

/// What is needed of `/proc/PID/status`.
struct Member {
    parent: i32,
    /// The pid in the innermost namespace.
    inner: Option<i32>,
}

impl Member {
    fn parse(status: &str) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        Self {
            parent: field("PPid:").and_then(|value| value.trim().parse().ok()).unwrap_or_default(),
            inner: field("NSpid:").and_then(|value| value.split_whitespace().last()?.parse().ok()),
        }
    }
}

fn depth(pid: i32, members: &HashMap<i32, Member>) -> usize {
    let mut depth = 0;
    let mut next = members.get(&pid);
    // Bounded by the number of members: parents form a tree, but it was read while it could change.
    while let Some(member) = next.filter(|_| depth < members.len()) {
        depth += 1;
        next = members.get(&member.parent);
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_parent_is_deeper_in_the_order_than_its_children() {
        let member = |parent| Member { parent, inner: None };
        let members = HashMap::from([(10, member(1)), (11, member(10)), (12, member(11))]);
        assert!(depth(12, &members) > depth(11, &members));
        assert!(depth(11, &members) > depth(10, &members));
    }

    #[test]
    fn a_stopped_namespace_goes_on() {
        let mut child =
            Command::new("unshare").args(["--pid", "--fork", "--kill-child", "sleep", "60"]).spawn().unwrap();
        let init = wait_for_child_of(child.id());
        kill(Pid::from_raw(init), Signal::SIGSTOP).unwrap();
        assert_eq!(state_when(init, 'T'), 'T');
        processes(init, &[]).unwrap();
        assert_eq!(state_when(init, 'S'), 'S');
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
    }

    fn wait_for_child_of(parent: u32) -> i32 {
        loop {
            let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
            let child = list.split_whitespace().next().and_then(|pid| pid.parse().ok());
            if let Some(child) =
                child.filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n")
            {
                return child;
            }
            std::thread::yield_now();
        }
    }

    fn state_when(pid: i32, wanted: char) -> char {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let state = stat.rsplit(") ").next().unwrap().chars().next().unwrap();
            if state == wanted || std::time::Instant::now() > deadline {
                return state;
            }
            std::thread::yield_now();
        }
    }
}
