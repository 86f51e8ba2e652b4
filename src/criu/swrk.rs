//! CRIU's process: one `criu swrk` for one request, with a deadline, and never left behind.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use protobuf::{EnumOrUnknown, Message};
use rust_criu::rust_criu_protobuf::rpc::{Criu_req, Criu_req_type, Criu_resp};

use super::error::{CriuError, MAX_MESSAGE};
use super::log::{self, LogExcerpt};

/// How long requests that only ask something may take. CRIU tries out the whole kernel first, which is slow on a busy host.
const QUERY_LIMIT: Duration = Duration::from_secs(60);

/// What is asked, and what is needed to tell of its failure.
pub(super) struct Request {
    pub name: &'static str,
    pub message: Criu_req,
    /// The log that CRIU writes by this request, whose last lines go with a failure.
    pub log: Option<PathBuf>,
    pub limit: Duration,
}

impl Request {
    pub fn new(name: &'static str, kind: Criu_req_type) -> Self {
        let mut message = Criu_req::new();
        message.type_ = Some(EnumOrUnknown::new(kind));
        Self { name, message, log: None, limit: QUERY_LIMIT }
    }

    fn excerpt(&self) -> LogExcerpt {
        self.log.as_deref().map(log::excerpt).unwrap_or_default()
    }
}

/// CRIU's process; killed and waited for when dropped.
pub(super) struct Worker {
    child: Child,
    pidfd: OwnedFd,
    socket: OwnedFd,
    deadline: Instant,
}

impl Worker {
    pub fn start(program: &Path, request: &Request, inherited: &[RawFd]) -> Result<Self, CriuError> {
        let failed =
            |source: io::Error| CriuError::Start { program: program.to_path_buf(), request: request.name, source };
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| failed(errno.into()))?;
        let kept: Vec<RawFd> = inherited.iter().copied().chain([theirs.as_raw_fd()]).collect();
        let mut command = Command::new(program);
        command.args(["swrk", &theirs.as_raw_fd().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe.
        unsafe { command.pre_exec(move || kept.iter().try_for_each(|fd| keep_over_exec(*fd))) };
        let mut child = command.spawn().map_err(failed)?;
        let pidfd = match open_pidfd(child.id()) {
            Ok(pidfd) => pidfd,
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(source));
            }
        };
        Ok(Self { child, pidfd, socket: ours, deadline: Instant::now() + request.limit })
    }

    pub fn send(&self, message: &Criu_req, request: &'static str) -> Result<(), CriuError> {
        let bytes = message.write_to_bytes().map_err(|source| CriuError::Encode { request, source })?;
        match sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&bytes)], &[], MsgFlags::MSG_NOSIGNAL, None) {
            // A CRIU that has ended is told of by the receive that follows, with its exit status.
            Ok(_) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(CriuError::Talk { request, source: errno.into() }),
        }
    }

    /// The next message, with the file descriptor that came with it.
    pub fn receive(&mut self, request: &Request) -> Result<(Criu_resp, Option<OwnedFd>), CriuError> {
        let talk = |source: io::Error| CriuError::Talk { request: request.name, source };
        // CRIU's end counts by itself: its helpers may hold the other end of the socket for longer.
        let ready = wait_any([self.socket.as_fd(), self.pidfd.as_fd()], self.deadline).map_err(talk)?;
        let Some([message, _]) = ready else {
            self.end();
            return Err(CriuError::TimedOut { request: request.name, limit: request.limit, log: request.excerpt() });
        };
        if !message {
            return Err(self.died(request)?);
        }
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, truncated, fd) = receive_packet(self.socket.as_fd(), &mut buffer).map_err(talk)?;
        if truncated {
            return Err(CriuError::Oversized { request: request.name });
        }
        if length == 0 {
            return Err(self.died(request)?);
        }
        Criu_resp::parse_from_bytes(&buffer[..length])
            .map(|answer| (answer, fd))
            .map_err(|source| CriuError::Decode { request: request.name, source })
    }

    fn died(&mut self, request: &Request) -> Result<CriuError, CriuError> {
        let status = self.wait_exit().map_err(|source| CriuError::Talk { request: request.name, source })?;
        Ok(CriuError::Died { request: request.name, status, log: request.excerpt() })
    }

    /// Waits for CRIU's end and tells success from failure.
    pub fn conclude(&mut self, request: &Request, answer: Criu_resp) -> Result<Criu_resp, CriuError> {
        let status = self.wait_exit().map_err(|source| CriuError::Talk { request: request.name, source })?;
        let failed = |message: String| CriuError::Failed {
            request: request.name,
            message,
            errno: answer.cr_errno(),
            log: request.excerpt(),
        };
        if !answer.success() {
            return Err(failed(said(&answer, &request.excerpt())));
        }
        if answer.type_() != request.message.type_() {
            let answer = format!("{:?}", answer.type_());
            return Err(CriuError::WrongAnswer { request: request.name, answer });
        }
        if !status.success() {
            return Err(failed(format!("it reported success, then ended with {status}")));
        }
        Ok(answer)
    }

    /// Waits for CRIU's end; kills it at the deadline.
    pub fn wait_exit(&mut self) -> io::Result<ExitStatus> {
        if wait_any([self.pidfd.as_fd()], self.deadline)?.is_none() {
            kill_by_pidfd(self.pidfd.as_fd());
        }
        self.child.wait()
    }

    fn end(&mut self) {
        kill_by_pidfd(self.pidfd.as_fd());
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A child that was waited for already makes both of these a no-op.
        self.end();
    }
}

/// Why CRIU failed, by its own account.
fn said(answer: &Criu_resp, log: &LogExcerpt) -> String {
    let message = answer.cr_errmsg().trim();
    if message.is_empty() || log::is_harmless(message) {
        return log.first_error().unwrap_or("no message").to_owned();
    }
    message.to_owned()
}

fn keep_over_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open in the parent for as long as the child has not executed.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop).map_err(io::Error::from)
}

/// A pidfd of `pid`, which must be a child that was not waited for yet (so that the number cannot be another's).
pub(crate) fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// SIGKILL to the process of `pidfd`; one that has ended already is left alone.
pub(crate) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means the same as kill(2) would send.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, info, 0);
    }
}

/// Waits until one of `fds` has something to read or has ended, and tells which; `None` when the deadline came first.
fn wait_any<const N: usize>(fds: [BorrowedFd<'_>; N], deadline: Instant) -> io::Result<Option<[bool; N]>> {
    let mut wanted = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a wait of less than a millisecond must not become a busy loop.
        let timeout = libc::c_int::try_from(left.as_millis() + 1).unwrap_or(libc::c_int::MAX);
        // SAFETY: N pollfds, which outlive the call.
        match unsafe { libc::poll(wanted.as_mut_ptr(), N as libc::nfds_t, timeout) } {
            0 if left.is_zero() => return Ok(None),
            0 => {}
            1.. => return Ok(Some(wanted.map(|one| one.revents != 0))),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

fn receive_packet(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, bool, Option<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            // A peer that dies with our request unread resets the connection: that is its end, too.
            Err(Errno::ECONNRESET) => return Ok((0, false, None)),
            other => break other?,
        }
    };
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just installed this descriptor for us; it is owned from here on.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC), received))
}
