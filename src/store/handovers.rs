//! Where migrations stand, on either side: one small file for each, on disk before anybody is told (I1, I3).
//!
//! What a destination has dropped is kept until its source is no peer any more: a commit that comes late has to find it.

use super::error::StoreError;
use super::fsync;
use super::id::CheckpointId;
use super::layout::{HANDOVERS, Layout, TEMPORARY_SUFFIX};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::path::PathBuf;

/// A standing is a word or two, and what belongs to it a few hundred bytes.
const LARGEST: u64 = 64 << 10;

/// Docker's label on what a migration makes, with its id: what somebody else has made under the same name meanwhile is not taken
/// for it.
pub const LABEL: &str = "transship.migration";

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A container that leaves this host.
    Departure,
    /// One that comes to it.
    Arrival,
    /// Ports whose visitors are led after one that has left.
    Forward,
    /// Containers that have left and are to come back.
    Evacuated,
    /// Images that have come for containers or checkpoints.
    Brought,
}

impl About {
    fn suffix(self) -> &'static str {
        match self {
            Self::Departure => ".departure",
            Self::Arrival => ".arrival",
            Self::Forward => ".forward",
            Self::Evacuated => ".evacuated",
            Self::Brought => ".brought",
        }
    }
}

/// The directory of standings. A migration has the id of the checkpoint that it moves.
#[derive(Debug, Clone)]
pub struct Handovers {
    directory: PathBuf,
}

impl Handovers {
    /// Those of a store.
    pub fn of(layout: &Layout) -> Self {
        Self { directory: layout.root().join(HANDOVERS) }
    }

    /// Writes a standing down; returns when it is on disk.
    pub fn put(&self, about: About, id: &CheckpointId, standing: &impl Serialize) -> Result<(), StoreError> {
        let path = self.path(about, id);
        let json = serde_json::to_vec(standing).map_err(io::Error::from).map_err(StoreError::io("write", &path))?;
        // What could not be read again would never be forgotten either.
        if json.len() as u64 > LARGEST {
            return Err(StoreError::io("write", &path)(io::ErrorKind::FileTooLarge.into()));
        }
        let temporary = self.directory.join(format!("{id}{}{TEMPORARY_SUFFIX}", about.suffix()));
        fsync::write_atomically(&path, &temporary, &json)?;
        fsync::directory(&self.directory)
    }

    /// What was written down; `None` where nothing was.
    pub fn get<T: DeserializeOwned>(&self, about: About, id: &CheckpointId) -> Result<Option<T>, StoreError> {
        let path = self.path(about, id);
        let file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StoreError::io("open", &path))?,
        };
        let mut json = Vec::new();
        file.take(LARGEST).read_to_end(&mut json).map_err(StoreError::io("read", &path))?;
        let read = serde_json::from_slice(&json).map_err(io::Error::from);
        read.map(Some).map_err(StoreError::io("read", &path))
    }

    /// Forgets one.
    pub fn remove(&self, about: About, id: &CheckpointId) -> Result<(), StoreError> {
        let path = self.path(about, id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => fsync::directory(&self.directory),
        }
    }

    /// The migrations of which something is written down.
    pub fn all(&self, about: About) -> Vec<CheckpointId> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(about.suffix())?.parse().ok()).collect()
    }

    fn path(&self, about: About, id: &CheckpointId) -> PathBuf {
        self.directory.join(format!("{id}{}", about.suffix()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::catalog;

    #[test]
    fn i5_what_could_not_be_read_again_is_not_written() {
        let (_dir, catalog) = catalog();
        let (id, handovers) = (CheckpointId::random().unwrap(), Handovers::of(catalog.layout()));
        handovers.put(About::Brought, &id, &"small").unwrap();
        let large = "x".repeat(usize::try_from(LARGEST).unwrap());
        assert!(handovers.put(About::Brought, &id, &large).is_err());
        assert_eq!(handovers.get::<String>(About::Brought, &id).unwrap().as_deref(), Some("small"));
    }

    #[test]
    fn i3_what_was_written_down_is_found_by_whoever_comes_next() {
        let (_dir, catalog) = catalog();
        let id = CheckpointId::random().unwrap();
        let handovers = Handovers::of(catalog.layout());
        assert_eq!(handovers.get::<String>(About::Arrival, &id).unwrap(), None);
        handovers.put(About::Arrival, &id, &"dropped").unwrap();
        let later = Handovers::of(catalog.layout());
        assert_eq!(later.get::<String>(About::Arrival, &id).unwrap().as_deref(), Some("dropped"));
        assert_eq!(later.get::<String>(About::Departure, &id).unwrap(), None);
        assert_eq!(later.all(About::Arrival), std::slice::from_ref(&id));
        later.remove(About::Arrival, &id).unwrap();
        assert_eq!(later.all(About::Arrival), []);
    }
}
