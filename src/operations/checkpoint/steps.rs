//! The steps of `checkpoint`, each beside its undo.

use super::dumping::{Group, dump_member, go_on_after_dump};
use super::line::Place;
use super::packets::{close_hold, free_queue, hold_one, outbound, release};
use super::{Checkpoint, Member, apart};
use crate::archive::{ArchiveError, rootfs};
use crate::checkpoint::dump::{Still, Verdict};
use crate::checkpoint::{describe, freezer, mapped, mend};
use crate::criu;
use crate::docker::RestartPolicy;
use crate::failure::{Failure, OrFail};
use crate::operations;
use crate::process;
use crate::restore::prepare::NETWORK_FILE;
use crate::saga::Step;
use crate::store::staging::Durability;
use crate::store::{Staging, StoreError, layout};
use crate::world::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

type CheckpointStep = Step<Checkpoint, Context>;

fn nothing(_: &mut Checkpoint, _: &Context) -> Result<(), Failure> {
    Ok(())
}

/// Docker would start a `restart: always` container afresh the moment its processes go.
pub fn set_aside() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        for member in operation.members.iter().filter(|member| member.restart_policy().restarts()) {
            set_policy(context, member, &RestartPolicy::default())?;
        }
        Ok(())
    }
    fn undo(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        for member in operation.members.iter().filter(|member| member.restart_policy().restarts()) {
            set_policy(context, member, &member.restart_policy())?;
            start_as_docker_would(context, member)?;
        }
        Ok(())
    }
    Step::new("set-aside", run, undo)
}

/// A host that went down meanwhile has come up without it: when Docker started, the policy by which it would have started it
/// was set aside. By then its processes are gone, and it has no claim by which they come back.
fn start_as_docker_would(context: &Context, member: &Member) -> Result<(), Failure> {
    let failed = || format!("{}, which has ended with this host, cannot be started", member.name);
    if member.boot == process::boot() || context.docker.container(member.id.as_str()).or_fail(failed)?.is_running() {
        return Ok(());
    }
    context.docker.start(member.id.as_str()).or_fail(failed)?;
    let policy = member.restart_policy().name;
    context
        .told
        .note(&format!("{} is started afresh, as its restart policy {policy} says: this host went down", member.name));
    Ok(())
}

fn set_policy(context: &Context, member: &Member, policy: &RestartPolicy) -> Result<(), Failure> {
    let set = context.docker.set_restart_policy(&member.id.to_string(), policy);
    set.or_fail(|| format!("the restart policy of {} cannot be set to {}", member.name, policy.name))
}

/// The writable layer is copied while the container runs, so that little is left for when it stands still.
pub fn pre_copy() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        operation.nftables = criu::feature::locks_networks_by_nftables();
        let engine = context.docker.engine().or_fail(|| "Docker does not say what it is".into())?;
        for member in &mut operation.members {
            let surroundings = describe::Surroundings::of(&engine, &member.container(), member.init.pid);
            member.surroundings = Some(surroundings.map_err(|error| {
                Failure::new(format!("{} cannot be described", member.name)).because(error.as_ref())
            })?);
            let staging = context.catalog.begin(&member.checkpoint).or_fail(|| member.store_failed())?;
            if let Some(upper) = upper_directory(member) {
                let snapshot = capture_base(&upper, &staging.dir().join(layout::ROOTFS_BASE));
                member.snapshot =
                    Some(snapshot.or_fail(|| format!("the writable layer of {} cannot be copied", member.name))?);
                staging.hash_ahead(&|_| {}).or_fail(|| member.store_failed())?;
            }
            member.staging = Some(staging);
            if !member.joins_network() {
                member.free_queue = Some(free_queue(member, context)?);
                // Reading the kernel's table takes as long as it is large. Others may be away meanwhile.
                member.outbound = operation.place.as_ref().map(|_| outbound(member)).transpose()?;
            }
        }
        take_turn(operation)
    }
    fn undo(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        for member in &operation.members {
            if let Some(staging) = context.catalog.staging(&member.checkpoint) {
                staging.discard().or_fail(|| member.store_failed())?;
            }
        }
        Ok(())
    }
    Step::new("pre-copy", run, undo)
}

/// All of this could be done while it runs. From here on it is away, so the others come first that are not ready yet.
fn take_turn(operation: &Checkpoint) -> Result<(), Failure> {
    let Some(place) = &operation.place else { return Ok(()) };
    if !place.enter() {
        let name = &operation.members[0].name;
        return Err(Failure::new(format!("{name} is not frozen, since another one cannot be")));
    }
    // Those that are away wait for the last one. The thread ends with this freeze.
    process::go_first();
    Ok(())
}

fn capture_base(upper: &Path, out: &Path) -> Result<rootfs::Snapshot, ArchiveError> {
    let file = create(out).map_err(ArchiveError::file("create", out))?;
    let (_, snapshot, report) = rootfs::capture(upper, file)?;
    tracing::debug!(?report, "the writable layer is copied");
    Ok(snapshot)
}

