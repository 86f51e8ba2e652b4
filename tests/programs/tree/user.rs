//! A process of another user, with memory and a file of its own.

use super::Turn;
use super::board::{ensure, failed};
use crate::common::payload;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, getresuid, setgid, setgroups, setuid};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const OTHER: u32 = 33;
const GROUPS: [u32; 2] = [33, 4242];
const PAGE: usize = 4096;
const PAGES: usize = 512;

pub fn role(directory: &Path) -> Result<Turn, String> {
    // A container that runs as another user from the beginning cannot change.
    let changes = geteuid().is_root();
    if changes {
        setgroups(&GROUPS.map(Gid::from_raw)).map_err(failed("setgroups"))?;
        setgid(Gid::from_raw(OTHER)).map_err(failed("setgid"))?;
        setuid(Uid::from_raw(OTHER)).map_err(failed("setuid"))?;
    }
    let [user, group] = [geteuid().as_raw(), getegid().as_raw()];
    let groups = getgroups().map_err(failed("getgroups"))?;
    let path = directory.join("tree-user");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).open(&path).map_err(failed("file"))?;
    let mut memory = vec![0; PAGES * PAGE];
    memory.chunks_exact_mut(PAGE).enumerate().for_each(|(number, page)| payload::page(number as u64, 0, page));
    let mut versions = vec![0; PAGES];
    let mut turns = 0_usize;
    let turn = move || {
        let ids = getresuid().map_err(failed("getresuid"))?;
        let same = [ids.real, ids.effective, ids.saved].iter().all(|id| id.as_raw() == user);
        ensure(same && getegid().as_raw() == group, || format!("it runs as {ids:?}"))?;
        let now = getgroups().map_err(failed("getgroups"))?;
        ensure(now == groups, || format!("its groups are {now:?} instead of {groups:?}"))?;
        if changes {
            ensure(setuid(Uid::from_raw(0)).is_err(), || "it may become root".into())?;
        }
        let number = turns % PAGES;
        let (page, mut wanted) = (&mut memory[number * PAGE..(number + 1) * PAGE], [0; PAGE]);
        payload::page(number as u64, versions[number], &mut wanted);
        ensure(page == wanted, || format!("page {number} is not what it was"))?;
        versions[number] += 1;
        payload::page(number as u64, versions[number], page);
        turns += 1;
        file.write_all_at(page, 0).map_err(failed("file"))?;
        let owner = file.metadata().map_err(failed("file"))?.uid();
        ensure(owner == user, || format!("its file is {owner}'s"))
    };
    Ok(Box::new(turn))
}
