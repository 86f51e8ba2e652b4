//! The cgroup that a restored container belongs in, on hosts with cgroup v2.
//!
//! CRIU puts processes where its images say, unless it is told of another root. runc tells it, but not with cgroup v2
//! before runc 1.2 (`criuApplyCgroups`): a container that is restored under another id, here or on another host, would run
//! in a cgroup with the old id, where its limits do not hold and neither `docker pause` nor the next freeze finds it.

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde_json::Value;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where cgroups are mounted on every host with cgroup v2 (`libcontainer/cgroups` in runc).
const MOUNT: &str = "/sys/fs/cgroup";

/// Adds the cgroup of a container to CRIU's configuration, where runc might not name it; `config` is its bundle's.
pub fn name(criu_config: &Path, config: &Value, by_systemd: bool) -> io::Result<()> {
    if statfs(MOUNT)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Ok(());
    }
    let path = config.pointer("/linux/cgroupsPath").and_then(Value::as_str);
    let Some(root) = path.and_then(|path| root(path, by_systemd)) else { return Ok(()) };
    writeln!(std::fs::OpenOptions::new().append(true).open(criu_config)?, "cgroup-root {}", root.display())
}

/// The cgroup that runc makes of an OCI `cgroupsPath`; nothing where that depends on more than the path.
fn root(path: &str, by_systemd: bool) -> Option<PathBuf> {
    if !by_systemd {
        return path.starts_with('/').then(|| path.into());
    }
    let [slice, prefix, name] = path.split(':').collect::<Vec<_>>().try_into().ok()?;
    let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    Some(expanded(if slice.is_empty() { "system.slice" } else { slice })?.join(unit))
}

/// systemd.slice(5): `a-b.slice` lies in `a.slice`, and `-.slice` is the root.
fn expanded(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty() && !name.contains('/'))?;
    let mut path = PathBuf::from("/");
    if name != "-" {
        let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
        path.extend(ends.map(|end| format!("{}.slice", &name[..end])));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, by_systemd: bool) -> Option<String> {
        root(path, by_systemd).map(|path| path.display().to_string())
    }

    #[test]
    fn the_cgroup_is_the_one_that_runc_makes() {
        assert_eq!(named("system.slice:docker:0a1b", true).unwrap(), "/system.slice/docker-0a1b.scope");
        assert_eq!(named(":docker:0a1b", true).unwrap(), "/system.slice/docker-0a1b.scope");
        assert_eq!(named("a-b-c.slice:docker:0a1b", true).unwrap(), "/a.slice/a-b.slice/a-b-c.slice/docker-0a1b.scope");
        assert_eq!(named("-.slice:docker:0a1b", true).unwrap(), "/docker-0a1b.scope");
        assert_eq!(named("/docker/0a1b", false).unwrap(), "/docker/0a1b");
        assert_eq!(named("docker/0a1b", false), None, "it is below runc's own");
        assert_eq!(named("../x:docker:0a1b", true), None);
    }
}
