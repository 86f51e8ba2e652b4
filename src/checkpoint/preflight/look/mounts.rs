//! The mounts of the container's mount namespace.

use std::io;

use super::process::read_text;
use crate::checkpoint::preflight::facts::{DeviceNumber, MountFacts};

/// All mounts that `pid` sees.
pub(super) fn facts(pid: i32) -> io::Result<Vec<MountFacts>> {
    Ok(read_text(&format!("/proc/{pid}/mountinfo"))?.lines().filter_map(parse).collect())
}

/// One line of mountinfo; see proc_pid_mountinfo(5).
fn parse(line: &str) -> Option<MountFacts> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(2);
    let device = device(fields.next()?)?;
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let slave = fields.skip(1).any(|optional| optional.starts_with("master:"));
    let mut described = file_system.splitn(3, ' ');
    let file_system = described.next()?.to_owned();
    let options = described.nth(1).unwrap_or_default().to_owned();
    Some(MountFacts { device, root, mount_point, file_system, options, slave })
}

fn device(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The kernel writes blanks and backslashes in octal.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = "54 133 0:65 / /my\\040data rw,relatime master:3 - overlay overlay rw,lowerdir=/l,nfs_export=on";
        let found = parse(line).unwrap();
        assert_eq!(found.mount_point, "/my data");
        assert_eq!((found.device, found.slave), ((0, 65), true));
        assert_eq!((found.file_system.as_str(), found.options.as_str()), ("overlay", "rw,lowerdir=/l,nfs_export=on"));
        assert!(!parse("1 0 8:1 / / rw - ext4 /dev/a rw").unwrap().slave);
        assert_eq!(parse("no mount"), None);
    }

    #[test]
    fn our_own_root_is_seen() {
        let mounts = facts(std::process::id() as i32).unwrap();
        assert!(mounts.iter().any(|mount| mount.mount_point == "/"));
    }
}
