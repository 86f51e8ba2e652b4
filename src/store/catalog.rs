//! All checkpoints of a store.

use std::collections::BTreeSet;
use std::fs;

use super::checkpoint::Checkpoint;
use super::error::StoreError;
use super::id::{CheckpointId, ContainerId};
use super::layout::{Layout, TEMPORARY_SUFFIX};
use super::staging::Staging;
use super::{fsync, tree};

/// Shortest beginning of an id that may stand for it.
pub const MIN_PREFIX: usize = 4;

/// The checkpoints of a store. The helper is its only writer.
#[derive(Debug, Clone)]
pub struct Catalog {
    layout: Layout,
}

/// What [`Catalog::list`] found.
#[derive(Debug, Default)]
pub struct Listing {
    /// Oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// What lies among the checkpoints and cannot be used.
    pub broken: Vec<Broken>,
}

/// An entry among the checkpoints that cannot be used.
#[derive(Debug)]
pub struct Broken {
    /// The name it lies there under.
    pub entry: String,
    /// Why.
    pub reason: StoreError,
}

/// What a store takes on disk, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Each entry among the checkpoints, broken ones too.
    pub checkpoints: Vec<(String, u64)>,
    /// What is being made or deleted.
    pub staging: u64,
    /// What is left on the file system, to root.
    pub free: u64,
}

impl Catalog {
    /// The checkpoints of the store at `layout`.
    pub fn open(layout: Layout) -> Self {
        Self { layout }
    }

    /// The store's paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Starts a checkpoint under an id that is not in use.
    pub fn begin(&self, id: &CheckpointId) -> Result<Staging, StoreError> {
        Staging::create(self.layout.clone(), id.clone())
    }

    /// The checkpoint with this very id.
    pub fn get(&self, id: &CheckpointId) -> Result<Checkpoint, StoreError> {
        if self.layout.checkpoint(id).symlink_metadata().is_err() {
            return Err(StoreError::NotFound { reference: id.to_string() });
        }
        Checkpoint::open(&self.layout, id)
    }

