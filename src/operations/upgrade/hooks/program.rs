//! One hook as a process: told on its standard input, listened to on its standard error, ended when it takes too long.

use crate::process;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one that was told to end may take for it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// So much of the end of what it says is kept.
const TAIL: usize = 4096;

/// What a pipe holds (pipe(7)).
const PIPE: usize = 65536;

/// Runs a program to its end. One that ends otherwise than well, or not within `limit`, is an error with its last line.
pub fn run(path: &Path, told: &str, limit: Duration) -> io::Result<()> {
    let mut command = Command::new(path);
    // A group of its own: what it has started is ended with it.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut hook = Hook::of(command.spawn()?)?;
    hook.tell(told);
    if hook.attend(limit)? {
        let status = hook.child.wait()?;
        return if status.success() { Ok(()) } else { Err(hook.failed(&status.to_string())) };
    }
    hook.end()?;
    Err(hook.failed(&format!("it was ended after {} s", limit.as_secs())))
}

struct Hook {
    child: Child,
    ended: OwnedFd,
    says: ChildStderr,
    tail: Vec<u8>,
}

impl Hook {
    fn of(mut child: Child) -> io::Result<Self> {
        let ended = process::open(child.id().cast_signed()).ok_or_else(io::Error::last_os_error)?;
        let says = child.stderr.take().ok_or_else(|| io::Error::other("it has no standard error"))?;
        fcntl(&says, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { child, ended, says, tail: Vec::new() })
    }

    /// It need not read what it is told, so nobody waits for that.
    fn tell(&mut self, told: &str) {
        let (input, told) = (self.child.stdin.take(), told.to_owned());
        std::thread::spawn(move || input.map(|mut input| input.write_all(told.as_bytes())));
    }

    /// Listens until it has ended; whether it has within the limit. What it has left in the background may go on talking.
    fn attend(&mut self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        let mut is_silent = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let ended = PollFd::new(self.ended.as_fd(), PollFlags::POLLIN);
            let mut waited = vec![ended];
            waited.extend((!is_silent).then(|| PollFd::new(self.says.as_fd(), PollFlags::POLLIN)));
            match poll(&mut waited, left) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            let has_ended = waited[0].any().unwrap_or_default();
            is_silent = self.listen()?;
            if has_ended || Instant::now() >= deadline {
                return Ok(has_ended);
            }
        }
    }

    /// Takes what lies in the pipe, which is as much as it holds at the most; whether nothing more can come.
    fn listen(&mut self) -> io::Result<bool> {
        let mut buffer = [0; TAIL];
        for _ in 0..PIPE / TAIL {
            match self.says.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => {
                    self.tail.extend_from_slice(&buffer[..count]);
                    self.tail.drain(..self.tail.len().saturating_sub(TAIL));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Ends it and what it has started: kindly first.
    fn end(&mut self) -> io::Result<()> {
        let group = Pid::from_raw(self.child.id().cast_signed());
        killpg(group, Signal::SIGTERM)?;
        self.attend(LAST_WORDS)?;
        // Whoever of the group is left; the program itself is not waited for yet, so the number is still its own.
        killpg(group, Signal::SIGKILL)?;
        self.child.wait().map(drop)
    }

    fn failed(&self, why: &str) -> io::Error {
        let said = String::from_utf8_lossy(&self.tail);
        let last = said.lines().last().unwrap_or_default();
        io::Error::other(format!("{why}{}{last}", if last.is_empty() { "" } else { ": " }))
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    fn hook(script: &str, told: &str, limit: Duration) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hook");
        // Not opened for writing by this process, in which other tests start programs at the same time.
        let made = std::process::Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$2""#, "-", script])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        run(&path, told, limit).map_err(|error| error.to_string())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_hears_what_it_is_told_and_its_last_line_is_told_when_it_fails() {
        assert_eq!(hook(r#"read line; [ "$line" = plan ]"#, "plan\n", LONG), Ok(()));
        let failed = hook("echo first >&2; echo busy >&2; exit 3", "plan", LONG);
        assert_eq!(failed, Err("exit status: 3: busy".into()));
    }

    #[test]
    fn one_that_does_not_listen_and_one_that_leaves_somebody_behind_do_not_keep_anybody_waiting() {
        let begun = Instant::now();
        assert_eq!(hook("exec true", &"x".repeat(1 << 20), LONG), Ok(()));
        assert_eq!(hook("sleep 60 & exit 0", "plan", LONG), Ok(()));
        assert!(begun.elapsed() < LONG / 2);
    }

    #[test]
    fn one_that_takes_too_long_is_ended_with_all_that_it_has_started() {
        let left = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 60 & echo $! > {}; echo draining >&2; wait", left.path().display());
        let ended = hook(&script, "plan", Duration::from_millis(500));
        assert_eq!(ended, Err("it was ended after 0 s: draining".into()));
        let pid: i32 = std::fs::read_to_string(left.path()).unwrap().trim().parse().unwrap();
        crate::process::wait_for_end(pid);
    }
}
