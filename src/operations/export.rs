//! `export`: a checkpoint as one file.

use crate::archive::export;
use crate::archive::images::{Compression, Watch};
use crate::failure::{Failure, OrFail};
use crate::world::Context;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Writes the file, which must not exist; where that fails, nothing of it is left.
pub fn run(context: &Context, reference: &str, path: &Path) -> Result<Value, Failure> {
    let checkpoint = super::find(context, reference)?;
    let file = create(path).or_fail(|| format!("{} cannot be created", path.display()))?;
    context.packing.stop(checkpoint.id());
    let (done, total) = (AtomicU64::new(0), checkpoint.manifest().total_bytes());
    let progress = |bytes| context.told.bytes("exported", done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
    let compression = Compression { level: context.settings.compression_level, ..Compression::default() };
    let watch = Watch { progress: &progress, cancel: &AtomicBool::new(false) };
    let written = export::export(&checkpoint, BufWriter::new(&file), compression, watch);
    let synced = written
        .or_fail(|| format!("checkpoint {} cannot be exported", checkpoint.id()))
        .and_then(|_| file.sync_all().or_fail(|| format!("{} cannot be written", path.display())));
    super::pack::begin(&context.world);
    if let Err(failure) = synced {
        let _ = std::fs::remove_file(path);
        return Err(failure);
    }
    let bytes = file.metadata().map_or(0, |found| found.len());
    Ok(json!({ "id": checkpoint.id(), "file": path, "bytes": bytes }))
}

/// The file holds a container's memory: nobody but root may read it.
fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
