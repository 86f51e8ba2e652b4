//! `import`: a checkpoint from one file.

use crate::archive::export::{self, ImportOptions};
use crate::failure::{Failure, OrFail};
use crate::store::staging::Durability;
use crate::world::Context;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads the file and verifies every byte of it before it becomes a checkpoint.
pub fn run(context: &Context, path: &Path) -> Result<Value, Failure> {
    let cannot = || format!("{} cannot be imported", path.display());
    let file = File::open(path).or_fail(cannot)?;
    let length = file.metadata().or_fail(cannot)?.len();
    let done = AtomicU64::new(0);
    let read = |bytes| context.told.bytes("read", done.fetch_add(bytes, Ordering::Relaxed) + bytes, length);
    let free = context.catalog.usage().or_fail(cannot)?.free;
    let options = ImportOptions { max_bytes: free, durability: Durability::Immediate, read: &read, verified: &|_| {} };
    let checkpoint = export::import(file, &context.catalog, options).or_fail(cannot)?;
    Ok(json!({ "id": checkpoint.id(), "container": checkpoint.manifest().container.name }))
}
