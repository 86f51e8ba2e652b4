//! The process itself: gives its privileges up, then goes by what it is told.

use super::active::Active;
use super::config::{Applied, Config};
use super::{inbound, outbound};
use clap::Parser;
use nix::unistd::{Gid, Uid, User};
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// The first word when the port is wanted and not the helper.
pub const WORD: &str = "port";

/// Who the port runs as, where there is such a user.
pub const USER: &str = "transship-port";

/// Who it runs as otherwise.
const NOBODY: &str = "nobody";

/// What the helper says to it once, and may be seen by everybody: no keys are here.
#[derive(Debug, Parser)]
#[command(name = "transshipd port")]
struct Arguments {
    /// The socket that peers call, as a file descriptor.
    #[arg(long)]
    network: RawFd,
    /// The socket on which the helper asks, as a file descriptor.
    #[arg(long)]
    out: RawFd,
    /// The helper's own socket.
    #[arg(long)]
    helper: PathBuf,
}

/// Why the port cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// There is nobody to become.
    #[error("there is neither a user {USER} nor a user {NOBODY} on this host")]
    NoUser,
    /// Privileges could not be given up.
    #[error("privileges cannot be given up")]
    Privileges(#[source] nix::Error),
    /// A descriptor, or the runtime, is not as it should be.
    #[error("the sockets cannot be used")]
    Sockets(#[source] io::Error),
    /// The helper's words cannot be read.
    #[error("the helper's configuration cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// A key in them cannot be used.
    #[error("a key in the helper's configuration cannot be used")]
    Key(#[source] rustls::Error),
    /// The helper cannot be heard or told.
    #[error("the helper cannot be heard")]
    Helper(#[source] io::Error),
}

/// The user that the port runs as; none where this process is not root and stays who it is.
pub fn user() -> Result<Option<User>, PortError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let named = |name| User::from_name(name).ok().flatten();
    named(USER).or_else(|| named(NOBODY)).map(Some).ok_or(PortError::NoUser)
}

/// Runs the port until its standard input ends. `words` are those behind [`WORD`].
pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let arguments = Arguments::parse_from([WORD.to_owned()].into_iter().chain(words));
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    match give_privileges_up().and_then(|()| run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, source, "the port cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Nothing of the network has been read by then, and no key.
fn give_privileges_up() -> Result<(), PortError> {
    if let Some(user) = user()? {
        become_user(user.uid, user.gid).map_err(PortError::Privileges)?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(PortError::Privileges)?;
    // No core dump and no debugger shall have the keys, not even of the same user.
    nix::sys::prctl::set_dumpable(false).map_err(PortError::Privileges)
}

fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)
}

fn run(arguments: Arguments) -> Result<(), PortError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(PortError::Sockets)?;
    let ended = runtime.block_on(serve(arguments));
    // Threads that unpack a body may wait for more of it; nobody waits for them.
    runtime.shutdown_background();
    ended
}

async fn serve(arguments: Arguments) -> Result<(), PortError> {
    let network = inherited::<std::net::TcpListener>(arguments.network).map_err(PortError::Sockets)?;
    network.set_nonblocking(true).map_err(PortError::Sockets)?;
    let network = TcpListener::from_std(network).map_err(PortError::Sockets)?;
    let out = inherited::<std::os::unix::net::UnixListener>(arguments.out).map_err(PortError::Sockets)?;
    out.set_nonblocking(true).map_err(PortError::Sockets)?;
    let out = UnixListener::from_std(out).map_err(PortError::Sockets)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let Some(first) = next(&mut lines).await? else { return Ok(()) };
    let number = first.number;
    let (change, active) = watch::channel(Arc::new(Active::new(first).map_err(PortError::Key)?));
    tokio::spawn(inbound::serve(network, active.clone(), arguments.helper));
    tokio::spawn(outbound::serve(out, active));
    tell(number)?;
    while let Some(config) = next(&mut lines).await? {
        let number = config.number;
        change.send_replace(Arc::new(Active::new(config).map_err(PortError::Key)?));
        tell(number)?;
    }
    Ok(())
}

/// The next configuration; none when the helper is gone.
async fn next(lines: &mut Lines<BufReader<Stdin>>) -> Result<Option<Config>, PortError> {
    let line = lines.next_line().await.map_err(PortError::Helper)?;
    line.map(|line: String| serde_json::from_str(&line).map_err(PortError::Unreadable)).transpose()
}

fn tell(number: u64) -> Result<(), PortError> {
    let line = serde_json::to_string(&Applied { number }).map_err(PortError::Unreadable)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(PortError::Helper)
}

/// A socket that the helper has left open for this process.
fn inherited<T: From<OwnedFd>>(number: RawFd) -> io::Result<T> {
    if number <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket cannot have that number"));
    }
    nix::fcntl::fcntl(unowned(number), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    // SAFETY: the number is open, as the call above has shown, and it was opened for this process and this place alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) }.into())
}

/// A descriptor that is asked about and not closed.
fn unowned(number: RawFd) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: used for one call, which says so where it is not open.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(number) }
}
