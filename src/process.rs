//! Processes that are not our children.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A process that is told from a later one with the same pid: the journal outlives processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid.
    pub pid: i32,
    /// When it was started, in clock ticks since boot (`/proc/PID/stat`, field 22; proc(5)).
    started: u64,
}

impl Identity {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name, which may hold spaces and brackets.
        let started = stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether it is still there.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Whether it is still there after `limit`; returns as soon as it has ended, whether or not its parent has heard.
    pub fn outlives(&self, limit: Duration) -> bool {
        let pidfd = open(self.pid);
        // Looked at once more: another process may have had the pid when it was opened.
        pidfd
            .filter(|_| self.is_alive())
            .is_some_and(|pidfd| !has_ended(&pidfd, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)))
    }

    /// Asks it to end, where it is still there.
    pub fn terminate(&self) {
        self.signal(nix::libc::SIGTERM);
    }

    /// Kills it, where it is still there.
    pub fn kill(&self) {
        self.signal(nix::libc::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        // By the descriptor, so that no other process is hit that gets the pid meanwhile.
        let Some(pidfd) = open(self.pid).filter(|_| self.is_alive()) else { return };
        let no_details = std::ptr::null::<nix::libc::siginfo_t>();
        // SAFETY: the descriptor is a process's and stays open, and without details the kernel makes them up itself.
        unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_details, 0) };
    }
}

/// The cgroups of a process.
#[derive(Debug)]
pub struct Cgroups {
    /// As `/proc/PID/cgroup` has them (cgroups(7)).
    lines: String,
}

impl Cgroups {
    /// Those that it is in now; none where there is no such process.
    pub fn of(pid: i32) -> Option<Self> {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().map(|lines| Self { lines })
    }

    /// The path of a controller's cgroup below where its hierarchy is mounted, without a leading slash. The unified hierarchy's
    /// controller has no name.
    pub fn path(&self, controller: &str) -> Option<&str> {
        self.lines.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let found = controllers.split(',').any(|found| found == controller);
            found.then(|| path.trim_start_matches('/'))
        })
    }
}

/// Which boot of this host it is; the kernel makes it anew each time.
pub fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Nobody's clients wait for anything as they do for what brings containers away and back.
const FIRST: i32 = -10;

/// Has the calling thread, and what it starts from now on, go before others' work where there are not enough processors for
/// all. Where that is not allowed, nothing changes.
pub fn go_first() {
    // SAFETY: setpriority takes three integers; for Linux, 0 is the calling thread (setpriority(2)).
    unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, FIRST) };
}

/// Returns when the process has ended; at once when there is none.
pub fn wait_for_end(pid: i32) {
    if let Some(pidfd) = open(pid) {
        has_ended(&pidfd, PollTimeout::NONE);
    }
}

fn has_ended(pidfd: &OwnedFd, limit: PollTimeout) -> bool {
    // A pidfd becomes readable when its process ends (pidfd_open(2)).
    let mut waited = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut waited, limit) {
            Err(nix::errno::Errno::EINTR) => {}
            polled => return polled.is_ok_and(|ready| ready > 0),
        }
    }
}

/// A descriptor that becomes readable when the process ends; none where there is no such process.
pub fn open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    let descriptor = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let descriptor = RawFd::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_controllers_cgroup_is_found_in_either_version() {
        let cgroups = |lines: &str| super::Cgroups { lines: lines.to_owned() };
        let v1 = cgroups("8:cpu,cpuacct:/a\n4:freezer:/docker/abc\n0::/unified\n");
        assert_eq!(v1.path("freezer"), Some("docker/abc"));
        assert_eq!(v1.path(""), Some("unified"));
        assert_eq!(cgroups("0::/system.slice/docker-abc.scope\n").path("freezer"), None);
    }

    #[test]
    fn the_end_of_a_process_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("0.05").spawn().unwrap();
        super::wait_for_end(child.id() as i32);
        assert!(child.try_wait().unwrap().is_some());
        super::wait_for_end(child.id() as i32);
    }

    #[test]
    fn a_process_that_has_ended_is_outlived_before_its_parent_hears_of_it() {
        let limit = std::time::Duration::from_secs(10);
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let identity = super::Identity::of(child.id() as i32).unwrap();
        assert!(identity.outlives(std::time::Duration::from_millis(1)));
        super::Identity { started: identity.started + 1, ..identity }.kill();
        assert!(identity.outlives(std::time::Duration::from_millis(1)), "that was another one");
        identity.kill();
        assert!(!identity.outlives(limit));
        assert!(identity.is_alive(), "it is a zombie, and still has its pid");
        child.wait().unwrap();
        assert!(!identity.outlives(limit));
    }

    #[test]
    fn only_the_thread_that_asks_and_what_it_starts_go_first() {
        fn nice(stat: &str) -> i32 {
            stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse().unwrap()
        }
        let own = || nice(&std::fs::read_to_string("/proc/thread-self/stat").unwrap());
        let before = own();
        let asks = move || {
            super::go_first();
            let output = std::process::Command::new("cat").arg("/proc/self/stat").output().unwrap();
            assert_eq!((own(), nice(&String::from_utf8(output.stdout).unwrap())), (super::FIRST, super::FIRST));
        };
        std::thread::spawn(asks).join().unwrap();
        assert_eq!(own(), before);
    }

    #[test]
    fn a_pid_that_another_process_has_is_not_the_same_process() {
        let own = super::Identity::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        assert!(!super::Identity { started: own.started + 1, ..own }.is_alive());
        assert_eq!(super::Identity::of(i32::MAX), None);
    }
}
