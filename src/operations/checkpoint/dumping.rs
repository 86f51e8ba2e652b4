//! One container's dump, and what is undone of it.

use super::Member;
use super::packets::{hold_late_ones, network_unreadable, own_network};
use crate::checkpoint::dump::{Dump, DumpError, Still, Verdict};
use crate::checkpoint::{describe, freezer, mend};
use crate::failure::{Failure, OrFail};
use crate::network::remembered::Remembered;
use crate::process;
use crate::store::{CheckpointId, ContainerId, logs};
use crate::world::Context;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What all members of a group are dumped by.
pub struct Group {
    /// Whose claim decides.
    pub leader: (ContainerId, CheckpointId),
    /// Whether they run on.
    pub leave_running: bool,
    /// Whether their memory stays in the processes.
    pub memory_follows: bool,
    /// Whether CRIU locks networks by nftables.
    pub nftables: bool,
}

/// Dumps one; its processes stand still then and wait for the verdict.
pub fn dump_member(member: &mut Member, group: &Group, context: &Context) -> Result<(), Failure> {
    let begun = Instant::now();
    let images = member.staging()?.images();
    let work = make_work_directory(member).or_fail(|| member.store_failed())?;
    let dump = Dump {
        container: member.id.clone(),
        leader: group.leader.clone(),
        images: &images,
        work: &work,
        watched: &member.watched,
        nftables: group.nftables,
        leave_running: group.leave_running,
        skip_in_flight: false,
        memory_follows: group.memory_follows,
    };
    let (spec, queue, netns) = (own_network(member)?, member.queue, member.network_namespace()?);
    let (still, network) = std::thread::scope(|threads| {
        // Nothing of it changes any more, and the kernel's table of connections takes its time to read.
        let read = |spec| Remembered::standing_still(spec, queue, &netns);
        let remembering = threads.spawn(move || spec.map(read).transpose());
        let still = dump_one(&dump, context).map_err(|error| dump_failed(member, &error, context));
        (still, remembering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    member.still = Some(still?);
    member.network = network.or_fail(|| network_unreadable(member))?;
    hold_late_ones(member, context)?;
    member.pages_bytes = describe::pages_bytes(&images);
    member.took("dump", begun.elapsed());
    Ok(())
}

/// CRIU lets the processes go on; what a CRIU that was killed has left in them is mended.
pub fn go_on_after_dump(member: &mut Member) -> Result<(), Failure> {
    let failed = || format!("what the dump left in {} cannot be taken away", member.name);
    let is_alive = member.init.is_alive();
    match member.still.take() {
        Some(still) => still.end(Verdict::GiveUp).or_fail(failed)?,
        None if is_alive => {
            let dumps = mend::dumps(&member.work_directory());
            if !(member.is_paused && dumps.is_empty()) {
                // Whatever keeps CRIU waiting, it is not the freezer any more.
                freezer::thaw(member.init.pid).or_fail(failed)?;
            }
            dumps.into_iter().for_each(process::wait_for_end);
            if member.is_paused {
                freezer::freeze(member.init.pid).or_fail(failed)?;
            }
        }
        None => {}
    }
    member.remove_work_directory();
    match is_alive {
        true => mend::after_dump(member.init.pid).or_fail(failed),
        false => Ok(()),
    }
}

fn dump_one(dump: &Dump<'_>, context: &Context) -> Result<Still, DumpError> {
    match dump.run(&context.dumps) {
        // The application does not accept it: the connection is dropped, and its client connects anew.
        Err(error) if error.is_in_flight() => {
            // Whoever follows what is written takes the next files for others.
            empty(dump.images).map_err(|source| DumpError::Prepare { path: dump.images.to_owned(), source })?;
            Dump { skip_in_flight: true, ..dump.clone() }.run(&context.dumps)
        }
        other => other,
    }
}

fn empty(images: &Path) -> std::io::Result<()> {
    std::fs::read_dir(images)?.try_for_each(|image| std::fs::remove_file(image?.path()))
}

fn dump_failed(member: &Member, error: &DumpError, context: &Context) -> Failure {
    let failure = Failure::new(format!("{} cannot be dumped", member.name)).because(error);
    let mut details = error.log().to_vec();
    if !details.is_empty() {
        let kept = context.logs.keep(&member.checkpoint, logs::Of::Dump, &member.work_directory().join("dump.log"));
        details.push(match kept {
            Ok(path) => format!("CRIU's whole log: {}", path.display()),
            Err(error) => format!("CRIU's log could not be kept: {error}"),
        });
    }
    failure.details(details).remedy(format!("see what stands against it: transship check {}", member.name))
}

fn make_work_directory(member: &Member) -> std::io::Result<PathBuf> {
    let work = member.work_directory();
    std::fs::create_dir_all(&work)?;
    std::fs::set_permissions(&work, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(work)
}
