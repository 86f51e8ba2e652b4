//! Mounts. After CRIU's `mount.c` and `filesystems.c`, and what runc tells CRIU of the mounts that it made.

use super::super::facts::{ContainerFacts, EngineMount, MountFacts};
use super::super::{Context, Finding};

/// File systems that CRIU mounts anew by itself.
const MOUNTED_ANEW: [&str; 17] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "binfmt_misc",
    "tmpfs",
    "devpts",
    "simfs",
    "pstore",
    "mqueue",
    "securityfs",
    "fusectl",
    "debugfs",
    "tracefs",
    "cgroup",
    "cgroup2",
    "overlay",
    "autofs",
];

/// The rules on mounts.
pub(super) fn judge(facts: &ContainerFacts, _: &Context<'_>) -> Vec<Finding> {
    let unknown = facts.mounts.iter().filter_map(|mount| inside(facts, mount));
    unknown.chain(propagation(facts)).collect()
}

/// Mounts that came into the container otherwise than as one that Docker lists: made inside of it, or lying below
/// something that was bound into it. runc does not tell CRIU of them.
fn inside(facts: &ContainerFacts, mount: &MountFacts) -> Option<Finding> {
    let listed = |given: &&EngineMount| given.destination.trim_end_matches('/') == mount.mount_point;
    if mount.mount_point == "/" || facts.engine.mounts.iter().any(|given| listed(&given)) {
        return None;
    }
    let below = facts.engine.mounts.iter().find(|given| is_below(&mount.mount_point, &given.destination));
    let whole = mount.root == "/";
    let unknown = !MOUNTED_ANEW.contains(&mount.file_system.as_str());
    let (name, at) = (&facts.engine.name, &mount.mount_point);
    match below {
        Some(given) if unknown || !whole => Some(Finding::refuse(
            "mount.below",
            name,
            format!(
                "Below the mount {} lies another one ({at}, {}), which would be missing at the restore.",
                given.destination, mount.file_system
            ),
            "Mount it by an option of its own (--mount), or use bind-nonrecursive.",
        )),
        // What is no whole file system here is a bind of Docker's own (hosts, resolv.conf, docker-init).
        None if unknown && whole => Some(Finding::refuse(
            "mount.inside",
            name,
            format!(
                "The container has mounted a file system ({}) at {at} that CRIU cannot mount anew.",
                mount.file_system
            ),
            "Unmount it inside, or mount it by an option of the container.",
        )),
        _ => None,
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn propagation(facts: &ContainerFacts) -> Option<Finding> {
    let shared: Vec<&str> = facts
        .engine
        .mounts
        .iter()
        .filter(|mount| mount.propagation.contains("shared") || mount.propagation.contains("slave"))
        .map(|mount| mount.destination.as_str())
        .collect();
    if shared.is_empty() {
        return None;
    }
    Some(Finding::warn(
        "mount.propagation",
        &facts.engine.name,
        format!("Mounts pass between the host and {}, which the restore does not renew.", shared.join(", ")),
        "Use the propagation rprivate, where the container can do with it.",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{mount, refused, warned};
    use super::*;

    fn bind(destination: &str) -> EngineMount {
        EngineMount { kind: "bind".into(), destination: destination.into(), ..EngineMount::default() }
    }

    #[test]
    fn what_docker_mounted_passes() {
        assert!(
            refused(|f| {
                f.engine.mounts = vec![bind("/data/")];
                f.mounts.push(mount((8, 1), "/data", "xfs"));
                let mut hosts = mount((8, 1), "/etc/hosts", "ext4");
                hosts.root = "/var/lib/docker/containers/x/hosts".into();
                f.mounts.push(hosts);
                f.mounts.push(mount((0, 9), "/proc", "proc"));
            })
            .is_empty()
        );
    }

    #[test]
    fn what_lies_below_a_bind_is_refused_where_it_would_be_missing() {
        let below = |file_system: &str, root: &str| {
            let (mut nested, root) = (mount((8, 2), "/data/disk", file_system), root.to_owned());
            nested.root = root;
            refused(|f| {
                f.engine.mounts = vec![bind("/data")];
                f.mounts.extend([mount((8, 1), "/data", "xfs"), nested]);
            })
        };
        assert_eq!(below("ext4", "/"), ["mount.below"]);
        assert_eq!(below("tmpfs", "/some/dir"), ["mount.below"]);
        assert!(below("tmpfs", "/").is_empty(), "CRIU stores a tmpfs whole");
    }

    #[test]
    fn what_was_mounted_inside_is_refused_where_criu_cannot() {
        assert_eq!(refused(|f| f.mounts.push(mount((7, 0), "/mnt", "ext4"))), ["mount.inside"]);
        assert_eq!(refused(|f| f.mounts.push(mount((0, 99), "/mnt", "fuse.sshfs"))), ["mount.inside"]);
        assert!(refused(|f| f.mounts.push(mount((0, 99), "/mnt", "tmpfs"))).is_empty());
    }

    #[test]
    fn propagation_is_told() {
        let mut slave = bind("/data");
        slave.propagation = "rslave".into();
        assert_eq!(warned(|f| f.engine.mounts = vec![slave]), ["mount.propagation"]);
    }
}
