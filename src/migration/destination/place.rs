//! The files of containers that come, where Docker looks for them.

use super::member::Member;
use super::{Arrive, binds, logs};
use crate::archive::rootfs;
use crate::failure::{Failure, OrFail};
use crate::migration::tree;
use crate::operations::restore::put_files;
use crate::operations::several;
use crate::process;
use crate::store::{Checkpoint, layout};
use crate::world::Context;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Their writable layers, their logs, and what their volumes and binds held.
pub fn put_in_place(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
    let root = arrive.docker_root(context)?;
    several::try_each(&mut arrive.members, |member| put_one_in_place(member, &root, context))?;
    let checkpoint = context.catalog.get(&arrive.id).or_fail(|| "the volumes' files cannot be read".into())?;
    for (number, name) in arrive.volumes.iter().enumerate() {
        let told = context.docker.volume(name).or_fail(|| format!("the volume {name} cannot be looked at"))?;
        let mountpoint = PathBuf::from(told["Mountpoint"].as_str().unwrap_or_default());
        fill(&checkpoint, &tree::files(tree::VOLUMES, number), &mountpoint)?;
    }
    for (number, bind) in arrive.offer.binds.iter().enumerate().filter(|(_, bind)| bind.is_brought) {
        fill(&checkpoint, &tree::files(tree::BINDS, number), &bind.path)?;
        binds::mark(&bind.path, &arrive.id).or_fail(|| format!("{} cannot be marked", bind.path.display()))?;
    }
    (arrive.is_placed, arrive.placed_in) = (true, Some(process::boot()));
    Ok(())
}

fn put_one_in_place(member: &Member, docker_root: &Path, context: &Context) -> Result<(), Failure> {
    let failed = || format!("the files of {} cannot be put in place", member.name);
    let checkpoint = context.catalog.get(&member.checkpoint).or_fail(failed)?;
    let container = context.docker.container(member.id()?.as_str()).or_fail(failed)?;
    if let Some(upper) = container.upper_directory() {
        // A start that came to nothing has left its own there.
        empty(Path::new(upper)).or_fail(failed)?;
    }
    put_files(&container, &checkpoint)?;
    let placed = logs::put(docker_root, member.id()?, &checkpoint);
    placed.or_fail(|| format!("the log of {} cannot be put in place", member.name))
}

fn fill(checkpoint: &Checkpoint, files: &[String; 2], directory: &Path) -> Result<(), Failure> {
    let failed = || format!("the files of {} cannot be put in place", directory.display());
    // Docker has copied in what the image has there, or an earlier try has left its own.
    empty(directory).or_fail(failed)?;
    let [base, delta] = files.each_ref().map(|file| checkpoint.dir().join(layout::EXTRA).join(file));
    let base = File::open(base).or_fail(failed)?;
    let delta = File::open(delta).or_fail(failed)?;
    rootfs::apply(base, Some(delta), directory).or_fail(failed)
}

fn empty(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
