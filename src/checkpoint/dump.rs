//! The dump: `runc checkpoint`, which stands still when everything is on disk and asks what to do.
//!
//! CRIU runs its action scripts when a dump is complete and the processes are still seized (`post-dump`,
//! `criu/cr-dump.c`, made for migrations): on success it ends them without a word to anybody, their sockets
//! being in repair mode; on failure it lets them go on as if nothing had happened. The script is the interposer,
//! which asks at the gate. So the container can be given up until the very moment it is committed, whichever
//! process dies.

use super::runtime::Runtime;
use crate::criu;
use crate::store::claims::{CHECKPOINT_VARIABLE, CONTAINER_VARIABLE, LEADER_VARIABLE};
use crate::store::{CheckpointId, ContainerId};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A dump that has written nothing for this long is given up.
const STALLED: Duration = Duration::from_secs(30);

/// How long CRIU may take to put everything back, or to end the processes.
const LONGEST_END: Duration = Duration::from_secs(120);

/// Why a container could not be dumped.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// No runc of Docker's has a state of the container.
    #[error("no runc of Docker's runs it")]
    NoRuntime,
    /// A file beside the images could not be made.
    #[error("cannot prepare {path}", path = path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// runc could not be run.
    #[error("cannot run runc checkpoint")]
    Run(#[source] std::io::Error),
    /// runc or CRIU said no.
    #[error("runc checkpoint ended with {status}: {message}")]
    Failed { status: ExitStatus, message: String, log: Vec<String> },
    /// It does not come along.
    #[error("runc checkpoint has written nothing for {} s", STALLED.as_secs())]
    Stalled { log: Vec<String> },
    /// It does not end.
    #[error("runc checkpoint did not end within {} s after its dump", LONGEST_END.as_secs())]
    TooLong,
    /// runc ended well without asking: CRIU is older than 3.19 and runs no action scripts for runc.
    #[error("CRIU ended the dump without asking")]
    DidNotAsk,
}

/// CRIU's word in its log when a connection waits to be accepted (`criu/sk-inet.c`).
const IN_FLIGHT: &str = "In-flight connection";

impl DumpError {
    /// Whether the dump failed for a connection that was not accepted yet.
    pub fn is_in_flight(&self) -> bool {
        self.log().iter().any(|line| line.contains(IN_FLIGHT))
    }

    /// CRIU's last lines, where CRIU said no.
    pub fn log(&self) -> &[String] {
        match self {
            Self::Failed { log, .. } | Self::Stalled { log } => log,
            _ => &[],
        }
    }
}

/// What is dumped, and where to.
#[derive(Debug, Clone)]
pub struct Dump<'a> {
    /// The container.
    pub container: ContainerId,
    /// The container whose claim decides for the whole group, and the checkpoint that it will name.
    pub leader: (ContainerId, CheckpointId),
    /// Directory for CRIU's images.
    pub images: &'a Path,
    /// Directory for CRIU's log and statistics.
    pub work: &'a Path,
    /// Paths, inside the container, of what it watches on overlayfs.
    pub watched: &'a [PathBuf],
    /// Whether CRIU locks the container's network by nftables; by iptables where not.
    pub nftables: bool,
    /// Whether the processes go on afterwards.
    pub leave_running: bool,
    /// Drop connections that wait in an accept queue: the last resort.
    pub skip_in_flight: bool,
    /// Whether memory is left in the processes, and follows them later.
    pub memory_follows: bool,
}

