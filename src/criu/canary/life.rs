//! The canary's life from outside: hatch it, dump it, restore it, ask it, end it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, clone, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rust_criu::rust_criu_protobuf::rpc::Criu_cg_mode;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::state::{ARGUMENT, FAILED, Findings, LISTENER_FD, READY, SEED, TELL};
use crate::criu::images::{DumpStats, ImageError, RestoreStats};
use crate::criu::log::LogExcerpt;
use crate::criu::netns::{in_netns, on_thread};
use crate::criu::rpc::{Criu, CriuError, Options, Version};
use crate::criu::swrk::{kill_by_pidfd, open_pidfd};

/// How long each of CRIU's two runs may take.
const CRIU_LIMIT: Duration = Duration::from_secs(60);
/// How long the canary may take to answer.
const TALK_LIMIT: Duration = Duration::from_secs(20);
/// Limit for deleted files that are still open, in bytes; the canary has none, but goes the containers' way.
const GHOST_LIMIT: u32 = 1 << 30;

/// What the canary's freezing cost on this host. Times in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryReport {
    pub criu: Version,
    /// CRIU's own count of a dump: from the first task seized to the tasks' end.
    pub freeze_us: u64,
    /// The dump from CRIU's start to its end.
    pub dump_us: u64,
    /// The restore from CRIU's start to its end.
    pub restore_us: u64,
    /// From the dump's start to the canary's first answer.
    pub away_us: u64,
    /// All image files together, in bytes.
    pub image_bytes: u64,
    pub dump: DumpStats,
    pub restore: RestoreStats,
}