fn create(path: &Path) -> std::io::Result<BufWriter<File>> {
    File::create_new(path).map(BufWriter::new)
}

fn upper_directory(member: &Member) -> Option<PathBuf> {
    member.container().upper_directory().map(PathBuf::from)
}

fn write_extra(staging: &Staging, name: &str, value: &impl serde::Serialize) -> Result<(), StoreError> {
    let path = staging.extra()?.join(name);
    let json = serde_json::to_vec(value).map_err(std::io::Error::from);
    json.and_then(|json| std::fs::write(&path, json)).map_err(StoreError::io("write", &path))
}

/// Packets are parked on the host; inside the container's network new connections are kept out until those that
/// wait to be accepted are: CRIU cannot dump them.
pub fn hold() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        operation.hurry = Some(context.hurry());
        apart::until_one_fails(&mut operation.members, |member| {
            if member.joins_network() {
                return Ok(());
            }
            let begun = Instant::now();
            hold_one(member, context)?;
            member.took("hold", begun.elapsed());
            Ok(())
        })
    }
    Step::new("hold", run, release)
}

/// The processes stand still from here on.
pub fn freeze() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, _: &Context) -> Result<(), Failure> {
        for member in &mut operation.members {
            let begun = Instant::now();
            member.frozen_at = Some(jiff::Timestamp::now());
            member.stopped = describe::stopped_processes(member.init.pid);
            freezer::freeze(member.init.pid).or_fail(|| format!("{} cannot be frozen", member.name))?;
            // A frozen task that is stopped as well cannot be seized by CRIU: it would wait for ever.
            signal_stopped(member, Signal::SIGCONT);
            member.took("freeze", begun.elapsed());
        }
        Ok(())
    }
    fn undo(operation: &mut Checkpoint, _: &Context) -> Result<(), Failure> {
        thaw(operation)
    }
    Step::new("freeze", run, undo)
}

fn signal_stopped(member: &Member, signal: Signal) {
    for process in &member.stopped {
        // It may have been ended meanwhile; then there is nothing to stop or continue.
        let _ = kill(Pid::from_raw(process.outer), signal);
    }
}

fn thaw(operation: &mut Checkpoint) -> Result<(), Failure> {
    apart::with_each(&mut operation.members, |member| {
        if !member.init.is_alive() {
            return Ok(());
        }
        signal_stopped(member, Signal::SIGSTOP);
        if member.is_paused {
            return Ok(());
        }
        freezer::thaw(member.init.pid).or_fail(|| format!("{} cannot be thawed", member.name))
    })
}

/// Memory and processes go to disk; then the processes stand still and wait for the verdict.
pub fn dump() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        let Checkpoint { members, leave_running, memory_follows, nftables, .. } = operation;
        let group = Group {
            leader: (members[0].id.clone(), members[0].checkpoint.clone()),
            leave_running: *leave_running,
            memory_follows: *memory_follows,
            nftables: *nftables,
        };
        apart::until_one_fails(members, |member| dump_member(member, &group, context))
    }
    fn undo(operation: &mut Checkpoint, _: &Context) -> Result<(), Failure> {
        // The others need not go any more.
        drop(operation.place.take());
        apart::with_each(&mut operation.members, go_on_after_dump)
    }
    Step::new("dump", run, undo)
}

/// What else has to be as it is now: files, and the connections that were read beside the dump. Files are copied after it,
/// as CRIU gives deleted ones that are still open a name in the writable layer.
pub fn copy() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, _: &Context) -> Result<(), Failure> {
        apart::until_one_fails(&mut operation.members, |member| {
            let begun = Instant::now();
            let rearmed = criu::timers::rearm_expired(&member.staging()?.images());
            rearmed.or_fail(|| format!("the timers of {} cannot be kept running", member.name))?;
            copy_rootfs(member)?;
            if let Some(network) = &member.network {
                write_extra(member.staging()?, NETWORK_FILE, network).or_fail(|| member.store_failed())?;
            }
            member.took("copy", begun.elapsed());
            Ok(())
        })
    }
    Step::new("copy", run, nothing)
}

fn copy_rootfs(member: &Member) -> Result<(), Failure> {
    let (Some(snapshot), Some(upper)) = (&member.snapshot, upper_directory(member)) else { return Ok(()) };
    let failed = || format!("the writable layer of {} cannot be copied", member.name);
    let device = std::fs::metadata(&upper).or_fail(failed)?.dev();
    // Seen through the overlay a file has the overlay's device and its own inode.
    let always = mapped::writable_shared_files(member.init.pid).into_iter().map(|(_, inode)| (device, inode)).collect();
    let delta = member.staging()?.dir().join(layout::ROOTFS_DELTA);
    let file = create(&delta).or_fail(failed)?;
    rootfs::capture_delta(&upper, file, snapshot, &always).map(drop).or_fail(failed)
}

