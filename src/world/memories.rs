//! Memory of containers that stand still here and run elsewhere already: it is read until all of it has followed them.

use crate::checkpoint::memory::FrozenMemory;
use crate::store::CheckpointId;
use std::sync::{Arc, PoisonError, RwLock};

/// The memory of one container, lent to its migration's destination.
#[derive(Debug, Clone)]
pub struct Memory {
    migration: CheckpointId,
    /// Nothing once it is taken back.
    memory: Arc<RwLock<Option<FrozenMemory>>>,
}

impl Memory {
    /// Lent for a migration.
    pub fn of(migration: CheckpointId, memory: FrozenMemory) -> Self {
        Self { migration, memory: Arc::new(RwLock::new(Some(memory))) }
    }

    /// Whether it is lent for this one.
    pub fn is_of(&self, migration: &CheckpointId) -> bool {
        self.migration == *migration
    }

    /// Does something with it; nothing where it was taken back.
    pub fn with<T>(&self, act: impl FnOnce(&FrozenMemory) -> T) -> Option<T> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
    }

    /// Takes it back; returns when nobody reads in it. The processes may go on afterwards: what is read of them then would
    /// not be what was frozen.
    pub fn close(&self) {
        *self.memory.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