/// Why the canary did not live through it; each name tells how far it came.
#[derive(Debug, Error)]
pub enum CanaryError {
    #[error("cannot make the canary's directory in {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a network namespace for the canary")]
    Network {
        #[source]
        source: io::Error,
    },
    #[error("cannot start {} as the canary", program.display())]
    Hatch {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the canary does not answer before its dump")]
    Prepare {
        #[source]
        source: io::Error,
    },
    #[error("the canary could not gather what it is to carry: {said}")]
    Gather { said: String },
    #[error("CRIU is not usable")]
    Criu {
        #[source]
        source: CriuError,
    },
    #[error("the canary cannot be dumped on this host")]
    Dump {
        #[source]
        source: CriuError,
    },
    #[error("the canary cannot be restored on this host")]
    Restore {
        #[source]
        source: CriuError,
    },
    #[error("CRIU left no statistics of the canary")]
    Statistics {
        #[source]
        source: ImageError,
    },
    #[error("the canary was restored, yet does not answer")]
    Silent {
        #[source]
        source: io::Error,
    },
    #[error("the canary was restored, yet {what}")]
    Changed { what: String },
    #[error("the canary's directory {} cannot be removed", path.display())]
    CleanUp {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl CanaryError {
    /// The telling lines of CRIU's log, where CRIU failed.
    pub fn log(&self) -> Option<&LogExcerpt> {
        match self {
            Self::Criu { source } | Self::Dump { source } | Self::Restore { source } => {
                source.log()
            }
            _ => None,
        }
    }
}

/// Dumps and restores a canary with the CRIU in `PATH`. See [`run_with`].
pub fn run(own_exe: &Path, workdir: &Path) -> Result<CanaryReport, CanaryError> {
    let criu = Criu::in_path().map_err(|source| CanaryError::Criu { source })?;
    run_with(&criu, own_exe, workdir, None)
}

/// Dumps and restores a canary with `criu`.
///
/// `own_exe` is a program that calls [`super::canary_main`] when its first argument is `canary`. Images lie in a
/// new directory below `workdir` until this returns. `config_file` is a CRIU configuration file that runc's
/// checkpoints use as well (`/etc/criu/runc.conf`); its settings win over ours. Takes about half a second, and
/// changes nothing outside of `workdir`.
pub fn run_with(
    criu: &Criu,
    own_exe: &Path,
    workdir: &Path,
    config_file: Option<&Path>,
) -> Result<CanaryReport, CanaryError> {
    let directory = tempfile::Builder::new()
        .prefix("canary-")
        .tempdir_in(workdir)
        .map_err(|source| CanaryError::Directory {
            path: workdir.to_path_buf(),
            source,
        })?;
    let nest = Nest {
        criu,
        directory: directory.path(),
        config_file,
    };
    let outcome = nest.live(own_exe);
    let path = directory.path().to_path_buf();
    let cleaned = directory
        .close()
        .map_err(|source| CanaryError::CleanUp { path, source });
    let report = outcome?;
    cleaned.map(|()| report)
}

/// Where a canary lives.
struct Nest<'a> {
    criu: &'a Criu,
    directory: &'a Path,
    config_file: Option<&'a Path>,
}

impl Nest<'_> {
    fn live(&self, own_exe: &Path) -> Result<CanaryReport, CanaryError> {
        let version = self
            .criu
            .version()
            .map_err(|source| CanaryError::Criu { source })?;
        let seed = fresh_seed();
        let lock = self.lock_file();
        File::create(&lock).map_err(|source| CanaryError::Directory {
            path: lock.clone(),
            source,
        })?;
        let (canary, control, address) = hatch(own_exe, &lock)?;
        prepare(control, seed)?;

        let started = Instant::now();
        let dump_us = self.dump(canary)?;
        let (canary, restore_us) = self.restore()?;
        let first_answer = self.verify(&canary, address, seed)?;
        let away_us = micros(first_answer - started);
        drop(canary);

        let statistics = |source| CanaryError::Statistics { source };
        let dump = DumpStats::read(self.directory).map_err(statistics)?;
        let restore = RestoreStats::read(self.directory).map_err(statistics)?;
        Ok(CanaryReport {
            criu: version,
            freeze_us: dump.freezing_time + dump.frozen_time,
            dump_us,
            restore_us,
            away_us,
            image_bytes: directory_bytes(self.directory),
            dump,
            restore,
        })
    }

    fn lock_file(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// What runc sets for a container, as far as a process without mounts of its own can have it.
    fn options(&self, directory: &File, log: &str) -> Options {
        let mut options = Options::new();
        options.set_images_dir_fd(directory.as_raw_fd());
        options.set_log_level(4);
        options.set_log_file(log.to_owned());
        options.set_tcp_established(true);
        options.set_file_locks(true);
        options.set_ext_unix_sk(true);
        options.set_link_remap(true);
        options.set_ghost_limit(GHOST_LIMIT);
        options.set_orphan_pts_master(true);
        options.set_manage_cgroups_mode(Criu_cg_mode::IGNORE);
        options.set_empty_ns(libc::CLONE_NEWNET as u32);
        options.set_notify_scripts(true);
        if let Some(file) = self.config_file {
            options.set_config_file(file.to_string_lossy().into_owned());
        }
        options
    }

    fn open(&self) -> Result<File, CanaryError> {
        File::open(self.directory).map_err(|source| CanaryError::Directory {
            path: self.directory.to_path_buf(),
            source,
        })
    }

    /// Dumps the canary; its old life has ended when this returns.
    fn dump(&self, canary: Canary) -> Result<u64, CanaryError> {
        let directory = self.open()?;
        let mut options = self.options(&directory, "dump.log");
        options.set_pid(canary.pid.as_raw());
        let started = Instant::now();
        self.criu
            .dump(
                options,
                &self.directory.join("dump.log"),
                CRIU_LIMIT,
                &mut |_| Ok(()),
            )
            .map_err(|source| CanaryError::Dump { source })?;
        Ok(micros(started.elapsed()))
    }

    fn restore(&self) -> Result<(Canary, u64), CanaryError> {
        let directory = self.open()?;
        let mut options = self.options(&directory, "restore.log");
        options.set_rst_sibling(true);
        let mut half_restored = None;
        let started = Instant::now();
        let log = self.directory.join("restore.log");
        let restored = self
            .criu
            .restore(options, &[], &log, CRIU_LIMIT, &mut |notification| {
                if let ("setup-namespaces", Some(pid)) =
                    (notification.stage.as_str(), notification.pid)
                {
                    // From here on there is something to end, should the rest fail.
                    half_restored = Some(Canary::adopt(pid)?);
                    in_netns(pid, loopback_up)?;
                }
                Ok(())
            });
        let elapsed = micros(started.elapsed());
        let pid = restored.map_err(|source| CanaryError::Restore { source })?;
        match half_restored {
            Some(canary) if canary.pid.as_raw() == pid => Ok((canary, elapsed)),
            _ => Canary::adopt(pid)
                .map(|canary| (canary, elapsed))
                .map_err(|source| CanaryError::Silent { source }),
        }
    }

    /// Asks the restored canary for all it has; tells when it began to answer.
    fn verify(
        &self,
        canary: &Canary,
        address: SocketAddr,
        seed: u64,
    ) -> Result<Instant, CanaryError> {
        let number = !seed;
        let silent = |source| CanaryError::Silent { source };
        let connect = || TcpStream::connect_timeout(&address, TALK_LIMIT);
        let mut control = in_netns(canary.pid.as_raw(), connect).map_err(silent)?;
        let mut ask = || -> io::Result<(Instant, Findings)> {
            limit_talk(&control)?;
            control.write_all(&[TELL])?;
            control.write_all(&number.to_le_bytes())?;
            control.read_exact(&mut [0])?;
            Ok((Instant::now(), Findings::read(&mut control)?))
        };
        let (answered, findings) = ask().map_err(silent)?;
        if let Some(what) = findings.difference(seed, number) {
            return Err(CanaryError::Changed { what });
        }
        // While the connection stands: the canary ends with it, and its lock with the canary.
        self.verify_lock()?;
        Ok(answered)
    }

    /// The canary holds a lock on this file; nobody else may get one.
    fn verify_lock(&self) -> Result<(), CanaryError> {
        let file = File::open(self.lock_file()).map_err(|source| CanaryError::Silent { source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => Err(CanaryError::Changed {
                what: "its file lock is gone".to_owned(),
            }),
            Err(_) => Ok(()),
        }
    }
}

/// A canary that lives; ended and waited for when dropped.
#[derive(Debug)]
struct Canary {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Canary {
    /// Takes charge of our child `pid`.
    fn adopt(pid: i32) -> io::Result<Self> {
        Ok(Self {
            pid: Pid::from_raw(pid),
            pidfd: open_pidfd(pid as u32)?,
        })
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
fn hatch(own_exe: &Path, lock: &Path) -> Result<(Canary, TcpStream, SocketAddr), CanaryError> {
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
        let canary = spawn(own_exe, lock, &listener).map_err(|source| CanaryError::Hatch {
            program: own_exe.to_path_buf(),
            source,
        })?;
        Ok((canary, control, address))
    })
}

fn spawn(own_exe: &Path, lock: &Path, listener: &TcpListener) -> io::Result<Canary> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let program = text(own_exe.as_os_str().as_bytes())?;
    let arguments = [
        program.clone(),
        text(ARGUMENT.as_bytes())?,
        text(lock.as_os_str().as_bytes())?,
    ];
    let argv: Vec<*const libc::c_char> = arguments
        .iter()
        .map(|argument| argument.as_ptr())
        .chain([std::ptr::null()])
        .collect();
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
fn prepare(mut control: TcpStream, seed: u64) -> Result<(), CanaryError> {
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
    talk()
        .map_err(prepare)?
        .map_err(|said| CanaryError::Gather { said })
}

fn limit_talk(control: &TcpStream) -> io::Result<()> {
    control.set_read_timeout(Some(TALK_LIMIT))?;
    control.set_write_timeout(Some(TALK_LIMIT))
}

/// Brings `lo` up in the calling thread's network namespace.
fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// No secret: only something that no earlier canary had.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = directory.read_dir() else {
        return 0;
    };
    let images = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "img"));
    images
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