impl Dump<'_> {
    /// Dumps; returns when the images are complete and the processes stand still.
    pub fn run(&self, dumps: &Dumps) -> Result<Still, DumpError> {
        let config = self.write_criu_config()?;
        let (events, seen) = channel();
        dumps.expect(self.container.clone(), events.clone());
        let child = self.command(&config)?.spawn().map_err(DumpError::Run)?;
        let runc = child.id();
        // The thread ends with runc; what it finds out is of no use to anybody when the receiver is gone.
        std::thread::spawn(move || {
            let _ = events.send(Event::Ended(child.wait_with_output()));
        });
        let log = self.work.join("dump.log");
        let first = self.first_event(&seen);
        dumps.forget(&self.container);
        match first {
            Some(Event::Asked(verdict)) => Ok(Still { verdict, seen, runc, log }),
            Some(Event::Ended(output)) => Err(ended_early(output, &log)),
            None => Err(DumpError::Stalled { log: criu::log::excerpt(&log).lines }),
        }
    }

    /// Waits as long as images or log grow.
    fn first_event(&self, seen: &Receiver<Event>) -> Option<Event> {
        let mut written = 0;
        loop {
            match seen.recv_timeout(STALLED) {
                Ok(event) => return Some(event),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let now = bytes_in(self.images) + bytes_in(self.work);
                    if now == written {
                        return None;
                    }
                    written = now;
                }
            }
        }
    }

    fn command(&self, config: &Path) -> Result<Command, DumpError> {
        let runtime = Runtime::of(&self.container.to_string()).ok_or(DumpError::NoRuntime)?;
        let mut command = Command::new("runc");
        command.arg("--root").arg(&runtime.root).arg("checkpoint");
        command.arg("--image-path").arg(self.images).arg("--work-path").arg(self.work);
        command.args(["--tcp-established", "--file-locks"]);
        if self.leave_running {
            command.arg("--leave-running");
        }
        if self.memory_follows {
            command.arg("--lazy-pages");
        }
        command.arg(self.container.to_string());
        command.env("CRIU_CONFIG_FILE", config);
        command.env(CONTAINER_VARIABLE, self.container.to_string());
        command.env(LEADER_VARIABLE, self.leader.0.to_string());
        command.env(CHECKPOINT_VARIABLE, self.leader.1.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// CRIU options that runc has no words for.
    ///
    /// - `ghost-limit`: deleted files that are still open are stored up to this size; CRIU's own limit of 1 MiB
    ///   is less than what Java or a browser keeps so.
    /// - `irmap-scan-path`: where to look for the names of watched files, which overlayfs does not tell.
    /// - `link-remap`: open files whose name is gone while another link is left.
    /// - `address`: where memory is left in the processes, CRIU would serve it on the network when the verdict is there
    ///   (`cr_dump_finish`, `criu/cr-dump.c`), and end them when whoever asks is content. It is served by the helper, and an
    ///   address that is none keeps CRIU from it: it lets them go, and they stand still by the freezer.
    fn write_criu_config(&self) -> Result<PathBuf, DumpError> {
        let path = self.work.join("criu.conf");
        let script = crate::services::ACTION_SCRIPT;
        let lock = if self.nftables { "network-lock nftables\n" } else { "" };
        let in_flight = if self.skip_in_flight { "skip-in-flight\n" } else { "" };
        let watched =
            self.watched.iter().filter_map(|path| path.to_str()).filter(|path| !path.contains(char::is_whitespace));
        let watched: String = watched.map(|path| format!("irmap-scan-path {path}\n")).collect();
        let nowhere = if self.memory_follows { "address nowhere\n" } else { "" };
        let text =
            format!("ghost-limit 1073741824\nlink-remap\naction-script {script}\n{in_flight}{lock}{nowhere}{watched}");
        match std::fs::write(&path, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(DumpError::Prepare { path, source }),
        }
    }
}

/// Bytes of all files in a directory.
fn bytes_in(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

fn ended_early(output: std::io::Result<Output>, log: &Path) -> DumpError {
    match output {
        Err(error) => DumpError::Run(error),
        Ok(output) if output.status.success() => DumpError::DidNotAsk,
        Ok(output) => failed(&output, log),
    }
}

fn failed(output: &Output, log: &Path) -> DumpError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = stderr.lines().last().unwrap_or_default().to_owned();
    DumpError::Failed { status: output.status, message, log: criu::log::excerpt(log).lines }
}

/// What a dump's thread hears.
#[derive(Debug)]
enum Event {
    /// CRIU is done and asks.
    Asked(Sender<Verdict>),
    /// runc ended.
    Ended(std::io::Result<Output>),
}

/// What becomes of processes that stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The dump counts: they end, or go on where the dump leaves them running.
    Keep,
    /// The dump does not count: they go on.
    GiveUp,
}

/// A dumped container whose processes stand still until they are told. Dropping it lets them go on.
#[derive(Debug)]
pub struct Still {
    verdict: Sender<Verdict>,
    seen: Receiver<Event>,
    runc: u32,
    log: PathBuf,
}

impl Still {
    /// runc's pid.
    pub fn runc(&self) -> u32 {
        self.runc
    }

    /// Tells them; returns when runc has ended.
    pub fn end(self, verdict: Verdict) -> Result<(), DumpError> {
        // Where nobody listens any more, CRIU has died; runc's end tells.
        let _ = self.verdict.send(verdict);
        match self.seen.recv_timeout(LONGEST_END) {
            Ok(Event::Ended(Ok(output))) if output.status.success() || verdict == Verdict::GiveUp => Ok(()),
            Ok(Event::Ended(Ok(output))) => Err(failed(&output, &self.log)),
            Ok(Event::Ended(Err(error))) => Err(DumpError::Run(error)),
            Ok(Event::Asked(_)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(DumpError::TooLong)
            }
        }
    }
}

/// The dumps that are under way, for the gate.
#[derive(Debug, Default)]
pub struct Dumps(Mutex<HashMap<ContainerId, Sender<Event>>>);

impl Dumps {
    fn expect(&self, container: ContainerId, events: Sender<Event>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(container, events);
    }

    fn forget(&self, container: &ContainerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// CRIU asks for a container; waits for the verdict. A dump that nobody began does not count; `None` where the
    /// operation ended without a verdict: then the claim on the group's leader tells.
    pub fn ask(&self, container: &ContainerId) -> Option<Verdict> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(container).cloned();
        let Some(events) = events else { return Some(Verdict::GiveUp) };
        let (verdict, told) = channel();
        match events.send(Event::Asked(verdict)) {
            Ok(()) => told.recv().ok(),
            Err(_) => Some(Verdict::GiveUp),
        }
    }
}
