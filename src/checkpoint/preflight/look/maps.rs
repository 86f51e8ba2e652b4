//! A process' mappings, by the names that /proc/PID/maps gives them.
//!
//! Not smaps: that walks the page tables, which the process would feel.

use std::path::Path;

use super::stat::status;
use crate::checkpoint::preflight::facts::{DeletedFile, MapFacts};

/// What stands out among the mappings of `pid`.
pub(super) fn facts(pid: i32, text: &str) -> MapFacts {
    let mut found = MapFacts::default();
    for (range, name) in text.lines().filter_map(named) {
        match judge(name) {
            Name::Ordinary => {}
            Name::Device => push_new(&mut found.devices, name),
            Name::Secret => found.secret_memory = true,
            Name::Uprobes => found.uprobes = true,
            Name::SysV => found.sysv_shared = true,
            Name::Huge => found.huge_pages = true,
            Name::Deleted => {
                if let Some(file) = deleted(pid, range, name) {
                    push_new(&mut found.deleted, file);
                }
            }
        }
    }
    found
}

fn push_new<T: PartialEq<U>, U: Into<T>>(list: &mut Vec<T>, item: U) {
    if !list.iter().any(|known| *known == item) {
        list.push(item.into());
    }
}

#[derive(Debug, PartialEq)]
enum Name {
    Ordinary,
    Device,
    Deleted,
    Secret,
    Uprobes,
    SysV,
    Huge,
}

fn judge(name: &str) -> Name {
    let bare = name.trim_end_matches(" (deleted)");
    if bare.starts_with("anon_inode:") {
        return Name::Device;
    }
    if bare == "[uprobes]" {
        return Name::Uprobes;
    }
    if bare.starts_with("/secretmem") {
        return Name::Secret;
    }
    if bare.starts_with("/SYSV") && name != bare {
        return Name::SysV;
    }
    if bare.starts_with("/anon_hugepage") || bare.starts_with("/dev/hugepages/") {
        return Name::Huge;
    }
    // Shared anonymous memory is a deleted /dev/zero; POSIX shared memory are files in /dev/shm.
    let plain = ["/memfd:", "/dev/zero", "/[aio]", "/drm mm object"];
    if plain[..3].iter().any(|start| bare.starts_with(start)) {
        return Name::Ordinary;
    }
    if bare.starts_with(plain[3]) || bare.starts_with("/dev/") && !bare.starts_with("/dev/shm/") {
        return Name::Device;
    }
    if name != bare { Name::Deleted } else { Name::Ordinary }
}

/// Address range and name of a line of maps, where it has a name.
fn named(line: &str) -> Option<(&str, &str)> {
    let mut rest = line;
    let mut range = "";
    for column in 0..5 {
        let (word, after) = rest.split_once(' ')?;
        if column == 0 {
            range = word;
        }
        rest = after.trim_start();
    }
    (!rest.is_empty()).then_some((range, rest))
}

/// The deleted file behind a mapping; none when it has another name still.
fn deleted(pid: i32, range: &str, name: &str) -> Option<DeletedFile> {
    let status = status(Path::new(&format!("/proc/{pid}/map_files/{range}"))).ok()?;
    (status.links == 0).then(|| DeletedFile {
        path: name.trim_end_matches(" (deleted)").to_owned(),
        device: status.device,
        inode: status.inode,
        bytes: status.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged() {
        let cases = [
            ("/usr/lib/libc.so.6", Name::Ordinary),
            ("/dev/zero (deleted)", Name::Ordinary),
            ("/dev/shm/PostgreSQL.1", Name::Ordinary),
            ("/dev/shm/x (deleted)", Name::Deleted),
            ("/memfd:jit (deleted)", Name::Ordinary),
            ("/[aio] (deleted)", Name::Ordinary),
            ("[vvar]", Name::Ordinary),
            ("[uprobes]", Name::Uprobes),
            ("/SYSV00000000 (deleted)", Name::SysV),
            ("/secretmem (deleted)", Name::Secret),
            ("/anon_hugepage (deleted)", Name::Huge),
            ("/dev/nvidia0", Name::Device),
            ("/dev/dri/card0", Name::Device),
            ("anon_inode:[io_uring]", Name::Device),
            ("/usr/lib/libc.so.6 (deleted)", Name::Deleted),
        ];
        for (name, wanted) in cases {
            assert_eq!(judge(name), wanted, "{name}");
        }
    }

    #[test]
    fn lines_are_taken_apart() {
        let line = "7f0000000000-7f0000001000 rw-s 00000000 00:01 12                         /a b (deleted)";
        assert_eq!(named(line), Some(("7f0000000000-7f0000001000", "/a b (deleted)")));
        assert_eq!(named("7f0000000000-7f0000001000 rw-p 00000000 00:00 0 "), None);
        assert_eq!(named("garbage"), None);
        let twice = "1-2 rw-s 0 0:1 3 /dev/nvidia0\n2-3 rw-s 0 0:1 3 /dev/nvidia0\n";
        assert_eq!(facts(i32::MAX, twice).devices, ["/dev/nvidia0"]);
    }
}
