//! The canary itself: what our own binary does when it is called as one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::unistd::{ForkResult, fork, pipe};

use super::state::{
    BACK, FAILED, Findings, LIFETIME_S, LISTENER_FD, MAX_FLIGHT, MEMORY, PIPE, Place, READY, SEED, TELL, TIMER_NS,
    pattern, read_u64, reply,
};

/// Bounded buffers, so that what is sent soon stays in the sender's queue: the dump then has to take both queues.
/// Well above loopback's segments of 64 KiB, or the connection crawls along its window probes afterwards.
const SOCKET_BUFFER: libc::c_int = 256 * 1024;

/// Runs as the canary. For `transshipd` to call, before anything else, when its first argument is `canary`.
pub fn canary_main() -> ! {
    let lock = std::env::args_os().nth(2).unwrap_or_default();
    end_by_alarm();
    match live(Path::new(&lock)) {
        Ok(()) => std::process::exit(0),
        Err(_) => std::process::exit(1),
    }
}

/// Should whoever started us be killed, nothing else would end us.
fn end_by_alarm() {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: _exit may be called from a signal handler.
        unsafe { libc::_exit(1) }
    }
    // SAFETY: the handler only calls what a handler may. It is needed: the first process of a pid namespace is not
    // ended by a signal's default action.
    unsafe {
        libc::signal(libc::SIGALRM, end as *const () as libc::sighandler_t);
        libc::alarm(LIFETIME_S);
    }
}

fn live(lock: &Path) -> io::Result<()> {
    // SAFETY: whoever started us put the listening socket there; nobody else has it in this process.
    let listener = unsafe { TcpListener::from_raw_fd(LISTENER_FD) };
    // The child first: there is one thread only, and no connection yet that it would hold open.
    let child = start_child()?;
    let (mut control, _) = listener.accept()?;
    let gathered = take_seed(&mut control).and_then(|seed| Belongings::gather(seed, child, &listener, lock));
    let mut belongings = match gathered {
        Ok(belongings) => belongings,
        Err(error) => {
            control.write_all(&[FAILED])?;
            return control.write_all(error.to_string().as_bytes());
        }
    };
    control.write_all(&[READY])?;
    // The other side closes first, so that no connection to it is part of the dump.
    let mut rest = [0];
    if control.read(&mut rest)? != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    drop(control);
    // Here the dump comes, and here life goes on after the restore.
    let (mut control, _) = listener.accept()?;
    let mut asked = [0];
    control.read_exact(&mut asked)?;
    if asked != [TELL] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let number = read_u64(&mut control)?;
    // At once, for this is the end of the time it was away.
    control.write_all(&[READY])?;
    belongings.tell(number)?.write(&mut control)?;
    // The end of this connection is our own.
    let _ = control.read(&mut rest)?;
    Ok(())
}

fn take_seed(control: &mut TcpStream) -> io::Result<u64> {
    let mut kind = [0];
    control.read_exact(&mut kind)?;
    if kind != [SEED] { Err(io::ErrorKind::InvalidData.into()) } else { read_u64(control) }
}

/// Everything that has to be there again after the restore.
struct Belongings {
    memory: Vec<u8>,
    pipe: (OwnedFd, OwnedFd),
    timer: OwnedFd,
    near: TcpStream,
    far: TcpStream,
    flight_sent: usize,
    to_thread: mpsc::Sender<u64>,
    from_thread: mpsc::Receiver<u64>,
    child: UnixStream,
    _lock: Flock<File>,
}

