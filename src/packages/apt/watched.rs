//! Runs apt and dpkg where they change something: to the end, whatever becomes of us.
//!
//! What they write goes to a file, which is read while it grows, and not into a pipe: a pipe breaks when its reader is
//! killed, and dpkg with it, in the middle of a package. For the same reason they get a session of their own, which no
//! terminal can hang up.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::super::error::{PackageError, Result};
use super::super::{Event, Watch};
use super::command::{LOG_LINES, command};

/// How often the files are looked at. The kernel tells nobody who waits when a file grows, short of inotify.
const LOOK: Duration = Duration::from_millis(100);

/// How a program ended.
pub(super) struct Ended {
    pub status: ExitStatus,
    /// The last lines that it wrote.
    pub log: Vec<String>,
}

/// Runs `apt-get` in `directory`. What it writes is appended to the file `log`, and told to `watch` line by line, its
/// progress in percent.
pub(super) fn apt_get(arguments: &[String], directory: &Path, log: &Path, watch: Watch<'_>) -> Result<Ended> {
    let status = log.with_extension("status");
    // A new file for each run: an apt that outlived its caller may still be writing to the last one.
    let fresh = std::fs::remove_file(&status).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let file = fresh.and_then(|()| open(&status)).map_err(PackageError::io("write", &status))?;
    let number = file.as_raw_fd();
    let arguments: Vec<_> =
        ["-o".into(), format!("APT::Status-Fd={number}")].into_iter().chain(arguments.iter().cloned()).collect();
    run("apt-get", &arguments, directory, log, Some((&status, number)), watch)
}

/// Runs `dpkg`, otherwise as [`apt_get`].
pub(super) fn dpkg(arguments: &[String], log: &Path, watch: Watch<'_>) -> Result<Ended> {
    run("dpkg", arguments, Path::new("/"), log, None, watch)
}

fn run(
    program: &str,
    arguments: &[String],
    directory: &Path,
    log: &Path,
    status: Option<(&Path, RawFd)>,
    watch: Watch<'_>,
) -> Result<Ended> {
    let unreadable = |path: &Path| PackageError::io("write", path);
    let output = open(log).map_err(unreadable(log))?;
    let errors = output.try_clone().map_err(unreadable(log))?;
    let mut lines = Tail::at_end(log).map_err(unreadable(log))?;
    let mut states = status.map(|(path, _)| Tail::at_end(path).map_err(unreadable(path))).transpose()?;
    let mut last = Vec::new();
    let mut look = |watch: Watch<'_>| {
        for percent in states.iter_mut().flat_map(Tail::lines).filter_map(|line| percent(&line)) {
            watch(Event::Percent(percent));
        }
        for line in lines.lines().into_iter().filter(|line| !line.is_empty()) {
            last.push(line.clone());
            watch(Event::Line(line));
        }
    };
    let mut command = command(program);
    command.args(arguments).current_dir(directory).stdout(output).stderr(errors);
    let inherited = status.map(|(_, number)| number);
    // SAFETY: between fork and exec only setsid and fcntl are called, which are async-signal-safe.
    unsafe { command.pre_exec(move || prepare(inherited)) };
    let text = || format!("{program} {}", arguments.join(" "));
    let child = command.spawn().map_err(|source| PackageError::Run { command: text(), source })?;
    let status = wait(child, || look(watch)).map_err(|source| PackageError::Run { command: text(), source })?;
    look(watch);
    Ok(Ended { status, log: last.split_off(last.len().saturating_sub(LOG_LINES)) })
}

/// In the child, before it becomes another program.
fn prepare(inherited: Option<RawFd>) -> io::Result<()> {
    nix::unistd::setsid()?;
    if let Some(number) = inherited {
        // SAFETY: the parent has the file open for as long as the child has not executed.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// Calls `meanwhile` now and then until the child has ended.
fn wait(mut child: Child, mut meanwhile: impl FnMut()) -> io::Result<ExitStatus> {
    std::thread::scope(|scope| {
        let (ended, end) = channel();
        scope.spawn(move || ended.send(child.wait()));
        loop {
            match end.recv_timeout(LOOK) {
                Ok(status) => return status,
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    })
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// `pmstatus:runc:68.9655:Configuring runc (amd64)`. (What `dlstatus` tells is of files that are on disk already.)
fn percent(line: &str) -> Option<f32> {
    let mut fields = line.split(':');
    let kind = fields.next()?;
    // Names of foreign packages have a colon of their own: `pmstatus:libc6:i386:50.0:...`
    fields.skip(1).take(2).find_map(|field| field.parse().ok()).filter(|_| kind == "pmstatus")
}

/// Reads what is added to a file, line by line.
struct Tail {
    file: File,
    begun: Vec<u8>,
}

impl Tail {
    fn at_end(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, begun: Vec::new() })
    }

    /// The lines that were completed since. A file that cannot be read just now has none: what is told on the way is
    /// not worth leaving a package manager alone for.
    fn lines(&mut self) -> Vec<String> {
        let _ = self.file.read_to_end(&mut self.begun);
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.begun.split_off(end + 1);
        let complete = std::mem::replace(&mut self.begun, rest);
        // dpkg draws its own progress with carriage returns: the last of them is what is to be seen.
        let seen = |line: &str| line.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
        String::from_utf8_lossy(&complete).lines().map(seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn percents_are_read() {
        assert_eq!(percent("pmstatus:docker.io:96.5517:Installed docker.io (amd64)"), Some(96.5517));
        assert_eq!(percent("dlstatus:13:98.2969:Retrieving file 13 of 13"), None);
        assert_eq!(percent("pmstatus:libc6:i386:50.0:Unpacking libc6 (i386)"), Some(50.0));
        assert_eq!(percent("pmconffile:/etc/x:50.0:..."), None);
        assert_eq!(percent("media-change: disc:1"), None);
    }

    #[test]
    fn lines_are_told_once_they_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "from before\n").unwrap();
        let mut tail = Tail::at_end(&path).unwrap();
        let mut file = open(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(tail.lines(), ["one"]);
        file.write_all(b"o\n(Reading ... 5%\r(Reading ... done.\n\xff\n").unwrap();
        assert_eq!(tail.lines(), ["two", "(Reading ... done.", "\u{fffd}"]);
        assert!(tail.lines().is_empty());
    }

    #[test]
    fn a_program_is_heard_while_it_runs_and_has_a_session_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (log, status) = (dir.path().join("log"), dir.path().join("status"));
        let file = open(&status).unwrap();
        let number = file.as_raw_fd();
        let script = format!(
            "echo pmstatus:x:25.5:y >&{number}; echo $$ $(cut -d' ' -f6 /proc/$$/stat)
            echo oops >&2; sleep 0.3; exit 7"
        );
        let mut events = Vec::new();
        let arguments = ["-c".to_owned(), script];
        let mut watch = |event| events.push(event);
        let ended = run("bash", &arguments, dir.path(), &log, Some((&status, number)), &mut watch).unwrap();
        assert_eq!(ended.status.code(), Some(7));
        assert_eq!(ended.log[1], "oops");
        let (pid, session) = ended.log[0].split_once(' ').unwrap();
        assert_eq!(pid, session);
        assert_eq!(events[0], Event::Percent(25.5));
        assert_eq!(events.len(), 3);
    }
}