    /// All checkpoints; one that cannot be read hides no other.
    ///
    /// # Errors
    /// When the directory itself cannot be listed.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        for entry in self.entries()? {
            match self.open_entry(&entry) {
                Ok(checkpoint) => listing.checkpoints.push(checkpoint),
                Err(reason) => listing.broken.push(Broken { entry, reason }),
            }
        }
        listing.checkpoints.sort_by(|a, b| (a.manifest().created, a.id()).cmp(&(b.manifest().created, b.id())));
        Ok(listing)
    }

    /// The checkpoint that an operator means by `reference`: its id; else its name, or a container's name or full id,
    /// which stands for that container's newest checkpoint; else at least [`MIN_PREFIX`] digits that the id of one
    /// checkpoint, or of one container, begins with.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; or [`StoreError::Ambiguous`] with all that could be meant. A name that two checkpoints
    /// have is ambiguous, and so is one that a checkpoint shares with a container whose newest is another: what is
    /// restored is never guessed.
    pub fn find(&self, reference: &str) -> Result<Checkpoint, StoreError> {
        if let Ok(id) = reference.parse::<CheckpointId>()
            && self.layout.checkpoint(&id).symlink_metadata().is_ok()
        {
            return Checkpoint::open(&self.layout, &id);
        }
        let found = self.list()?.checkpoints;
        let named = candidates(&found, |checkpoint| named(checkpoint, reference), |c| is_container(c, reference));
        let candidates = match named.is_empty() && reference.len() >= MIN_PREFIX {
            true => candidates(
                &found,
                |checkpoint| checkpoint.id().as_str().starts_with(reference),
                |checkpoint| checkpoint.manifest().container.id.as_str().starts_with(reference),
            ),
            false => named,
        };
        match candidates.as_slice() {
            [] => Err(StoreError::NotFound { reference: reference.into() }),
            [only] => Ok((*only).clone()),
            many => Err(StoreError::Ambiguous {
                reference: reference.into(),
                candidates: many.iter().map(|checkpoint| checkpoint.id().clone()).collect(),
            }),
        }
    }

    /// The directory of a checkpoint that is being made; `None` where there is none.
    pub fn staging(&self, id: &CheckpointId) -> Option<Staging> {
        Staging::reopen(self.layout.clone(), id.clone())
    }

    /// Removes a checkpoint, sound or broken. It is gone at once; deleting it may take longer and survives a crash.
    pub fn remove(&self, id: &CheckpointId) -> Result<(), StoreError> {
        let path = self.layout.checkpoint(id);
        if path.symlink_metadata().is_err() {
            return Err(StoreError::NotFound { reference: id.to_string() });
        }
        let trash = self.layout.trash_of(id, "checkpoint");
        tree::remove(&trash)?;
        fsync::move_new(&path, &trash)?;
        tree::remove(&trash)
    }

    /// Removes a checkpoint; nothing happens where there is none.
    pub fn remove_if_there(&self, id: &CheckpointId) -> Result<(), StoreError> {
        match self.remove(id) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what a crash left behind: unsealed checkpoints, half-deleted ones, temporary files. To be called when
    /// the helper starts, before any operation: it does not know what is still being made.
    ///
    /// Returns the names of what was removed.
    pub fn sweep_staging(&self) -> Result<Vec<String>, StoreError> {
        let mut swept = Vec::new();
        for dir in [self.layout.staging(), self.layout.tmp()] {
            sweep(&dir, |_| true, &mut swept)?;
        }
        let temporary = |name: &str| name.ends_with(TEMPORARY_SUFFIX);
        sweep(&self.layout.claims(), temporary, &mut swept)?;
        for entry in self.entries()? {
            let dir = self.layout.checkpoints().join(entry);
            if dir.is_dir() {
                sweep(&dir, temporary, &mut swept)?;
            }
        }
        Ok(swept)
    }

    /// What the store takes on disk.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let dir = self.layout.checkpoints();
        let checkpoints = self.entries()?.into_iter().map(|entry| {
            let bytes = tree::disk_usage(&dir.join(&entry));
            (entry, bytes)
        });
        Ok(Usage {
            checkpoints: checkpoints.collect(),
            staging: tree::disk_usage(&self.layout.staging()),
            free: self.free_bytes()?,
        })
    }

    /// What is left on the store's file system, to root.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let root = self.layout.root();
        let stat = nix::sys::statvfs::statvfs(root)
            .map_err(|errno| StoreError::io("look at the file system of", root)(errno.into()))?;
        Ok(stat.blocks_free() * stat.fragment_size())
    }

    fn entries(&self) -> Result<BTreeSet<String>, StoreError> {
        names(&self.layout.checkpoints())
    }

    fn open_entry(&self, entry: &str) -> Result<Checkpoint, StoreError> {
        let path = self.layout.checkpoints().join(entry);
        let id = entry.parse().map_err(|_| StoreError::NotACheckpoint { path })?;
        let checkpoint = Checkpoint::open(&self.layout, &id)?;
        checkpoint.form()?;
        Ok(checkpoint)
    }
}

/// Checkpoints that `mine` picks, and the newest of each container that `container` picks.
fn candidates(
    sorted: &[Checkpoint],
    mine: impl Fn(&Checkpoint) -> bool,
    container: impl Fn(&Checkpoint) -> bool,
) -> Vec<&Checkpoint> {
    let mut seen: BTreeSet<&ContainerId> = BTreeSet::new();
    let newest_first = sorted.iter().rev();
    newest_first
        .filter(|checkpoint| {
            let newest = container(checkpoint) && seen.insert(&checkpoint.manifest().container.id);
            newest || mine(checkpoint)
        })
        .collect()
}

fn named(checkpoint: &Checkpoint, reference: &str) -> bool {
    checkpoint.manifest().name.as_ref().is_some_and(|name| name.as_str() == reference)
}

fn is_container(checkpoint: &Checkpoint, reference: &str) -> bool {
    let container = &checkpoint.manifest().container;
    container.name == reference || container.id.as_str() == reference
}

fn names(dir: &std::path::Path) -> Result<BTreeSet<String>, StoreError> {
    let entries = fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        // A name that is not text is no checkpoint's; shown as it can be.
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect::<Result<_, _>>().map_err(StoreError::io("list", dir))
}

