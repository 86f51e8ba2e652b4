//! dockerd's end, as soon as its own work is done.
//!
//! A dockerd that is told to end stops listening, ends its containers, and closes its books, that of its networks among the
//! last. Then it ends the containerd that it has started itself, sleeps for a second before it looks whether that has ended, and
//! waits up to 5 s for clients that have asked what is not answered yet, such as those that listen to its events for ever, or that
//! have connected and asked nothing (moby's `cmd/dockerd/daemon.go`, `Shutdown` in `daemon/daemon.go`, `stopDaemon` in
//! `supervisor/remote_daemon_linux.go`; the order of these two differs). Where containers are away meanwhile, neither is worth the
//! wait. What dockerd has written by then is whole: its books are such that a loss of power does not harm them either.

use super::containerd;
use super::manager::ServiceManager;
use crate::process::{self, Identity};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long is waited for dockerd to close its books, and then for its containerd to end. After that it takes its own time.
const LONGEST: Duration = Duration::from_secs(30);

/// How long dockerd may go on when its books are closed: as long as it needs where no client keeps it.
const GRACE: Duration = Duration::from_millis(300);

/// Where dockerd keeps what it knows of its networks, below its own directory (moby's `libnetwork/config`).
const NETWORKS: &str = "network/files/local-kv.db";

/// A dockerd that is about to end.
pub struct Ending {
    dockerd: Identity,
    /// Where dockerd has started it itself.
    containerd: Option<Identity>,
    networks: Option<Book>,
}

impl Ending {
    /// That of the dockerd that runs now; none where none runs. A book that it does not keep open tells nothing.
    pub fn of_dockerd(manager: ServiceManager, keeps_books_open: bool) -> Option<Self> {
        let own = containerd::of_dockerd().filter(|_| !manager.knows("containerd"));
        let dockerd = own.map(|(dockerd, _)| dockerd).or_else(containerd::pid_of_dockerd)?;
        Some(Self {
            dockerd: Identity::of(dockerd)?,
            containerd: own.and_then(|(_, containerd)| Identity::of(containerd)),
            networks: Book::of(dockerd).filter(|_| keeps_books_open),
        })
    }

    /// Waits until dockerd, which has been told to end or will be, has ended or does nothing any more but wait; ends it then.
    /// Returns as soon as nobody holds the other end of `stopping`.
    pub fn hasten(&self, stopping: PipeReader) {
        let stopping = OwnedFd::from(stopping);
        let only_waits = self.networks.as_ref().is_some_and(|networks| networks.is_closed_before(self.ends(&stopping)));
        match &self.containerd {
            Some(containerd) => {
                if only_waits && containerd.outlives(GRACE) {
                    containerd.terminate();
                }
                if ends_before(containerd, &stopping) {
                    self.dockerd.kill();
                }
            }
            None if only_waits && self.dockerd.outlives(GRACE) => self.dockerd.kill(),
            None => {}
        }
    }

    /// What becomes readable when there is nothing to be seen any more.
    fn ends(&self, stopping: &OwnedFd) -> Vec<OwnedFd> {
        let processes = [Some(self.dockerd), self.containerd].into_iter().flatten();
        processes.filter_map(|process| process::open(process.pid)).chain(stopping.try_clone()).collect()
    }
}

/// Whether it ends before the other becomes readable. Where both take longer than may be, it does not.
fn ends_before(process: &Identity, other: &OwnedFd) -> bool {
    let Some(end) = process::open(process.pid).filter(|_| process.is_alive()) else { return true };
    first_of(&[end.as_fd(), other.as_fd()], Instant::now() + LONGEST) == Some(0)
}

/// Which becomes readable first; none where none does before the deadline.
fn first_of(descriptors: &[BorrowedFd<'_>], deadline: Instant) -> Option<usize> {
    let mut waited: Vec<_> = descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut waited, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => {}
            _ => return waited.iter().position(|fd| fd.any().unwrap_or_default()),
        }
    }
}

/// A database that dockerd has open for as long as it works.
struct Book {
    dockerd: i32,
    file: PathBuf,
    closings: Inotify,
}

impl Book {
    /// dockerd's, of its networks; none where it has none open.
    fn of(dockerd: i32) -> Option<Self> {
        let file = open_files(dockerd).find(|file| file.ends_with(NETWORKS))?;
        let closings = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
        closings.add_watch(&file, AddWatchFlags::IN_CLOSE).ok()?;
        Some(Self { dockerd, file, closings })
    }

    /// Waits until it is closed or one of the others becomes readable, for as long as may be, and says whether it is closed.
    fn is_closed_before(&self, others: Vec<OwnedFd>) -> bool {
        let deadline = Instant::now() + LONGEST;
        let mut waited = vec![self.closings.as_fd()];
        waited.extend(others.iter().map(AsFd::as_fd));
        while self.is_open() {
            match first_of(&waited, deadline) {
                Some(0) => drop(self.closings.read_events()),
                _ => return false,
            }
        }
        true
    }

    fn is_open(&self) -> bool {
        open_files(self.dockerd).any(|file| file == self.file)
    }
}

fn open_files(pid: i32) -> impl Iterator<Item = PathBuf> {
    let descriptors = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
    descriptors.into_iter().flatten().flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
}

#[cfg(test)]
mod tests {
    use super::{Book, NETWORKS, process};
    use std::io::Write;
    use std::process::{Child, Command, Stdio};

    /// A process that has the networks' book open, closes it at the first line that it is told, and ends at the second.
    fn reader(directory: &std::path::Path) -> Child {
        let file = directory.join(NETWORKS);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let script = "exec 3>\"$1\"; echo; read _; exec 3>&-; read _";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        child
    }

    #[test]
    fn it_is_told_whether_the_book_is_closed_or_somebody_ended_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut dockerd = reader(directory.path());
        let mut containerd = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let book = Book::of(dockerd.id() as i32).unwrap();
        let end = |child: &Child| process::open(child.id() as i32).unwrap();
        std::thread::scope(|threads| {
            let ends = vec![end(&dockerd), end(&containerd)];
            let told = threads.spawn(|| book.is_closed_before(ends));
            containerd.kill().unwrap();
            assert!(!told.join().unwrap());
            let ends = vec![end(&dockerd)];
            let told = threads.spawn(|| book.is_closed_before(ends));
            dockerd.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            assert!(told.join().unwrap());
        });
        for mut child in [dockerd, containerd] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn who_has_no_book_open_is_not_waited_for() {
        assert!(Book::of(std::process::id() as i32).is_none());
    }
}
