//! What a container has written where it comes from, where Docker here looks for it.

use crate::migration::logs::{BASE, REST, all_rotated, rotated};
use crate::store::{Checkpoint, ContainerId, layout};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Puts the logs that a checkpoint brings in place, and nothing where it brings none. `root` is Docker's own directory.
pub fn put(root: &Path, container: &ContainerId, checkpoint: &Checkpoint) -> io::Result<()> {
    let brought = |name: &str| checkpoint.dir().join(layout::EXTRA).join(name);
    let path = root.join("containers").join(container.as_str()).join(format!("{container}-json.log"));
    write(&path, &[brought(BASE), brought(REST)])?;
    for (number, compressed) in all_rotated() {
        let put_aside = PathBuf::from(format!("{}.{number}{compressed}", path.display()));
        write(&put_aside, &[brought(&rotated(number, compressed))])?;
    }
    Ok(())
}

/// Writes the parts one behind the other; nothing where there is none of them.
fn write(to: &Path, parts: &[PathBuf]) -> io::Result<()> {
    let mut file = None;
    for part in parts {
        let mut part = match File::open(part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if file.is_none() {
            // As Docker makes them.
            file = Some(File::options().write(true).create(true).truncate(true).mode(0o640).open(to)?);
        }
        if let Some(file) = &mut file {
            io::copy(&mut part, file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_one_behind_the_other_and_replace_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("base"), "one\n").unwrap();
        std::fs::write(at("rest"), "two\n").unwrap();
        std::fs::write(at("to"), "of a start that came to nothing, and longer\n").unwrap();
        write(&at("to"), &[at("base"), at("rest")]).unwrap();
        assert_eq!(std::fs::read_to_string(at("to")).unwrap(), "one\ntwo\n");
        write(&at("none"), &[at("absent")]).unwrap();
        assert!(!at("none").exists());
    }
}
