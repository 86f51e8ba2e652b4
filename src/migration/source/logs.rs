//! What containers have written so far (`docker logs`), where Docker keeps it in files of its own (json-file).
//!
//! ```text
//!  while it runs      base: what there is        rotated-1, rotated-2.gz …: what Docker has put aside
//!  standing still     rest: what came since; where Docker has put the file aside meanwhile, its end and all of the new one
//! ```
//!
//! Docker appends to the file where it finds one, and has rotated logs by number ([moby's `loggerutils/logfile.go`]).

use crate::failure::{Failure, OrFail};
use crate::migration::logs::{BASE, REST, all_rotated, rotated};
use crate::operations::checkpoint::Member;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A container's log that is being copied.
#[derive(Debug)]
pub struct Log {
    /// The container's number in its group.
    number: usize,
    path: PathBuf,
    /// Held open: Docker may rename it.
    file: File,
    copied: u64,
}

/// Copies what there is while the containers run.
pub fn copy(members: &[Member]) -> Result<Vec<Log>, Failure> {
    let mut logs = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let Some(path) = path_of(member) else { continue };
        let failed = || format!("the log of {} cannot be copied", member.name);
        let mut file = match File::open(&path) {
            // Nothing was written yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.or_fail(failed)?,
        };
        let extra = extra(member)?;
        let copied = io::copy(&mut file, &mut create(&extra, BASE).or_fail(failed)?).or_fail(failed)?;
        for (rotated_number, compressed) in all_rotated() {
            let put_aside = PathBuf::from(format!("{}.{rotated_number}{compressed}", path.display()));
            match std::fs::copy(put_aside, extra.join(rotated(rotated_number, compressed))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).or_fail(failed),
                _ => {}
            }
        }
        logs.push(Log { number, path, file, copied });
    }
    Ok(logs)
}

/// Copies what has come since, now that they stand still.
pub fn copy_rest(logs: &mut [Log], members: &[Member]) -> Result<(), Failure> {
    for log in logs {
        let member = &members[log.number];
        let failed = || format!("the log of {} cannot be copied", member.name);
        let rest = create(&extra(member)?, REST).or_fail(failed)?;
        log.copy_rest(rest).or_fail(failed)?;
    }
    Ok(())
}

impl Log {
    fn copy_rest(&mut self, mut to: File) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.copied))?;
        io::copy(&mut self.file.by_ref(), &mut to)?;
        let (known, present) = (self.file.metadata()?, std::fs::metadata(&self.path)?);
        if (known.dev(), known.ino()) != (present.dev(), present.ino()) {
            io::copy(&mut File::open(&self.path)?, &mut to)?;
        }
        Ok(())
    }
}

fn path_of(member: &Member) -> Option<PathBuf> {
    let driver = member.inspect.pointer("/HostConfig/LogConfig/Type")?.as_str()?;
    let path = member.inspect["LogPath"].as_str().filter(|path| !path.is_empty())?;
    (driver == "json-file").then(|| path.into())
}

fn extra(member: &Member) -> Result<PathBuf, Failure> {
    member.staging()?.extra().or_fail(|| format!("the store cannot take the log of {}", member.name))
}

fn create(extra: &Path, name: &str) -> io::Result<File> {
    let path = extra.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::create_new(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_written_since_comes_along_even_where_the_file_was_put_aside_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("json.log");
        std::fs::write(&path, "one\n").unwrap();
        let mut log = Log { number: 0, file: File::open(&path).unwrap(), path: path.clone(), copied: 4 };
        File::options().append(true).open(&path).unwrap().write_all(b"two\n").unwrap();
        let rest = directory.path().join("rest");
        log.copy_rest(File::create(&rest).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&rest).unwrap(), "two\n");
        std::fs::rename(&path, directory.path().join("json.log.1")).unwrap();
        std::fs::write(&path, "three\n").unwrap();
        log.copy_rest(File::create(&rest).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&rest).unwrap(), "two\nthree\n");
    }
}
