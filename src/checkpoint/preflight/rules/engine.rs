//! What the engine's settings of a container tell.

use super::super::facts::ContainerFacts;
use super::super::{Context, Finding, Purpose};
use super::count;

/// Whether the container is in a state that can be dumped.
pub(super) fn state(facts: &ContainerFacts) -> Vec<Finding> {
    let engine = &facts.engine;
    let finding = match engine.status.as_str() {
        "running" => return Vec::new(),
        "paused" => Finding::warn(
            "state.paused",
            &engine.name,
            "The container is paused; it runs once it is restored.",
            "Nothing needs to be done; `docker unpause` beforehand if it should run until then.",
        ),
        status => Finding::refuse(
            "state.not-running",
            &engine.name,
            format!("The container is {status}, so there is nothing to freeze."),
            "Start it, or leave it out.",
        ),
    };
    vec![finding]
}

/// The rules on settings.
pub(super) fn judge(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    let rules: [fn(&ContainerFacts, &Context<'_>) -> Option<Finding>; 10] = [
        runtime,
        auto_remove,
        swarm_task,
        devices_requested,
        devices_mapped,
        privileged,
        terminal,
        profile,
        driver,
        volumes,
    ];
    rules.iter().filter_map(|rule| rule(facts, context)).collect()
}

fn runtime(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    let runtime = facts.engine.runtime.as_str();
    if ["", "runc", "io.containerd.runc.v2"].contains(&runtime) {
        return None;
    }
    Some(Finding::refuse(
        "engine.runtime",
        &facts.engine.name,
        format!("The container runs under the runtime {runtime}, and only runc's containers can be frozen."),
        "Create it anew with the runtime runc.",
    ))
}

/// Docker removes such a container, and its checkpoint's root filesystem, the moment its processes end.
fn auto_remove(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    if !facts.engine.auto_remove || context.purpose == Purpose::LeaveRunning {
        return None;
    }
    Some(Finding::refuse(
        "engine.auto-remove",
        &facts.engine.name,
        "The container was started with --rm, so Docker deletes it as soon as it is frozen.",
        "Create it anew without --rm, or checkpoint it with --leave-running.",
    ))
}

/// Its scheduler starts another in its place the moment its processes end.
fn swarm_task(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    if !facts.engine.swarm_task || context.purpose == Purpose::LeaveRunning {
        return None;
    }
    Some(Finding::refuse(
        "engine.swarm-task",
        &facts.engine.name,
        "The container is a task of a swarm, whose scheduler would start another in its place.",
        "Drain this node: `docker node update --availability drain NODE`.",
    ))
}

fn devices_requested(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    let requests = &facts.engine.device_requests;
    if requests.is_empty() {
        return None;
    }
    Some(Finding::refuse(
        "engine.gpu",
        &facts.engine.name,
        format!("The container was given devices ({}), whose state is not in its memory.", requests.join(", ")),
        "Run it without --gpus, or stop it for the operation.",
    ))
}

fn devices_mapped(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let devices = &facts.engine.devices;
    if devices.is_empty() {
        return None;
    }
    let place = if context.purpose == Purpose::Migrate { "the destination" } else { "this host" };
    Some(Finding::warn(
        "engine.device",
        &facts.engine.name,
        format!("The container was given {}; each must be there again on {place}.", devices.join(", ")),
        "Remove --device where the container does not need it.",
    ))
}

fn privileged(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    if !facts.engine.privileged {
        return None;
    }
    Some(Finding::warn(
        "engine.privileged",
        &facts.engine.name,
        "The container is privileged; what it changed on the host itself is not part of a checkpoint.",
        "Give it the capabilities it needs in place of --privileged.",
    ))
}

fn terminal(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    if !(facts.engine.tty && facts.engine.open_stdin) || context.purpose == Purpose::LeaveRunning {
        return None;
    }
    Some(Finding::warn(
        "engine.terminal",
        &facts.engine.name,
        "The container has an interactive terminal; whoever is attached to it is detached.",
        "Attach again with `docker attach` afterwards.",
    ))
}

/// Docker's own profile is on every host that has AppArmor; others need not be.
fn profile(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let engine = &facts.engine;
    let own = !["", "unconfined", "docker-default"].contains(&engine.apparmor_profile.as_str());
    let label = match (own, engine.selinux_label.is_empty()) {
        (true, _) => format!("AppArmor profile {}", engine.apparmor_profile),
        (false, false) => format!("SELinux label {}", engine.selinux_label),
        (false, true) => return None,
    };
    let place = if context.purpose == Purpose::Migrate { "the destination" } else { "this host" };
    Some(Finding::warn(
        "engine.lsm",
        &engine.name,
        format!("The container runs under the {label}, which must be known on {place} at its restore."),
        "Load the same policy there beforehand.",
    ))
}

fn driver(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let driver = facts.engine.storage_driver.as_str();
    if ["overlay2", "overlayfs"].contains(&driver) {
        return None;
    }
    let (name, reason) = (
        &facts.engine.name,
        format!("What the container wrote cannot be told apart under the storage driver {driver}."),
    );
    Some(match context.purpose {
        Purpose::Migrate => {
            Finding::refuse("engine.storage", name, reason, "Move Docker to the storage driver overlay2.")
        }
        _ => Finding::warn("engine.storage", name, reason, "Keep its files as they are until the restore."),
    })
}

fn volumes(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    let foreign: Vec<String> = facts
        .engine
        .mounts
        .iter()
        .filter(|mount| mount.kind == "volume" && !["", "local"].contains(&mount.driver.as_str()))
        .map(|mount| format!("{} ({})", mount.name, mount.driver))
        .collect();
    if foreign.is_empty() {
        return None;
    }
    let which = count(foreign.len(), "volume");
    Some(Finding::warn(
        "engine.volume-driver",
        &facts.engine.name,
        format!("{which} of the container belong to a driver of its own: {}.", foreign.join(", ")),
        "Make sure that the driver serves the same content at the restore; it is not copied.",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::super::Severity::{Refuse, Warn};
    use super::super::super::facts::EngineMount;
    use super::super::testing::{facts, found, refused, warned};
    use super::*;

    #[test]
    fn only_a_running_or_paused_container_is_frozen() {
        assert_eq!(warned(|f| f.engine.status = "paused".into()), ["state.paused"]);
        assert_eq!(refused(|f| f.engine.status = "restarting".into()), ["state.not-running"]);
        let stopped = |f: &mut ContainerFacts| {
            *f = ContainerFacts { engine: facts().engine, ..ContainerFacts::default() };
            f.engine.status = "exited".into();
        };
        assert_eq!(refused(stopped), ["state.not-running"], "and nothing else is said of it");
    }

    #[test]
    fn other_runtimes_are_refused() {
        assert_eq!(refused(|f| f.engine.runtime = "nvidia".into()), ["engine.runtime"]);
        assert!(refused(|f| f.engine.runtime = "io.containerd.runc.v2".into()).is_empty());
    }

    #[test]
    fn rm_is_refused_unless_it_goes_on_running() {
        let rm = |f: &mut ContainerFacts| f.engine.auto_remove = true;
        assert_eq!(found(Purpose::Freeze, rm), [("engine.auto-remove", Refuse)]);
        assert_eq!(found(Purpose::Migrate, rm), [("engine.auto-remove", Refuse)]);
        assert_eq!(found(Purpose::LeaveRunning, rm), []);
    }

    #[test]
    fn devices_and_privileges_are_told() {
        assert_eq!(refused(|f| f.engine.device_requests = vec!["nvidia".into()]), ["engine.gpu"]);
        assert_eq!(warned(|f| f.engine.devices = vec!["/dev/fuse".into()]), ["engine.device"]);
        assert_eq!(warned(|f| f.engine.privileged = true), ["engine.privileged"]);
        assert_eq!(warned(|f| f.engine.apparmor_profile = "mine".into()), ["engine.lsm"]);
        assert_eq!(warned(|f| f.engine.selinux_label = "container_t".into()), ["engine.lsm"]);
        assert_eq!(warned(|f| (f.engine.tty, f.engine.open_stdin) = (true, true)), ["engine.terminal"]);
        assert!(warned(|f| f.engine.tty = true).is_empty());
    }

    #[test]
    fn a_storage_driver_without_layers_stays_on_its_host() {
        let vfs = |f: &mut ContainerFacts| f.engine.storage_driver = "vfs".into();
        assert_eq!(found(Purpose::Migrate, vfs), [("engine.storage", Refuse)]);
        assert_eq!(found(Purpose::Freeze, vfs), [("engine.storage", Warn)]);
    }

    #[test]
    fn foreign_volumes_are_told() {
        let volume = |driver: &str| EngineMount {
            kind: "volume".into(),
            driver: driver.into(),
            destination: "/data".into(),
            ..EngineMount::default()
        };
        assert_eq!(warned(|f| f.engine.mounts = vec![volume("nfs")]), ["engine.volume-driver"]);
        assert!(warned(|f| f.engine.mounts = vec![volume("local")]).is_empty());
    }
}
