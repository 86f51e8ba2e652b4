//! Locks of both kinds, held by one process and asked for by another.

use super::Turn;
use super::board::{beside, ensure, failed};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

pub fn role(directory: &Path) -> Result<Turn, String> {
    let [posix, flock] = ["tree-posix.lock", "tree-flock.lock"].map(|name| directory.join(name));
    let paths = (posix.clone(), flock.clone());
    let (told, tell) = nix::unistd::pipe().map_err(failed("pipe"))?;
    // The holder is a child, so that the question for the holder's pid has an answer.
    let holder = beside(move || hold(&paths.0, &paths.1, File::from(tell)))?;
    let mut word = [0; 4];
    std::io::Read::read_exact(&mut File::from(told), &mut word).map_err(failed("the locks are not taken"))?;
    let (posix, flock) = (open(&posix)?, open(&flock)?);
    let turn = move || {
        let mut wanted = write_lock();
        fcntl(&posix, FcntlArg::F_GETLK(&mut wanted)).map_err(failed("F_GETLK"))?;
        ensure(wanted.l_type == libc::F_WRLCK as i16, || "the fcntl lock is gone".into())?;
        ensure(wanted.l_pid == holder.as_raw(), || {
            format!("the fcntl lock is {}'s instead of {holder}'s", wanted.l_pid)
        })?;
        match try_flock(&flock) {
            Err(Errno::EWOULDBLOCK) => Ok(()),
            other => Err(format!("the flock was given to a second one: {other:?}")),
        }
    };
    Ok(Box::new(turn))
}

fn hold(posix: &PathBuf, flock: &PathBuf, mut tell: File) -> Result<(), String> {
    let (posix, flock) = (open(posix)?, open(flock)?);
    fcntl(&posix, FcntlArg::F_SETLK(&write_lock())).map_err(failed("F_SETLK"))?;
    try_flock(&flock).map_err(failed("flock"))?;
    std::io::Write::write_all(&mut tell, b"held").map_err(failed("tell"))?;
    loop {
        nix::unistd::pause();
    }
}

fn open(path: &PathBuf) -> Result<File, String> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed("lock file"))
}

fn write_lock() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 10, l_len: 100, l_pid: 0 }
}

fn try_flock(file: &File) -> nix::Result<()> {
    // SAFETY: flock(2) on an open file.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}
