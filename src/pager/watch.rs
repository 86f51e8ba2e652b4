//! The helper's view of a pager.

use super::tell::Told;
use super::{AT_FIRST, DONE, NAME, SOCKET, WORD, directory, guard};
use crate::process::{self, Identity};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is seen of a pager.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// How far it is.
    Told(Told),
    /// Nothing is missing any more.
    All,
    /// It has died, and memory is missing: what needs it stands still.
    Died,
    /// Nothing was heard for the time that was given.
    Nothing,
}

/// A pager that is being watched.
#[derive(Debug)]
pub struct Watch {
    directory: PathBuf,
    following: Option<(OwnedFd, BufReader<UnixStream>)>,
}

impl Watch {
    /// Watches the pager of a container, whoever has started it.
    pub fn over(container: &str) -> Self {
        let directory = directory(container);
        let workers = processes(&directory);
        let worker = workers.into_iter().find(|found| name_of(found.pid).as_deref() != Some(guard::NAME));
        let following = worker.and_then(|worker| {
            let pidfd = process::open(worker.pid).filter(|_| worker.is_alive())?;
            let stream = UnixStream::connect(directory.join(SOCKET)).ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((pidfd, BufReader::new(stream)))
        });
        Self { directory, following }
    }

    /// What is seen next, within `patience`.
    pub fn next(&mut self, patience: Duration) -> io::Result<Seen> {
        let Some((pidfd, lines)) = &mut self.following else { return Ok(self.end()) };
        let mut line = String::new();
        // The guard holds the other end open when the pager has died.
        let mut waited =
            [PollFd::new(lines.get_ref().as_fd(), PollFlags::POLLIN), PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let is_buffered = !lines.buffer().is_empty();
        let patience =
            if is_buffered { PollTimeout::ZERO } else { PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX) };
        match poll(&mut waited, patience) {
            Err(nix::errno::Errno::EINTR) => return Ok(Seen::Nothing),
            polled => polled.map(drop)?,
        }
        let has_ended = waited[1].any().unwrap_or_default();
        match lines.read_line(&mut line) {
            Ok(count) if count > 0 => {
                let told: Told = serde_json::from_str(&line)?;
                Ok(if told.is_all { Seen::All } else { Seen::Told(told) })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !has_ended => Ok(Seen::Nothing),
            _ => Ok(self.end()),
        }
    }

    fn end(&self) -> Seen {
        if self.directory.join(DONE).exists() { Seen::All } else { Seen::Died }
    }
}

/// The pager that works in a directory, and its guard.
pub fn processes(directory: &Path) -> Vec<Identity> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_pager(*pid, directory)).filter_map(Identity::of).collect()
}

/// Asked for by its name first: the words of a process that misses pages are read when they have come.
fn is_pager(pid: i32, directory: &Path) -> bool {
    if !name_of(pid).is_some_and(|name| [AT_FIRST, NAME, guard::NAME].contains(&name.as_str())) {
        return false;
    }
    let Ok(words) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut words = words.split(|byte| *byte == 0).skip(1);
    words.next() == Some(WORD.as_bytes()) && words.next() == Some(directory.as_os_str().as_encoded_bytes())
}

fn name_of(pid: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}