impl Belongings {
    fn gather(seed: u64, mut child: UnixStream, listener: &TcpListener, lock: &Path) -> io::Result<Self> {
        child.write_all(&seed.to_le_bytes())?;
        let (to_thread, from_thread) = start_thread(seed);
        let ends = pipe()?;
        File::from(ends.1.try_clone()?).write_all(&pattern(seed, Place::Pipe, PIPE))?;
        let (near, far) = connect(listener)?;
        let flight_sent = fill(&near, &pattern(seed, Place::Flight, MAX_FLIGHT))?;
        (&far).write_all(&pattern(seed, Place::Back, BACK))?;
        let lock = Flock::lock(File::open(lock)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        Ok(Self {
            memory: pattern(seed, Place::Memory, MEMORY),
            pipe: ends,
            timer: start_timer()?,
            near,
            far,
            flight_sent,
            to_thread,
            from_thread,
            child,
            _lock: lock,
        })
    }

    fn tell(&mut self, number: u64) -> io::Result<Findings> {
        let gone = |_| io::Error::other("the second thread is gone");
        self.to_thread.send(number).map_err(|_| io::Error::other("the second thread is gone"))?;
        self.child.write_all(&number.to_le_bytes())?;
        let mut pipe = vec![0; PIPE];
        File::from(self.pipe.0.try_clone()?).read_exact(&mut pipe)?;
        let mut flight = vec![0; self.flight_sent];
        self.far.read_exact(&mut flight)?;
        let mut back = vec![0; BACK];
        self.near.read_exact(&mut back)?;
        Ok(Findings {
            timer_ns: timer_left(&self.timer)?,
            thread: self.from_thread.recv().map_err(gone)?,
            child: read_u64(&mut self.child)?,
            flight_sent: self.flight_sent as u64,
            pipe,
            flight,
            back,
            memory: std::mem::take(&mut self.memory),
        })
    }
}

/// A child process that is told the seed over a unix socket, then answers there until that ends.
fn start_child() -> io::Result<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair()?;
    // SAFETY: this process has a single thread so far, so the child may do what it likes.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(ours),
        ForkResult::Child => {
            drop(ours);
            let Ok(seed) = read_u64(&mut theirs) else { std::process::exit(1) };
            while let Ok(number) = read_u64(&mut theirs) {
                if theirs.write_all(&reply(seed, 2, number).to_le_bytes()).is_err() {
                    break;
                }
            }
            std::process::exit(0)
        }
    }
}

fn start_thread(seed: u64) -> (mpsc::Sender<u64>, mpsc::Receiver<u64>) {
    let (to_thread, requests) = mpsc::channel();
    let (answers, from_thread) = mpsc::channel();
    std::thread::spawn(move || {
        for number in requests {
            if answers.send(reply(seed, 1, number)).is_err() {
                break;
            }
        }
    });
    (to_thread, from_thread)
}

/// Both ends of a connection to ourselves.
fn connect(listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    set_buffer(&near, libc::SO_SNDBUF)?;
    set_buffer(&far, libc::SO_RCVBUF)?;
    Ok((near, far))
}

fn set_buffer(socket: &TcpStream, option: libc::c_int) -> io::Result<()> {
    let size = SOCKET_BUFFER;
    let length = size_of_val(&size) as libc::socklen_t;
    // SAFETY: value and length describe a c_int that outlives the call.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const size).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends until nothing more is taken; tells how much was.
fn fill(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    socket.set_nonblocking(true)?;
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    socket.set_nonblocking(false)?;
    Ok(sent)
}

fn start_timer() -> io::Result<OwnedFd> {
    // SAFETY: plain system call without pointers.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let timer = unsafe { OwnedFd::from_raw_fd(fd) };
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::timespec { tv_sec: (TIMER_NS / 1_000_000_000) as libc::time_t, tv_nsec: 0 };
    let setting = libc::itimerspec { it_interval: none, it_value: value };
    // SAFETY: `setting` outlives the call; a null old value is allowed.
    if unsafe { libc::timerfd_settime(fd, 0, &setting, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(timer)
}

fn timer_left(timer: &OwnedFd) -> io::Result<u64> {
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut setting = libc::itimerspec { it_interval: none, it_value: none };
    // SAFETY: `setting` is a place for what the kernel writes.
    if unsafe { libc::timerfd_gettime(timer.as_raw_fd(), &mut setting) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(setting.it_value.tv_sec as u64 * 1_000_000_000 + setting.it_value.tv_nsec as u64)
}
