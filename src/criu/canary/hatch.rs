//! Bringing a canary into the world: namespaces, a connection to it, and its seed.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, clone, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::error::CanaryError;
use super::state::{ARGUMENT, FAILED, LISTENER_FD, READY, SEED};
use crate::criu::netns::on_thread;
use crate::criu::swrk::{kill_by_pidfd, open_pidfd};

/// How long the canary may take to answer.
pub(super) const TALK_LIMIT: Duration = Duration::from_secs(20);

/// A canary that lives; ended and waited for when dropped.
#[derive(Debug)]
pub(super) struct Canary {
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl Canary {
    /// Takes charge of our child `pid`.
    pub fn adopt(pid: i32) -> io::Result<Self> {
        Ok(Self { pid: Pid::from_raw(pid), pidfd: open_pidfd(pid as u32)? })
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        kill_by_pidfd(self.pidfd.as_fd());
        // As the first process of its pid namespace it takes all others with it, and ends after them.
        let _ = waitpid(self.pid, None);
    }
}

/// Starts a canary in its own namespaces, with a connection to it.
pub(super) fn hatch(own_exe: &Path, lock: &Path) -> Result<(Canary, TcpStream, SocketAddr), CanaryError> {
    let network = |source| CanaryError::Network { source };
    let prepared = || -> io::Result<(TcpListener, TcpStream, SocketAddr)> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        loopback_up()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        // Taken by the kernel at once and by the canary when it accepts: nothing to wait for, nothing to miss.
        let control = TcpStream::connect(address)?;
        limit_talk(&control)?;
        Ok((listener, control, address))
    };
    // On a thread of its own, so that only that thread changes its network namespace; its child is born into it.
    on_thread(|| {
        let (listener, control, address) = prepared().map_err(network)?;
        let canary = spawn(own_exe, lock, &listener)
            .map_err(|source| CanaryError::Hatch { program: own_exe.to_path_buf(), source })?;
        Ok((canary, control, address))
    })
}

fn spawn(own_exe: &Path, lock: &Path, listener: &TcpListener) -> io::Result<Canary> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let program = text(own_exe.as_os_str().as_bytes())?;
    let arguments = [program.clone(), text(ARGUMENT.as_bytes())?, text(lock.as_os_str().as_bytes())?];
    let argv: Vec<*const libc::c_char> =
        arguments.iter().map(|argument| argument.as_ptr()).chain([std::ptr::null()]).collect();
    let environment = [std::ptr::null::<libc::c_char>()];
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // Out of the way of the numbers that they are put on: dup2 onto itself would leave close-on-exec set.
    let null = above(null.as_fd(), LISTENER_FD)?;
    let listener = above(listener.as_fd(), LISTENER_FD)?;
    let (null_fd, listener_fd) = (null.as_raw_fd(), listener.as_raw_fd());
    let child = move || -> isize {
        // SAFETY: only async-signal-safe calls, on memory that was made before; other threads' locks are not touched.
        unsafe {
            if libc::dup2(listener_fd, LISTENER_FD) < 0 {
                return 126;
            }
            for standard in 0..3 {
                libc::dup2(null_fd, standard);
            }
            libc::syscall(libc::SYS_close_range, LISTENER_FD + 1, u32::MAX, 0);
            libc::setsid();
            libc::chdir(c"/".as_ptr());
            libc::execve(argv[0], argv.as_ptr(), environment.as_ptr());
        }
        127
    };
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    let mut stack = vec![0; 256 * 1024];
    // SAFETY: without CLONE_VM the child has its own copy of the stack and of everything else.
    let pid = unsafe { clone(Box::new(child), &mut stack, flags, Some(libc::SIGCHLD)) }?;
    Canary::adopt(pid.as_raw()).inspect_err(|_| {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = waitpid(pid, None);
    })
}

/// A second descriptor of the same file, with a number greater than `number`.
fn above(fd: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(number + 1))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Gives the canary its seed, waits until it has everything, and takes leave of it.
pub(super) fn prepare(mut control: TcpStream, seed: u64) -> Result<(), CanaryError> {
    let prepare = |source| CanaryError::Prepare { source };
    let mut talk = || -> io::Result<Result<(), String>> {
        control.write_all(&[SEED])?;
        control.write_all(&seed.to_le_bytes())?;
        let mut kind = [0];
        control.read_exact(&mut kind)?;
        if kind == [FAILED] {
            let mut said = String::new();
            (&control).take(1000).read_to_string(&mut said)?;
            return Ok(Err(said));
        }
        if kind != [READY] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        control.shutdown(Shutdown::Write)?;
        // Its end of the connection is closed once we see the end, so it is not in the dump.
        control.read_to_end(&mut Vec::new())?;
        Ok(Ok(()))
    };
    talk().map_err(prepare)?.map_err(|said| CanaryError::Gather { said })
}

pub(super) fn limit_talk(control: &TcpStream) -> io::Result<()> {
    control.set_read_timeout(Some(TALK_LIMIT))?;
    control.set_write_timeout(Some(TALK_LIMIT))
}

/// Brings `lo` up in the calling thread's network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