fn sweep(dir: &std::path::Path, which: impl Fn(&str) -> bool, swept: &mut Vec<String>) -> Result<(), StoreError> {
    let entries = fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if which(&name) {
            tree::remove(&entry.path())?;
            swept.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{catalog, fill, sealed, sealed_with};
    use jiff::ToSpan;

    /// Three checkpoints: two of `web`, the newer without a name, and one of `db`.
    fn three(catalog: &Catalog) -> [CheckpointId; 3] {
        let make = |id: &str, name: Option<&str>, container: &str, digit: &str, hours: i64| {
            let checkpoint = sealed_with(catalog, |m| {
                m.id = id.parse().unwrap();
                m.name = name.map(|name| name.parse().unwrap());
                m.container.name = container.into();
                m.container.id = digit.repeat(64).parse().unwrap();
                m.created += hours.hours();
            });
            checkpoint.id().clone()
        };
        [
            make("aaaa000000000001", Some("gold"), "web", "1", 0),
            make("aaaa000000000002", None, "web", "1", 1),
            make("bbbb000000000003", Some("web2"), "db", "2", 2),
        ]
    }

    #[test]
    fn references_are_found_in_every_form() {
        let (_dir, catalog) = catalog();
        let [gold, newer, db] = three(&catalog);
        let find = |reference: &str| catalog.find(reference).map(|checkpoint| checkpoint.id().clone());
        assert_eq!(find(gold.as_str()).unwrap(), gold);
        assert_eq!(find("gold").unwrap(), gold);
        assert_eq!(find("web").unwrap(), newer);
        assert_eq!(find(&"1".repeat(64)).unwrap(), newer);
        assert_eq!(find("111111111111").unwrap(), newer);
        assert_eq!(find("bbbb").unwrap(), db);
        assert_eq!(find("aaaa000000000001").unwrap(), gold);
        assert!(matches!(find("bbb"), Err(StoreError::NotFound { .. })));
        assert!(matches!(find("../x"), Err(StoreError::NotFound { .. })));
        match find("aaaa") {
            Err(StoreError::Ambiguous { candidates, .. }) => assert_eq!(candidates, [newer, gold]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_shared_with_a_container_is_not_guessed() {
        let (_dir, catalog) = catalog();
        three(&catalog);
        sealed_with(&catalog, |m| {
            m.name = Some("web".parse().unwrap());
            m.container.id = "3".repeat(64).parse().unwrap();
            m.container.name = "other".into();
        });
        assert!(matches!(catalog.find("web"), Err(StoreError::Ambiguous { candidates, .. }) if candidates.len() == 2));
    }

    #[test]
    fn broken_entries_are_reported_and_hide_no_other() {
        let (_dir, catalog) = catalog();
        let good = sealed(&catalog);
        let (no_images, no_json) = (sealed(&catalog), sealed(&catalog));
        fs::remove_dir_all(no_images.images_dir()).unwrap();
        fs::write(no_json.manifest_path(), b"{\"format\": 1, \"id\": [").unwrap();
        fs::create_dir(catalog.layout().checkpoints().join("0000000000000000")).unwrap();
        fs::write(catalog.layout().checkpoints().join("lost+found"), b"").unwrap();
        let listing = catalog.list().unwrap();
        assert_eq!(listing.checkpoints.len(), 1);
        assert_eq!(listing.checkpoints[0].id(), good.id());
        assert_eq!(listing.broken.len(), 4);
        assert!(catalog.find("web").is_ok());
        catalog.remove(no_json.id()).unwrap();
        assert_eq!(catalog.list().unwrap().broken.len(), 3);
    }

    #[test]
    fn a_sweep_leaves_whole_checkpoints_and_nothing_else() {
        let (_dir, catalog) = catalog();
        let kept = sealed(&catalog);
        let staging = catalog.begin(&CheckpointId::random().unwrap()).unwrap();
        fill(staging.dir());
        fs::create_dir(catalog.layout().trash_of(kept.id(), "images")).unwrap();
        fs::write(kept.dir().join("images.tar.zst.tmp"), b"half").unwrap();
        fs::write(catalog.layout().tmp().join("x"), b"").unwrap();
        assert_eq!(catalog.sweep_staging().unwrap().len(), 4);
        assert_eq!(catalog.list().unwrap().checkpoints.len(), 1);
        assert_eq!(catalog.usage().unwrap().checkpoints.len(), 1);
        assert!(!kept.dir().join("images.tar.zst.tmp").exists());
        kept.verify(&|_| ()).unwrap();
        assert!(catalog.sweep_staging().unwrap().is_empty());
    }

    #[test]
    fn a_removed_checkpoint_is_gone() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        catalog.remove(checkpoint.id()).unwrap();
        assert!(matches!(catalog.remove(checkpoint.id()), Err(StoreError::NotFound { .. })));
        assert!(matches!(catalog.get(checkpoint.id()), Err(StoreError::NotFound { .. })));
        assert_eq!(fs::read_dir(catalog.layout().staging()).unwrap().count(), 0);
    }
}
