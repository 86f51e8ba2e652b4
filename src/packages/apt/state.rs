//! Whether dpkg is in a state to change anything: finished with what it did last, and free.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::super::error::Result;
use super::super::problem::{Holder, Problem};
use super::installed::{InstalledPackages, installed};

/// Locks that are held while packages are changed: by apt and other front ends, by dpkg itself, and by whoever fetches
/// into apt's own cache.
const LOCKS: &[&str] = &["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/cache/apt/archives/lock"];

/// What dpkg has noted of a run that has not ended; see lib/dpkg/dbmodify.c.
const UPDATES: &str = "/var/lib/dpkg/updates";

/// Everything that speaks against changing `packages`.
pub(super) fn problems(packages: &[String]) -> Result<Vec<Problem>> {
    let mut found: Vec<_> = locked().into_iter().collect();
    // Of a manager that is at work just now, everything is half done.
    if found.is_empty() {
        // What it had begun may be half written, and is not read then.
        found.extend(match interrupted(Path::new(UPDATES)) {
            true => Some(Problem::Interrupted),
            false => unfinished(&installed(&[])?),
        });
    }
    let names: Vec<_> = packages.iter().map(String::as_str).collect();
    if !names.is_empty() {
        let held = installed(&names)?.into_iter().filter(|(_, package)| package.held);
        let packages: Vec<_> = held.map(|(name, _)| name).collect();
        found.extend((!packages.is_empty()).then_some(Problem::Held { packages }));
    }
    Ok(found)
}

/// The first lock that somebody holds, if any.
pub(super) fn locked() -> Option<Problem> {
    let held = LOCKS.iter().find_map(|lock| Some((lock, holder(Path::new(lock))?)));
    held.map(|(lock, holder)| Problem::Locked { lock: PathBuf::from(lock), holder })
}

fn interrupted(updates: &Path) -> bool {
    let entries = std::fs::read_dir(updates).into_iter().flatten().flatten();
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_number))
}

fn unfinished(all: &InstalledPackages) -> Option<Problem> {
    let packages: Vec<_> =
        all.iter().filter(|(_, package)| !package.configured).map(|(name, _)| name.clone()).collect();
    (!packages.is_empty()).then_some(Problem::Unfinished { packages })
}

/// Who holds a lock on the file. Asking takes no lock and needs none.
fn holder(path: &Path) -> Option<Holder> {
    let file = File::open(path).ok()?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    while let Err(error) = fcntl(&file, FcntlArg::F_GETLK(&mut lock)) {
        if error != Errno::EINTR {
            return None;
        }
    }
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return None;
    }
    // The kernel answers 0 for a process that this pid namespace does not see, and -1 for a lock of no single process.
    let pid = (lock.l_pid > 0).then_some(lock.l_pid);
    let program = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    Some(Holder { pid, program: program.unwrap_or_default().trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::installed::Installed;
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn who_holds_a_lock_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "").unwrap();
        assert_eq!(holder(&path), None);
        // perl has fcntl, and every host with dpkg has perl.
        let script = r#"use Fcntl; open(F, ">", $ARGV[0]) or die; my $l = pack("s s x4 q q l x4", F_WRLCK, 0, 0, 0, 0);
            fcntl(F, F_SETLK, $l) or die; $| = 1; print "held\n"; <STDIN>;"#;
        let mut child = Command::new("perl")
            .args(["-e", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "held\n");
        assert_eq!(holder(&path), Some(Holder { pid: Some(child.id() as i32), program: "perl".into() }));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(holder(&path), None);
        assert_eq!(holder(&dir.path().join("nonesuch")), None);
    }

    #[test]
    fn an_interrupted_dpkg_is_seen_by_what_it_left() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!interrupted(dir.path()) && !interrupted(Path::new("/nonesuch")));
        std::fs::write(dir.path().join("tmp.i"), "").unwrap();
        assert!(!interrupted(dir.path()));
        std::fs::write(dir.path().join("0003"), "").unwrap();
        assert!(interrupted(dir.path()));
    }

    #[test]
    fn packages_that_are_not_configured_are_named() {
        let package = |configured| Installed {
            version: "1".into(),
            architecture: "amd64".into(),
            held: false,
            configured,
            torn: false,
            to_go: false,
            bytes: 0,
        };
        let all = InstalledPackages::from([("runc".into(), package(false)), ("libc6".into(), package(true))]);
        assert_eq!(unfinished(&all), Some(Problem::Unfinished { packages: vec!["runc".into()] }));
    }
}
