//! A large file that is deleted and still open, a file that grows, and a place in a file.

use super::Turn;
use super::board::{ensure, failed};
use crate::common::payload;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

const BLOCK: usize = 64 << 10;
const BLOCKS: u64 = 128;
/// Lines of the growing file are all this long.
const LINE: usize = 24;

pub fn role(directory: &Path) -> Result<Turn, String> {
    let mut deleted = Deleted::new(directory)?;
    let mut growing = Growing::new(directory)?;
    let mut reader = File::open(directory.join("tree.log")).map_err(failed("tree.log"))?;
    reader.seek(SeekFrom::Start(7)).map_err(failed("seek"))?;
    let turn = move || {
        deleted.turn()?;
        growing.turn()?;
        let place = reader.stream_position().map_err(failed("seek"))?;
        ensure(place == 7, || format!("the place in a file is {place} instead of 7"))
    };
    Ok(Box::new(turn))
}

struct Deleted {
    file: File,
    versions: Vec<u64>,
    turns: u64,
}

impl Deleted {
    fn new(directory: &Path) -> Result<Self, String> {
        let path = directory.join("tree-deleted");
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).open(&path).map_err(failed("deleted file"))?;
        std::fs::remove_file(&path).map_err(failed("deleted file"))?;
        let this = Self { file, versions: vec![0; BLOCKS as usize], turns: 0 };
        (0..BLOCKS).try_for_each(|block| this.write(block, 0))?;
        Ok(this)
    }

    fn turn(&mut self) -> Result<(), String> {
        let block = self.turns % BLOCKS;
        let version = &mut self.versions[block as usize];
        let (mut found, mut wanted) = (vec![0; BLOCK], vec![0; BLOCK]);
        self.file.read_exact_at(&mut found, block * BLOCK as u64).map_err(failed("deleted file"))?;
        payload::page(block, *version, &mut wanted);
        ensure(found == wanted, || format!("block {block} of the deleted file is not its version {version}"))?;
        *version += 1;
        let version = *version;
        self.turns += 1;
        self.write(block, version)
    }

    fn write(&self, block: u64, version: u64) -> Result<(), String> {
        let mut bytes = vec![0; BLOCK];
        payload::page(block, version, &mut bytes);
        self.file.write_all_at(&bytes, block * BLOCK as u64).map_err(failed("deleted file"))
    }
}

/// A log: only ever added to.
struct Growing {
    file: File,
    lines: u64,
}

impl Growing {
    fn new(directory: &Path) -> Result<Self, String> {
        let path = directory.join("tree.log");
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed("tree.log"))?;
        Ok(Self { file, lines: 0 })
    }

    fn turn(&mut self) -> Result<(), String> {
        self.file.write_all(line(self.lines).as_bytes()).map_err(failed("tree.log"))?;
        self.lines += 1;
        let length = self.file.metadata().map_err(failed("tree.log"))?.len();
        ensure(length == self.lines * LINE as u64, || {
            format!("tree.log has {length} bytes after {} lines", self.lines)
        })?;
        for number in [self.lines / 2, self.lines - 1] {
            let mut found = [0; LINE];
            self.file.read_exact_at(&mut found, number * LINE as u64).map_err(failed("tree.log"))?;
            ensure(found == line(number).as_bytes(), || format!("line {number} of tree.log is {found:?}"))?;
        }
        Ok(())
    }
}

fn line(number: u64) -> String {
    format!("line {number:018}\n")
}
