//! Who is whose child, in which session; a zombie, a signal that waits; directory and umask. And, as a role of its
//! own, a process that is stopped.

use super::Turn;
use super::board::{beside, ensure, failed};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid, chdir, fork, getpgid, getpid, getppid, getsid, setsid};
use std::path::{Path, PathBuf};

pub fn role(directory: &Path) -> Result<Turn, String> {
    chdir(directory).map_err(failed("chdir"))?;
    umask(Mode::from_bits_truncate(0o037));
    block(Signal::SIGPROF)?;
    raise(Signal::SIGPROF).map_err(failed("raise"))?;
    let zombie = make_zombie()?;
    let leader = beside(|| setsid().map(drop).map_err(failed("setsid")))?;
    wait_for_session(leader)?;
    let directory: PathBuf = directory.canonicalize().map_err(failed("directory"))?;
    let own = (getpid(), getppid(), getsid(None), getpgid(None));
    let turn = move || {
        let now = (getpid(), getppid(), getsid(None), getpgid(None));
        ensure(now == own, || format!("it is {now:?} instead of {own:?}"))?;
        ensure(getsid(Some(leader)) == Ok(leader), || format!("{leader} no longer leads a session"))?;
        ensure(state(zombie) == Some('Z'), || format!("the zombie {zombie} is {:?}", state(zombie)))?;
        ensure(pending(Signal::SIGPROF)?, || "the signal that waits is gone".into())?;
        let at = std::env::current_dir().map_err(failed("getcwd"))?;
        ensure(at == directory, || format!("it is in {}", at.display()))?;
        let mask = umask(Mode::from_bits_truncate(0o037));
        ensure(mask.bits() == 0o037, || format!("its umask is {:o}", mask.bits()))
    };
    Ok(Box::new(turn))
}

/// A process that is stopped has to stay so.
pub fn stopped(_: &Path) -> Result<Turn, String> {
    let stopped = beside(|| raise(Signal::SIGSTOP).map_err(failed("raise")))?;
    wait_for(stopped, 'T')?;
    Ok(Box::new(move || ensure(state(stopped) == Some('T'), || format!("{stopped} is {:?}", state(stopped)))))
}

fn make_zombie() -> Result<Pid, String> {
    // SAFETY: there are no threads yet; the child does nothing but end.
    match unsafe { fork() }.map_err(failed("fork"))? {
        // SAFETY: _exit(2) takes nothing along.
        ForkResult::Child => unsafe { nix::libc::_exit(7) },
        ForkResult::Parent { child } => wait_for(child, 'Z').map(|()| child),
    }
}

fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn wait_for(pid: Pid, wanted: char) -> Result<(), String> {
    while state(pid) != Some(wanted) {
        ensure(state(pid).is_some(), || format!("{pid} is gone"))?;
        std::thread::yield_now();
    }
    Ok(())
}

fn wait_for_session(leader: Pid) -> Result<(), String> {
    while getsid(Some(leader)).map_err(failed("getsid"))? != leader {
        std::thread::yield_now();
    }
    Ok(())
}

fn block(signal: Signal) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(signal);
    signals.thread_block().map_err(failed("sigprocmask"))
}

/// Whether the signal waits for this process to unblock it. Not as /proc has it: a file there whose reading a freeze
/// interrupts goes on with what it held at the restore, when signals were not back yet (`seq_lseek`, fs/seq_file.c).
fn pending(signal: Signal) -> Result<bool, String> {
    let mut waiting = SigSet::empty().as_ref().to_owned();
    // SAFETY: sigpending(2) fills in the set that it is given.
    let asked = unsafe { nix::libc::sigpending(&raw mut waiting) };
    nix::errno::Errno::result(asked).map_err(failed("sigpending"))?;
    // SAFETY: the set was filled in.
    Ok(unsafe { SigSet::from_sigset_t_unchecked(waiting) }.contains(signal))
}