/// Digests, manifest, and the rename that makes it a checkpoint.
pub fn seal() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, _: &Context) -> Result<(), Failure> {
        let Checkpoint { members, leave_running, memory_follows, name, .. } = operation;
        let group: Vec<_> = members.iter().map(|member| member.checkpoint.clone()).collect();
        apart::until_one_fails(members, |member| {
            let begun = Instant::now();
            let failed = || format!("the checkpoint of {} cannot be sealed", member.name);
            let staging = member.staging()?;
            let surroundings = member.surroundings.as_ref().ok_or_else(|| Failure::new(failed()))?;
            let facts = describe::Facts {
                surroundings,
                id: &member.checkpoint,
                name: name.as_ref(),
                group: &group,
                leave_running: *leave_running,
                memory_follows: *memory_follows,
                init: member.init.pid,
                frozen_at: member.frozen_at.unwrap_or_else(jiff::Timestamp::now),
                timings: &member.timings,
                images: &staging.images(),
                stopped: &member.stopped,
            };
            let manifest = describe::manifest(&member.container(), &facts);
            let manifest = manifest.map_err(|error| Failure::new(failed()).because(error.as_ref()))?;
            staging.seal(manifest, Durability::Deferred, &|_| {}).or_fail(failed)?;
            member.took("seal", begun.elapsed());
            Ok(())
        })
    }
    fn undo(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        for member in &operation.members {
            context.catalog.remove_if_there(&member.checkpoint).or_fail(|| member.store_failed())?;
        }
        Ok(())
    }
    Step::new("seal", run, undo)
}

/// The next create of each container restores it. The claim on the group's leader is placed last: it is the
/// commit, for the helper, for CRIU's action scripts and for the recovery alike.
pub fn claim() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        for member in operation.members.iter().rev() {
            let claim = operations::claim(context, &member.id, &member.checkpoint).or_fail(|| member.store_failed())?;
            context.claims.place(&claim).or_fail(|| format!("{} cannot be claimed", member.name))?;
        }
        Ok(())
    }
    fn undo(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        for member in &operation.members {
            let withdrawn = context.claims.withdraw_of(&member.id, &member.checkpoint);
            withdrawn.or_fail(|| format!("the claim on {} cannot be withdrawn", member.name))?;
        }
        Ok(())
    }
    Step::new("claim", run, undo)
}

/// CRIU ends the processes without a word to anybody; those that joined a namespace go before its owner.
pub fn stop() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        // Docker takes its time for it, and takes in the end of one container after the other.
        operation.place.iter().for_each(Place::away);
        for member in operation.members.iter_mut().rev() {
            let begun = Instant::now();
            if !is_claimed(member, context)? {
                // This step was tried again after somebody had restored the container, or given its checkpoint up.
                continue;
            }
            stop_one(member, context).map_err(|failure| {
                failure
                    .remedy(format!("its checkpoint is whole; bring it back with: transship restore {}", member.name))
            })?;
            member.remove_work_directory();
            member.took("stop", begun.elapsed());
        }
        operation.place.take().into_iter().for_each(Place::leave);
        Ok(())
    }
    Step::new("stop", run, nothing)
}

fn is_claimed(member: &Member, context: &Context) -> Result<bool, Failure> {
    let claim = context.claims.find(&member.id).or_fail(|| format!("the claim on {} cannot be read", member.name))?;
    Ok(claim.is_some_and(|claim| claim.checkpoint == member.checkpoint))
}

/// While runc, the shim and dockerd see to the end of the container, the hold is closed over what is sent in its name:
/// nothing is, until it is restored.
fn stop_one(member: &mut Member, context: &Context) -> Result<(), Failure> {
    let still = member.still.take();
    let (id, checkpoint) = (&member.id, &member.checkpoint);
    std::thread::scope(|threads| {
        let closing = threads.spawn(|| close_hold(context, id, checkpoint));
        end_processes(context, member, still)?;
        closing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Ends what stands still after a dump that counts, without a word to anybody; returns when Docker has seen it end.
pub fn end_processes(context: &Context, member: &Member, still: Option<Still>) -> Result<(), Failure> {
    let failed = || format!("the processes of {} cannot be ended", member.name);
    match still {
        Some(still) => still.end(Verdict::Keep).or_fail(failed)?,
        None if member.init.is_alive() => {
            mend::end_silently(&context.docker, member.id.as_str(), member.init.pid).or_fail(failed)?;
        }
        None => {}
    }
    drop(context.parked_inside.take(&member.id));
    context.docker.wait_until_stopped(member.id.as_str()).or_fail(failed)
}

/// A backup is taken: the containers go on.
pub fn go_on() -> CheckpointStep {
    fn run(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
        for member in &mut operation.members {
            if let Some(still) = member.still.take() {
                still.end(Verdict::Keep).or_fail(|| format!("{} could not go on after its dump", member.name))?;
            }
            member.remove_work_directory();
            if let Some(frozen_at) = member.frozen_at {
                member.took("frozen", jiff::Timestamp::now().duration_since(frozen_at).unsigned_abs());
            }
        }
        thaw(operation)?;
        release(operation, context)
    }
    Step::new("go-on", run, nothing)
}
