//! The way to the real runc.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where distributions and Docker's own packages put runc, for callers whose `PATH` holds only us.
const USUAL_PLACES: [&str; 3] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"];

/// The real runc: the first `runc` on `PATH` that is not this program.
pub fn real_runc() -> Option<PathBuf> {
    let own = std::fs::metadata("/proc/self/exe").ok()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(USUAL_PLACES.iter().map(PathBuf::from))
        .map(|dir| dir.join("runc"))
        .find(|candidate| is_other_program(candidate, &own))
}

fn is_other_program(candidate: &Path, own: &std::fs::Metadata) -> bool {
    std::fs::metadata(candidate).is_ok_and(|found| {
        found.is_file() && found.mode() & 0o111 != 0 && (found.dev(), found.ino()) != (own.dev(), own.ino())
    })
}

/// Becomes the real runc with the words as they came. Returns only when that fails.
pub fn become_runc(words: impl IntoIterator<Item = OsString>) -> io::Error {
    match real_runc() {
        Some(runc) => Command::new(runc).arg0("runc").args(words).exec(),
        None => io::Error::new(io::ErrorKind::NotFound, "no runc on PATH besides transship's interposer"),
    }
}
