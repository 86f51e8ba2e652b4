//! `install` and `uninstall`: the interposer's place in front of runc.

use crate::failure::{Failure, OrFail};
use crate::services::{Change, Installation, Interposition, ServiceManager, effective_runc, install_plan};
use crate::world::Context;
use serde_json::{Value, json};

/// Puts the interposer in front of runc and sees that it is found there.
pub fn install(context: &Context, dry_run: bool) -> Result<Value, Failure> {
    let manager = ServiceManager::of_this_host();
    let record = context.catalog.layout().installation();
    let mut installed = Installation::load(&record).or_fail(|| "the present installation cannot be read".into())?;
    let plan: Vec<Change> = install_plan(manager).into_iter().filter(|change| !change.is_made()).collect();
    let mut actions: Vec<String> = plan.iter().map(Change::describe).collect();
    if !dry_run {
        for change in plan {
            // On record before it is made: an installation that is cut short can be taken away as well.
            if !installed.changes.contains(&change) {
                installed.changes.push(change.clone());
                installed.save(&record).or_fail(|| "the installation cannot be recorded".into())?;
            }
            change.make().or_fail(|| format!("cannot {}", change.describe()))?;
        }
    }
    actions.extend(take_effect(context, manager, dry_run)?);
    Ok(json!({ "actions": actions, "effective": effective_runc() == Interposition::Interposed }))
}

/// Takes every change of the installation back, newest first.
pub fn uninstall(context: &Context, dry_run: bool) -> Result<Value, Failure> {
    let frozen = context.claims.all();
    if !frozen.is_empty() {
        return Err(Failure::refused(format!(
            "{} containers are frozen and could not be restored without the interposer",
            frozen.len()
        ))
        .remedy("restore them first; see: transship status"));
    }
    let record = context.catalog.layout().installation();
    let mut installed = Installation::load(&record).or_fail(|| "the present installation cannot be read".into())?;
    let actions: Vec<String> = installed.changes.iter().rev().map(Change::describe_undo).collect();
    while let Some(change) = installed.changes.last().filter(|_| !dry_run) {
        change.undo().or_fail(|| format!("cannot {}", change.describe_undo()))?;
        installed.changes.pop();
        installed.save(&record).or_fail(|| "the installation cannot be recorded".into())?;
    }
    if !dry_run {
        let manager = ServiceManager::of_this_host();
        manager.reload_configuration().or_fail(|| "the service manager cannot read its configuration".into())?;
    }
    Ok(json!({ "actions": actions }))
}

/// Restarts what has to be restarted for the interposer to be found, where that disturbs no container.
fn take_effect(context: &Context, manager: ServiceManager, dry_run: bool) -> Result<Vec<String>, Failure> {
    if matches!(effective_runc(), Interposition::Interposed | Interposition::NoContainerd) {
        return Ok(Vec::new());
    }
    let service = match manager {
        // Containers and dockerd go on while containerd restarts: their shims are processes of their own.
        ServiceManager::Systemd if manager.is_active("containerd") => "containerd",
        // containerd is dockerd's child here, and without live-restore dockerd ends all containers.
        _ => "docker",
    };
    let running = context.containers().or_fail(|| "the containers cannot be listed".into())?;
    let running = running.iter().filter(|container| container.is_running()).count();
    if service == "docker" && running > 0 {
        context.told.note(&format!(
            "{running} containers run, and restarting docker would end them: the interposer takes effect at docker's next restart"
        ));
        return Ok(Vec::new());
    }
    if !dry_run {
        manager.reload_configuration().or_fail(|| "the service manager cannot read its configuration".into())?;
        manager.restart(service).or_fail(|| format!("{service} cannot be restarted"))?;
        wait_for_docker(context)?;
        if effective_runc() != Interposition::Interposed {
            return Err(Failure::new("containerd still finds another runc first").remedy(
                "see whether the service sets a PATH of its own: systemctl show -p Environment containerd docker",
            ));
        }
    }
    Ok(vec![format!("restart {service}")])
}

/// Docker's socket is there when the service manager says it is started, but sysv scripts do not wait.
fn wait_for_docker(context: &Context) -> Result<(), Failure> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        match context.docker.engine() {
            Ok(_) => return Ok(()),
            Err(error) if std::time::Instant::now() > deadline => {
                return Err(Failure::new("docker does not answer after its restart").because(&error).needs_person());
            }
            // There is no event for a socket that is not there yet.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}
