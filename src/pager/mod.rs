//! The pager: memory that follows a container that runs already (post-copy).
//!
//! ```text
//!  source's helper ◄── port ◄══ TLS ══► port ◄── pager ──► userfaultfd ──► the container's pages
//!  (frozen processes)                              ▲  ▲
//!                            CRIU, as it restores ─┘  └─ the helper asks how far it is
//! ```
//!
//! A process of its own (`transshipd pager DIRECTORY`), so that a helper that dies leaves the container its memory. It takes
//! the place of `criu lazy-pages`: that ends when its page server is gone, and the kernel would go on with empty pages
//! ([`guard`]). The source is asked through the port, in whole pages, each answer with a proof ([`words`]).

mod fetch;
mod guard;
mod missing;
mod restorer;
mod tell;
mod uffd;
mod watch;
pub mod words;
mod worker;

pub use tell::Told;
pub use watch::{Seen, Watch};

use crate::criu::pagemap::PAGE;
use crate::process;
use crate::transport::client::Compress;
use fetch::Fetch;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::{File, Permissions};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use worker::{Pager, PagerError};

/// The first word when the pager is wanted and not the helper.
pub const WORD: &str = "pager";

/// What it is called, in `/proc/PID/comm`.
const NAME: &str = "pager";
/// What it is called before it has said so: as the kernel calls what is run as [`PROGRAM`].
const AT_FIRST: &str = "exe";
const PROGRAM: &str = "/proc/self/exe";

/// Where pagers have their files, each in a directory named by its container.
const ROOT: &str = "/run/transship/pager";

/// Where CRIU calls, in its working directory (`criu/uffd.c`).
const CRIU_SOCKET: &str = "lazy-pages.socket";
/// Where the helper asks how far it is.
const SOCKET: &str = "told.sock";
/// What is to be done.
const ORDER: &str = "order.json";
/// There when nothing is missing any more.
const DONE: &str = "done";
const LOG: &str = "pager.log";

/// Who has the memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Source {
    /// The host, by its name in the book of peers.
    pub peer: String,
    /// Where pages are asked for there.
    pub path: String,
    /// The checkpoint that the memory belongs to.
    pub checkpoint: String,
    /// How hard it is compressed on the way.
    pub compress: Compress,
    /// How many bytes a second may come.
    pub rate: Option<NonZeroU64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    images: PathBuf,
    source: Source,
}

fn directory(container: &str) -> PathBuf {
    Path::new(ROOT).join(container)
}

/// Starts a pager for a container that CRIU is about to restore from `images`, working in `work`. What was left of an
/// earlier one is ended: CRIU ends what it had restored in any case.
pub fn begin(container: &str, images: &Path, work: &Path, source: &Source) -> io::Result<()> {
    end(container)?;
    let directory = directory(container);
    std::fs::create_dir_all(&directory)?;
    std::fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
    let order = Order { images: images.to_owned(), source: source.clone() };
    std::fs::write(directory.join(ORDER), serde_json::to_vec(&order)?)?;
    let criu = UnixListener::bind(work.join(CRIU_SOCKET))?;
    let told = UnixListener::bind(directory.join(SOCKET))?;
    let mut command = Command::new(PROGRAM);
    command.arg(WORD).arg(&directory);
    command.stdin(OwnedFd::from(criu)).stdout(OwnedFd::from(told)).stderr(File::create(directory.join(LOG))?);
    // A signal to the helper's group is not for it.
    let mut child = command.process_group(0).spawn()?;
    std::thread::Builder::new().name("pager".into()).spawn(move || child.wait()).map(drop)
}

/// Ends the pager of a container that has ended or has all its memory, and removes its files. A container that still runs
/// and misses pages would go on with empty ones.
pub fn end(container: &str) -> io::Result<()> {
    let directory = directory(container);
    for found in watch::processes(&directory) {
        match kill(Pid::from_raw(found.pid), Signal::SIGKILL) {
            Ok(()) => process::wait_for_end(found.pid),
            Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs as the pager: standard input and output are the two sockets, standard error is its log.
pub fn main(directory: Option<String>) -> ExitCode {
    let Some(directory) = directory.map(PathBuf::from) else {
        eprintln!("transshipd pager is started by transshipd itself");
        return ExitCode::FAILURE;
    };
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    if let Err(error) = prctl::set_name(c"pager") {
        tracing::warn!(%error, "this process goes by another name");
    }
    spare_from_the_oom_killer();
    match run(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, source, "memory does not follow any more");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path) -> Result<(), PagerError> {
    let order: Order = serde_json::from_slice(&std::fs::read(directory.join(ORDER))?).map_err(io::Error::from)?;
    let criu = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let told = UnixListener::from(io::stdout().as_fd().try_clone_to_owned()?);
    Pager::new(&order.images, Fetch::from(order.source)?, told)?.run(&criu)?;
    File::create(directory.join(DONE))?;
    guard::leave()?;
    Ok(())
}

/// Without it the container's memory is lost.
fn spare_from_the_oom_killer() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        tracing::warn!(%error, "the kernel may kill this process where memory is short");
    }
}
