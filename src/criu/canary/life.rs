//! The canary's life from outside: it is dumped, restored, asked and ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use rust_criu::rust_criu_protobuf::rpc::Criu_cg_mode;
use serde::{Deserialize, Serialize};

use super::error::CanaryError;
use super::hatch::{Canary, TALK_LIMIT, hatch, limit_talk, loopback_up, prepare};
use super::state::{Findings, TELL};
use crate::criu::images::{DumpStats, RestoreStats};
use crate::criu::netns::in_netns;
use crate::criu::rpc::{Criu, Options, Version};

/// How long each of CRIU's two runs may take.
const CRIU_LIMIT: Duration = Duration::from_secs(60);
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
        .map_err(|source| CanaryError::Directory { path: workdir.to_path_buf(), source })?;
    let nest = Nest { criu, directory: directory.path(), config_file };
    let outcome = nest.live(own_exe);
    let path = directory.path().to_path_buf();
    let cleaned = directory.close().map_err(|source| CanaryError::CleanUp { path, source });
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
        let version = self.criu.version().map_err(|source| CanaryError::Criu { source })?;
        let seed = fresh_seed();
        let lock = self.lock_file();
        File::create(&lock).map_err(|source| CanaryError::Directory { path: lock.clone(), source })?;
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
        File::open(self.directory)
            .map_err(|source| CanaryError::Directory { path: self.directory.to_path_buf(), source })
    }

    /// Dumps the canary; its old life has ended when this returns.
    fn dump(&self, canary: Canary) -> Result<u64, CanaryError> {
        let directory = self.open()?;
        let mut options = self.options(&directory, "dump.log");
        options.set_pid(canary.pid.as_raw());
        let started = Instant::now();
        self.criu
            .dump(options, &self.directory.join("dump.log"), CRIU_LIMIT, &mut |_| Ok(()))
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
        let restored = self.criu.restore(options, &[], &log, CRIU_LIMIT, &mut |notification| {
            if let ("setup-namespaces", Some(pid)) = (notification.stage.as_str(), notification.pid) {
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
            _ => Canary::adopt(pid).map(|canary| (canary, elapsed)).map_err(|source| CanaryError::Silent { source }),
        }
    }

    /// Asks the restored canary for all it has; tells when it began to answer.
    fn verify(&self, canary: &Canary, address: SocketAddr, seed: u64) -> Result<Instant, CanaryError> {
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
            Ok(_) => Err(CanaryError::Changed { what: "its file lock is gone".to_owned() }),
            Err(_) => Ok(()),
        }
    }
}

/// No secret: only something that no earlier canary had.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = directory.read_dir() else {
        return 0;
    };
    let images = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "img"));
    images.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
