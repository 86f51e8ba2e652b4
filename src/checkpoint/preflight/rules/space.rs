//! Whether there is room for the checkpoint.

use std::collections::BTreeMap;

use super::super::facts::ContainerFacts;
use super::super::{Context, Finding, Purpose};
use super::files::deleted_files;
use super::size;

/// What remains free after a checkpoint at the least, in bytes.
const RESERVE: u64 = 128 << 20;
/// Images, logs and tables on top of memory, by process, in bytes.
const BY_PROCESS: u64 = 256 << 10;

/// The rules on space.
pub(super) fn judge(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    room(facts).into_iter().chain(layer(facts, context)).collect()
}

/// Upper bound of what the checkpoint takes. Shared memory counts with every process that has it.
pub fn needed(facts: &ContainerFacts) -> u64 {
    let by_process = facts.processes.iter().map(|p| p.anonymous + p.shared + p.swapped + BY_PROCESS);
    let deleted: BTreeMap<_, _> = deleted_files(facts).map(|file| ((file.device, file.inode), file.bytes)).collect();
    let parts = by_process.chain(deleted.into_values()).chain([facts.space.tmpfs, facts.space.layer.unwrap_or(0)]);
    parts.fold(0, u64::saturating_add)
}

fn room(facts: &ContainerFacts) -> Option<Finding> {
    let needed = needed(facts);
    if needed.saturating_add(needed / 10).saturating_add(RESERVE) <= facts.space.free {
        return None;
    }
    Some(Finding::refuse(
        "space.store",
        &facts.engine.name,
        format!(
            "The checkpoint may take {}, and {} are free where checkpoints are stored.",
            size(needed),
            size(facts.space.free)
        ),
        "Free some space there, remove old checkpoints (`transship gc`), or move the store.",
    ))
}

fn layer(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let overlay = ["overlay2", "overlayfs"].contains(&facts.engine.storage_driver.as_str());
    if !overlay || facts.init().is_none() {
        return None;
    }
    let name = &facts.engine.name;
    if facts.space.layer.is_none() {
        let reason = "What the container wrote to its root filesystem cannot be read.";
        let remedy = "Run the helper where Docker's data directory is visible.";
        return Some(match context.purpose {
            Purpose::Migrate => Finding::refuse("space.layer", name, reason, remedy),
            _ => Finding::warn("space.layer", name, reason, remedy),
        });
    }
    facts.space.layer_partly.then(|| {
        Finding::warn(
            "space.layer-partly",
            name,
            "The container wrote more files to its root filesystem than were counted, so the space needed is a guess.",
            "Keep such files in a volume.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::Severity::{Refuse, Warn};
    use super::super::super::facts::{DeletedFile, FileKind, OpenFile};
    use super::super::testing::{facts, found, refused, warned};
    use super::*;

    #[test]
    fn too_little_room_is_refused() {
        let with = |free| refused(|f| f.space.free = free);
        assert_eq!(with(64 << 20), ["space.store"]);
        assert!(with(1 << 30).is_empty());
        assert_eq!(refused(|f| f.processes[1].anonymous = u64::MAX / 2), ["space.store"]);
    }

    #[test]
    fn a_deleted_file_of_two_processes_counts_once() {
        let file = DeletedFile { bytes: 1 << 20, inode: 7, ..DeletedFile::default() };
        let mut facts = facts();
        let before = needed(&facts);
        for process in &mut facts.processes {
            process.files.push(OpenFile { fd: 9, kind: FileKind::Deleted(file.clone()) });
        }
        assert_eq!(needed(&facts) - before, 1 << 20);
    }

    #[test]
    fn an_unreadable_layer_stays_on_its_host() {
        let hidden = |f: &mut ContainerFacts| f.space.layer = None;
        assert_eq!(found(Purpose::Migrate, hidden), [("space.layer", Refuse)]);
        assert_eq!(found(Purpose::Freeze, hidden), [("space.layer", Warn)]);
        assert_eq!(warned(|f| f.space.layer_partly = true), ["space.layer-partly"]);
    }
}
