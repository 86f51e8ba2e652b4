//! Files that are mapped shared and writable.
//!
//! A write through such a mapping changes a file without changing its times until the kernel writes the page
//! back, so that comparing times would miss it.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

/// Device and inode of every file that a process in the pid namespace of `init` has mapped shared and writable.
/// A process that ends while we look is left out: it writes no more.
pub fn writable_shared_files(init: i32) -> HashSet<(u64, u64)> {
    let mut files = HashSet::new();
    for pid in crate::checkpoint::mend::processes_of(init) {
        let Ok(maps) = std::fs::read_to_string(format!("/proc/{pid}/maps")) else { continue };
        for range in maps.lines().filter_map(shared_writable_range) {
            // The file behind the mapping itself, whatever its name leads to by now.
            if let Ok(file) = std::fs::metadata(format!("/proc/{pid}/map_files/{range}")) {
                files.insert((file.dev(), file.ino()));
            }
        }
    }
    files
}

/// The address range of a line of `/proc/PID/maps` (proc_pid_maps(5)) when it is a shared writable file mapping.
fn shared_writable_range(line: &str) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let inode = fields.nth(2)?;
    (permissions.starts_with("rw") && permissions.ends_with('s') && inode != "0").then_some(range)
}

#[cfg(test)]
mod tests {
    use super::shared_writable_range;

    #[test]
    fn only_shared_writable_files_count() {
        let shared = "7f00-7f10 rw-s 00000000 fe:00 1234 /data/db";
        assert_eq!(shared_writable_range(shared), Some("7f00-7f10"));
        assert_eq!(shared_writable_range("7f00-7f10 r--s 00000000 fe:00 1234 /data/db"), None);
        assert_eq!(shared_writable_range("7f00-7f10 rw-p 00000000 fe:00 1234 /data/db"), None);
        assert_eq!(shared_writable_range("7f00-7f10 rw-p 00000000 00:00 0"), None);
    }
}
