//! A whole checkpoint in one file: what does not become a checkpoint leaves nothing, and what does is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::OnceCell;
use std::io::Write;
use tempfile::TempDir;
use transship::archive::Digest;
use transship::archive::export::{FORMAT, HEADER, ImportOptions, import};
use transship::archive::tar::{Meta, TarWriter};
use transship::store::staging::Durability;
use transship::store::{Catalog, Layout, Manifest};
use transship_fuzz::{in_two, with_checksums};

thread_local! {
    static STORE: OnceCell<(TempDir, Catalog)> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    let (manifest, rest) = in_two(data);
    let file = file(manifest, rest);
    STORE.with(|store| {
        let (_dir, catalog) = store.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::open(dir.path().join("store")).unwrap();
            (dir, Catalog::open(layout))
        });
        let options =
            ImportOptions { max_bytes: 1 << 22, durability: Durability::Deferred, read: &|_| (), verified: &|_| () };
        let imported = import(file.as_slice(), catalog, options);
        for dir in [catalog.layout().staging(), catalog.layout().tmp()] {
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "left something");
        }
        if let Ok(checkpoint) = &imported {
            checkpoint.verify(&|_| ()).unwrap();
            catalog.remove_if_there(checkpoint.id()).unwrap();
        }
        assert!(catalog.list().unwrap().checkpoints.is_empty(), "a failed import is visible");
    });
});

/// An export whose first two members fit each other: neither digest nor id is for a fuzzer to guess.
fn file(manifest: &[u8], rest: &[u8]) -> Vec<u8> {
    let id =
        Manifest::from_json(manifest).map_or_else(|_| "0123456789abcdef".into(), |manifest| manifest.id.to_string());
    let header = serde_json::json!({ "format": FORMAT, "checkpoint": id, "manifest_digest": Digest::of(manifest) });
    let mut tar = TarWriter::new(Vec::new());
    for (name, bytes) in [(HEADER, header.to_string().as_bytes()), ("manifest.json", manifest)] {
        tar.member(&Meta::plain_file(name), bytes.len() as u64).unwrap();
        tar.write_all(bytes).unwrap();
    }
    let mut file = tar.finish().unwrap();
    // Without the end marker, which is two blocks.
    file.truncate(file.len() - 1024);
    file.extend(with_checksums(rest));
    file
}
