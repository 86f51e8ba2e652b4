//! What share of the processors goes to those who bring containers away and back.
//!
//! Under systemd, every container's scope weighs as much as docker.service or containerd.service, and CRIU, runc and the shims
//! run in these two. Where ten containers keep the processors busy, all of these together have a tenth of them, and a
//! container is away for as many times longer. So while somebody is away these services, and the helper's, weigh more
//! (`cpu.weight` of kernel: `Documentation/admin-guide/cgroup-v2.rst`, `cpu.shares` of its predecessor).
//!
//! The weights are the host's. They are raised for as long as somebody asks for it, and put back after; a note in `/run` tells
//! the next helper of what could not be.

use super::containerd;
use crate::process::Cgroups;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is raised just now, and what it was.
const NOTE: &str = "/run/transship/weights.json";

/// So many containers with the usual weight that have work for all processors leave each of the services half of them.
const TIMES: u64 = 10;

/// The weights, and for how many they are raised.
#[derive(Debug)]
pub struct Weights {
    files: fn() -> Vec<Weight>,
    note: PathBuf,
    is_wanted: bool,
    holders: Mutex<Holders>,
}

/// The file that holds a cgroup's weight.
#[derive(Debug, PartialEq, Eq)]
struct Weight {
    file: PathBuf,
    most: u64,
}

#[derive(Debug, Default)]
struct Holders {
    count: usize,
    raised: BTreeMap<PathBuf, Raised>,
}

/// What one was, and what it is by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Raised {
    from: u64,
    to: u64,
}

/// The services weigh more until this is dropped.
#[derive(Debug)]
#[must_use = "the services weigh what they did when it is dropped"]
pub struct Heavier {
    weights: Arc<Weights>,
}

impl Weights {
    /// Nothing is changed yet, nor ever if it is not wanted.
    pub fn of_this_host(is_wanted: bool) -> Arc<Self> {
        Arc::new(Self { files: of_the_services, note: NOTE.into(), is_wanted, holders: Mutex::default() })
    }

    /// Raises the services' weights until the answer, and those of others who asked, are dropped. Where that cannot be all goes
    /// on as well, and slower on a busy host.
    pub fn raise(self: &Arc<Self>) -> Heavier {
        let mut holders = self.holders();
        holders.count += 1;
        // Each time: the services may have been restarted meanwhile, and have new cgroups.
        if self.is_wanted
            && let Err(error) = self.raise_all(&mut holders.raised)
        {
            tracing::debug!(%error, "the services' weights stay as they are");
        }
        Heavier { weights: Arc::clone(self) }
    }

