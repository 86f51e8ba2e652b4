//! Keeping the helper alive where no service manager does: a parent that starts it again when it was killed.
//!
//! While the helper is away held packets are dropped, so a container that was being frozen runs on unheard. systemd
//! starts a service again by itself; sysv scripts do not.

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Tells the helper that its parent waits to hear that it is ready. Who waits for the service (`start-stop-daemon`,
/// `--notify-await`) listens to the process that it has started, and that is the parent.
const VARIABLE: &str = "TRANSSHIPD_SUPERVISED";

/// By which the helper says so.
const READY: Signal = Signal::SIGUSR1;

/// The pause before a helper that had been ready is started again; it doubles with each that dies before it is.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Runs the helper with the words of this call, as long as it does not end by itself.
///
/// # Errors
/// When it cannot be started, or signals cannot be waited for.
pub fn run(words: &[String]) -> io::Result<ExitCode> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, READY]);
    signals.thread_block()?;
    let mut pause = SHORTEST_PAUSE;
    loop {
        match watch(start(words)?, &signals)? {
            End::Code(code) => return Ok(ExitCode::from(code)),
            End::Killed { signal, was_ready } => {
                eprintln!("transshipd was killed by {signal}; starting it again");
                pause = if was_ready { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            }
        }
        std::thread::sleep(pause);
    }
}

/// Tells whoever waits for it that the helper is ready: a supervising parent, or the service manager.
pub fn tell_ready() {
    if std::env::var_os(VARIABLE).is_some() {
        // A parent that is gone waits for nothing.
        let _ = kill(Pid::parent(), READY);
    } else {
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }
}

/// How the helper ended.
enum End {
    /// By itself, or because it was asked to.
    Code(u8),
    /// By a signal that nobody here sent.
    Killed { signal: Signal, was_ready: bool },
}

fn start(words: &[String]) -> io::Result<Pid> {
    let mut command = Command::new(own_program()?);
    command.args(words).env(VARIABLE, "1").env_remove("NOTIFY_SOCKET");
    let prepare = || {
        // The signals that this parent waits for are blocked in it, and a mask is inherited.
        SigSet::empty().thread_set_mask()?;
        // Without this parent nobody would start it again; it ends its work and goes.
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        Ok(())
    };
    // SAFETY: both calls are async-signal-safe and touch nothing of the parent's.
    unsafe {
        command.pre_exec(prepare);
    }
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id() as i32))
}

/// What lies under this program's name now: an upgrade may have replaced it.
fn own_program() -> io::Result<PathBuf> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let name = path.to_string_lossy();
    Ok(name.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

fn watch(child: Pid, signals: &SigSet) -> io::Result<End> {
    let (mut is_asked_to_end, mut was_ready) = (false, false);
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, code) => return Ok(End::Code(u8::try_from(code).unwrap_or(1))),
            WaitStatus::Signaled(_, signal, _) if !is_asked_to_end => return Ok(End::Killed { signal, was_ready }),
            WaitStatus::Signaled(..) => return Ok(End::Code(1)),
            _ => {}
        }
        match signals.wait()? {
            signal @ (Signal::SIGTERM | Signal::SIGINT) => {
                is_asked_to_end = true;
                kill(child, signal)?;
            }
            READY => {
                was_ready = true;
                // Without a service manager there is nobody to tell.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
            _ => {}
        }
    }
}
