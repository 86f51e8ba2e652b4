//! Keeps packages from starting, stopping or restarting services while they are installed.
//!
//! Debian asks `/usr/sbin/policy-rc.d` before a package's script acts on a service, and 101 means no. invoke-rc.d(8)
//! asks it, and so does deb-systemd-invoke(1p), through which scripts act where systemd runs. A script that calls
//! `systemctl` itself is not kept from anything; those of the engine's packages do not.
//!
//! What was at that place is saved first and put back exactly. The saved record decides: while it is there, putting
//! back is due.

use serde::{Deserialize, Serialize};
use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::error::{PackageError, Result};

/// The place that invoke-rc.d and deb-systemd-invoke look at.
pub(super) const POLICY: &str = "/usr/sbin/policy-rc.d";

const DENY_ALL: &str = "\
#!/bin/sh
# Put here by transship while it changes packages. It goes when that is done.
exit 101
";

const RECORD: &str = "policy-rc.d.json";
const CONTENT: &str = "policy-rc.d.content";

/// What was found at the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Found {
    Nothing,
    Link { target: PathBuf },
    File { mode: u32, user: u32, group: u32, modified_seconds: i64, modified_nanoseconds: i64 },
}

/// Saves what is at `place` under `saved`, then puts a policy there that denies everything.
pub(super) fn defer(place: &Path, saved: &Path) -> Result<()> {
    if load(place, saved)?.is_none() {
        save(place, saved)?;
    }
    let write = || -> io::Result<()> {
        let temporary = temporary(place);
        write_whole(&temporary, DENY_ALL.as_bytes(), 0o755)?;
        rename_durably(&temporary, place)
    };
    write().map_err(PackageError::io("write", place))
}

/// Puts back what was at `place`, unless somebody else has put something there since. Without a record nothing is due.
pub(super) fn allow(place: &Path, saved: &Path) -> Result<()> {
    if let Some(found) = load(place, saved)? {
        if is_ours_or_nothing(place) {
            put_back(place, saved, &found).map_err(PackageError::io("put back", place))?;
        }
        remove(&saved.join(RECORD))?;
    }
    // Left by a crash half way, before the record was there or after it went.
    remove(&saved.join(CONTENT))?;
    remove(&temporary(place))
}

fn save(place: &Path, saved: &Path) -> Result<()> {
    let found = look(place, saved).map_err(PackageError::io("save", place))?;
    let record = saved.join(RECORD);
    let write = || -> io::Result<()> {
        let temporary = record.with_extension("new");
        write_whole(&temporary, &serde_json::to_vec_pretty(&found)?, 0o600)?;
        rename_durably(&temporary, &record)
    };
    write().map_err(PackageError::io("write", &record))
}

fn look(place: &Path, saved: &Path) -> io::Result<Found> {
    let metadata = match place.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        other => other?,
    };
    if metadata.is_symlink() {
        return Ok(Found::Link { target: std::fs::read_link(place)? });
    }
    write_whole(&saved.join(CONTENT), &std::fs::read(place)?, 0o600)?;
    Ok(describe(&metadata))
}

fn describe(metadata: &Metadata) -> Found {
    Found::File {
        mode: metadata.mode() & 0o7777,
        user: metadata.uid(),
        group: metadata.gid(),
        modified_seconds: metadata.mtime(),
        modified_nanoseconds: metadata.mtime_nsec(),
    }
}

fn load(place: &Path, saved: &Path) -> Result<Option<Found>> {
    let path = saved.join(RECORD);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(PackageError::io("read", &path))?,
    };
    let found = serde_json::from_slice(&bytes);
    found.map(Some).map_err(|source| PackageError::Record { path, place: place.to_owned(), source })
}

/// Nothing counts too: whoever took our policy away did not mean the one that it stood for.
fn is_ours_or_nothing(place: &Path) -> bool {
    match (place.symlink_metadata(), std::fs::read(place)) {
        (Err(_), _) => true,
        (Ok(metadata), Ok(bytes)) => metadata.is_file() && bytes == DENY_ALL.as_bytes(),
        (Ok(_), Err(_)) => false,
    }
}

fn put_back(place: &Path, saved: &Path, found: &Found) -> io::Result<()> {
    let temporary = temporary(place);
    match found {
        Found::Nothing => {
            absent(std::fs::remove_file(place))?;
            return sync_directory(place);
        }
        Found::Link { target } => {
            absent(std::fs::remove_file(&temporary))?;
            symlink(target, &temporary)?;
        }
        Found::File { mode, user, group, modified_seconds, modified_nanoseconds } => {
            write_whole(&temporary, &std::fs::read(saved.join(CONTENT))?, 0o600)?;
            let file = File::options().write(true).open(&temporary)?;
            fchown(&file, Some(*user), Some(*group))?;
            // After the owner: changing that clears the set-user-id bit.
            file.set_permissions(Permissions::from_mode(*mode))?;
            file.set_times(FileTimes::new().set_modified(time(*modified_seconds, *modified_nanoseconds)))?;
            file.sync_all()?;
        }
    }
    rename_durably(&temporary, place)
}

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let seconds_away = Duration::from_secs(seconds.unsigned_abs());
    let second = if seconds < 0 { UNIX_EPOCH - seconds_away } else { UNIX_EPOCH + seconds_away };
    second + Duration::from_nanos(nanoseconds.unsigned_abs())
}

/// Beside the place, so that it can be renamed there.
fn temporary(place: &Path) -> PathBuf {
    place.with_extension("d.transship-new")
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    absent(std::fs::remove_file(path))?;
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    // The mode that it was made with went through our umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_directory(to)
}

fn sync_directory(of: &Path) -> io::Result<()> {
    of.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn remove(path: &Path) -> Result<()> {
    let remove = || absent(std::fs::remove_file(path)).and_then(|()| sync_directory(path));
    remove().map_err(PackageError::io("remove", path))
}

/// What is to go and is not there is gone.
fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[path = "service_starts_tests.rs"]
mod tests;
