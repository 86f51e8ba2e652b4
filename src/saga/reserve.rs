//! Disk space that is kept for a bad day: the way back needs some when nothing is left.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Takes so many bytes on the disk, in a file that nobody reads. May be repeated.
///
/// # Errors
/// Where there is not that much left; then nothing is taken.
pub fn keep(path: &Path, bytes: u64) -> io::Result<()> {
    if bytes == 0 || path.metadata().is_ok_and(|found| found.len() >= bytes) {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    nix::fcntl::posix_fallocate(&file, 0, length).map_err(|errno| {
        give_back(path);
        errno.into()
    })
}

/// Lets it be used. May be repeated.
pub fn give_back(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "reserved disk space cannot be given back");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_kept_is_on_the_disk_and_given_back_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        keep(&path, 1 << 20).unwrap();
        keep(&path, 1 << 20).unwrap();
        assert!(path.metadata().unwrap().blocks() * 512 >= 1 << 20);
        give_back(&path);
        give_back(&path);
        assert!(!path.exists());
        assert!(keep(&path, u64::MAX >> 2).is_err());
        assert!(!path.exists());
    }
}