    /// Puts back what a helper that was killed has left raised (I5).
    pub fn sweep(&self) -> io::Result<()> {
        match std::fs::read(&self.note) {
            Ok(note) => self.put_back(&mut serde_json::from_slice(&note)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn raise_all(&self, raised: &mut BTreeMap<PathBuf, Raised>) -> io::Result<()> {
        let mut to_raise = BTreeMap::new();
        for Weight { file, most } in (self.files)() {
            let from = read(&file)?;
            let to = from.saturating_mul(TIMES).min(most);
            if from < to && raised.get(&file).is_none_or(|raised| raised.to != from) {
                to_raise.insert(file, Raised { from, to });
            }
        }
        if to_raise.is_empty() {
            return Ok(());
        }
        let all: BTreeMap<_, _> = raised.iter().chain(&to_raise).collect();
        let new = self.note.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&all)?)?;
        std::fs::rename(new, &self.note)?;
        raised.extend(to_raise.clone());
        to_raise.into_iter().try_for_each(|(file, raised)| std::fs::write(file, raised.to.to_string()))
    }

    /// Those that could not be stay in `raised`, and in the note.
    fn put_back(&self, raised: &mut BTreeMap<PathBuf, Raised>) -> io::Result<()> {
        let mut failed = Ok(());
        raised.retain(|file, raised| match lower(file, *raised) {
            Err(error) => {
                failed = Err(error);
                true
            }
            Ok(()) => false,
        });
        failed.and_then(|()| std::fs::remove_file(&self.note))
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Heavier {
    fn drop(&mut self) {
        let mut holders = self.weights.holders();
        holders.count -= 1;
        if holders.count > 0 {
            return;
        }
        if !holders.raised.is_empty()
            && let Err(error) = self.weights.put_back(&mut holders.raised)
        {
            tracing::error!(%error, "the services' weights could not be put back, which is tried again next time");
        }
    }
}

/// Who has changed it meanwhile has it as they want it.
fn lower(file: &Path, raised: Raised) -> io::Result<()> {
    let lowered = read(file).and_then(|now| match now == raised.to {
        true => std::fs::write(file, raised.from.to_string()),
        false => Ok(()),
    });
    match lowered {
        // A service that was restarted has taken its cgroup away: the file is gone, or is no more while it is written.
        Err(_) if !file.exists() => Ok(()),
        other => other,
    }
}

fn read(file: &Path) -> io::Result<u64> {
    std::fs::read_to_string(file)?.trim().parse().map_err(|_| ErrorKind::InvalidData.into())
}

/// Of dockerd, containerd with its shims, and the helper itself.
fn of_the_services() -> Vec<Weight> {
    let own = i32::try_from(std::process::id()).ok();
    let cgroups = [containerd::pid_of_dockerd(), containerd::pid(), own].into_iter().flatten().filter_map(Cgroups::of);
    let mut weights: Vec<Weight> = Vec::new();
    for weight in cgroups.filter_map(|cgroups| Weight::of(&cgroups, Path::new("/sys/fs/cgroup"))) {
        if !weights.contains(&weight) {
            weights.push(weight);
        }
    }
    weights
}

impl Weight {
    /// None where the processors are not shared out by cgroup, or it is the root, which shares with nobody.
    fn of(cgroups: &Cgroups, mounted: &Path) -> Option<Self> {
        let below = |hierarchy: PathBuf, controller| {
            let path = cgroups.path(controller).filter(|path| !path.is_empty())?;
            Some(hierarchy.join(path))
        };
        let v1 =
            below(mounted.join("cpu"), "cpu").map(|cgroup| Self { file: cgroup.join("cpu.shares"), most: 262_144 });
        let v2 = below(mounted.into(), "").map(|cgroup| Self { file: cgroup.join("cpu.weight"), most: 10_000 });
        v1.or(v2).filter(|weight| weight.file.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local! {
        static FILES: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    struct Host {
        dir: tempfile::TempDir,
        weights: Arc<Weights>,
    }

    /// One whose services have these weights.
    fn host(weights: &[(&str, u64)], is_wanted: bool) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("note");
        let host = Host { dir, weights: Arc::new(Weights { files, note, is_wanted, holders: Mutex::default() }) };
        weights.iter().for_each(|(service, weight)| host.set(service, *weight));
        FILES.set(weights.iter().map(|(service, _)| host.file(service)).collect());
        host
    }

    fn files() -> Vec<Weight> {
        FILES.with_borrow(|files| files.iter().map(|file| Weight { file: file.clone(), most: 10_000 }).collect())
    }

    impl Host {
        fn file(&self, service: &str) -> PathBuf {
            self.dir.path().join(service)
        }

        fn set(&self, service: &str, weight: u64) {
            std::fs::write(self.file(service), format!("{weight}\n")).unwrap();
        }

        fn weight(&self, service: &str) -> u64 {
            read(&self.file(service)).unwrap()
        }
    }

    #[test]
    fn i5_they_are_raised_for_as_long_as_anybody_asks_and_not_longer() {
        let host = host(&[("docker", 100), ("containerd", 5000)], true);
        let (first, second) = (host.weights.raise(), host.weights.raise());
        assert_eq!((host.weight("docker"), host.weight("containerd")), (1000, 10_000));
        drop(first);
        assert_eq!(host.weight("docker"), 1000);
        drop(second);
        assert_eq!((host.weight("docker"), host.weight("containerd")), (100, 5000));
        assert!(!host.weights.note.exists());
    }

    #[test]
    fn i5_what_was_changed_meanwhile_stays_so() {
        let host = host(&[("docker", 100)], true);
        let raised = host.weights.raise();
        host.set("docker", 300);
        drop(raised);
        assert_eq!(host.weight("docker"), 300);
    }

    #[test]
    fn a_service_that_was_restarted_is_raised_by_the_next_who_asks() {
        let host = host(&[("docker", 100), ("containerd", 100)], true);
        let first = host.weights.raise();
        std::fs::remove_file(host.file("containerd")).unwrap();
        host.set("docker", 100);
        FILES.with_borrow_mut(|files| files.truncate(1));
        let second = host.weights.raise();
        assert_eq!(host.weight("docker"), 1000);
        drop((first, second));
        assert_eq!(host.weight("docker"), 100);
        assert!(!host.weights.note.exists());
    }

    #[test]
    fn i5_the_next_helper_puts_back_what_a_killed_one_left() {
        let host = host(&[("docker", 100)], true);
        std::mem::forget(host.weights.raise());
        host.weights.sweep().unwrap();
        assert_eq!(host.weight("docker"), 100);
        host.weights.sweep().unwrap();
    }

    #[test]
    fn i5_one_that_cannot_be_put_back_keeps_no_other_from_it_and_is_tried_again() {
        let host = host(&[("containerd", 100), ("docker", 100)], true);
        let raised = host.weights.raise();
        std::fs::write(host.file("containerd"), "no number").unwrap();
        drop(raised);
        assert_eq!(host.weight("docker"), 100);
        host.set("containerd", 1000);
        host.weights.sweep().unwrap();
        assert_eq!(host.weight("containerd"), 100);
    }

    #[test]
    fn who_does_not_want_it_has_them_left_alone() {
        let host = host(&[("docker", 100)], false);
        let asked = host.weights.raise();
        assert_eq!(host.weight("docker"), 100);
        drop(asked);
    }
}
