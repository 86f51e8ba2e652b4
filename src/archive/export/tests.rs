use std::fs;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::archive::tar::TarReader;
use crate::store::checkpoint::Form;
use crate::store::staging::Durability;
use crate::store::testing::{catalog, sealed};

static GO: AtomicBool = AtomicBool::new(false);

fn watch() -> Watch<'static> {
    Watch { progress: &|_| (), cancel: &GO }
}

fn exported(checkpoint: &Checkpoint) -> Vec<u8> {
    export(checkpoint, Vec::new(), Compression::default(), watch()).unwrap()
}

fn sample() -> (TempDir, Checkpoint, Vec<u8>) {
    let (dir, catalog) = catalog();
    let checkpoint = sealed(&catalog);
    let bytes = exported(&checkpoint);
    (dir, checkpoint, bytes)
}

fn options() -> ImportOptions<'static> {
    ImportOptions { max_bytes: 1 << 20, durability: Durability::Deferred, read: &|_| (), verified: &|_| () }
}

/// Imports into a new store; looks that an error leaves nothing, and that success brings exactly the original.
fn imported(bytes: &[u8], original: &Checkpoint) -> Result<(), ExportError> {
    let (_dir, catalog) = catalog();
    let outcome = import(bytes, &catalog, options());
    for dir in [catalog.layout().staging(), catalog.layout().tmp()] {
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "left something");
    }
    let listing = catalog.list().unwrap();
    assert!(listing.broken.is_empty());
    match outcome {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.manifest_digest(), original.manifest_digest());
            assert_eq!(listing.checkpoints.len(), 1);
            checkpoint.verify(&|_| ()).unwrap();
            Ok(())
        }
        Err(error) => {
            assert!(listing.checkpoints.is_empty(), "a failed import is visible");
            Err(error)
        }
    }
}

#[test]
fn raw_and_packed_checkpoints_survive_and_stay_as_they_are() {
    let (dir, checkpoint, bytes) = sample();
    imported(&bytes, &checkpoint).unwrap();
    assert_eq!(checkpoint.form().unwrap(), Form::Raw);
    checkpoint.pack(Compression::default(), watch()).unwrap();
    imported(&exported(&checkpoint), &checkpoint).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("store/tmp")).unwrap().count(), 0);
}

#[test]
fn a_checkpoint_that_is_there_is_not_replaced() {
    let (_dir, catalog) = catalog();
    let checkpoint = sealed(&catalog);
    let refused = import(exported(&checkpoint).as_slice(), &catalog, options());
    assert!(matches!(refused, Err(ExportError::Store(StoreError::Exists { .. }))));
    checkpoint.verify(&|_| ()).unwrap();
}

#[test]
fn i4_a_damaged_checkpoint_is_not_exported() {
    let (_dir, checkpoint, _) = sample();
    checkpoint.pack(Compression::default(), watch()).unwrap();
    let path = checkpoint.dir().join(layout::PACKED_IMAGES);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(export(&checkpoint, Vec::new(), Compression::default(), watch()).is_err());
}

#[test]
fn a_checkpoint_over_the_limit_is_refused_before_anything_is_written() {
    let (_dir, checkpoint, bytes) = sample();
    let (_other, catalog) = catalog();
    let limited = ImportOptions { max_bytes: checkpoint.manifest().total_bytes() - 1, ..options() };
    assert!(matches!(import(bytes.as_slice(), &catalog, limited), Err(ExportError::TooLarge { .. })));
}

/// Names and contents.
type Members = Vec<(String, Vec<u8>)>;

/// The members of an export, to be put together differently.
fn members(bytes: &[u8]) -> Members {
    let mut tar = TarReader::new(bytes);
    let mut members = Vec::new();
    while let Some(member) = tar.next_member().unwrap() {
        let mut data = Vec::new();
        tar.read_to_end(&mut data).unwrap();
        members.push((member.meta.display_path(), data));
    }
    members
}

fn assemble(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    members.iter().for_each(|(name, data)| append_bytes(&mut tar, name, data).unwrap());
    tar.finish().unwrap()
}

#[test]
fn foreign_versions_strangers_and_repetitions_are_refused() {
    let (_dir, checkpoint, bytes) = sample();
    let good = members(&bytes);
    assert_eq!(good.len(), 6);
    imported(&assemble(&good), &checkpoint).unwrap();
    let refused = |change: &dyn Fn(&mut Members)| {
        let mut changed = good.clone();
        change(&mut changed);
        imported(&assemble(&changed), &checkpoint).unwrap_err()
    };
    let foreign = refused(&|m| m[0].1 = b"{\"format\": 2}".to_vec());
    assert!(matches!(foreign, ExportError::Format { found: 2 }));
    assert!(matches!(refused(&|m| m[0].1 = b"[]".to_vec()), ExportError::Json { .. }));
    assert!(matches!(refused(&|m| m[1].1.push(b' ')), ExportError::ManifestDigest { .. }));
    for index in 0..good.len() {
        refused(&|m| _ = m.remove(index));
        refused(&|m| m.insert(index, good[index].clone()));
        refused(&|m| m[index].0 = format!("../{}", m[index].0));
        refused(&|m| m[index].1.push(0));
        refused(&|m| _ = m[index].1.pop());
    }
    let stranger = refused(&|m| m.push(("extra/../../../etc/cron.d/x".into(), b"x".to_vec())));
    assert!(matches!(stranger, ExportError::Archive(ArchiveError::UnexpectedMember { .. })));
    assert!(matches!(refused(&|m| m[2].1 = vec![0; 1 << 20]), ExportError::Archive(ArchiveError::Length { .. })));
    let trailing = [bytes.as_slice(), b"x"].concat();
    assert!(imported(&trailing, &checkpoint).is_err());
}

#[test]
fn every_class_of_truncation_is_refused() {
    let (_dir, checkpoint, bytes) = sample();
    // Every block's start, its neighbours and its middle: within headers, contents, padding, and between members.
    for start in (0..bytes.len() - 1024).step_by(512) {
        for cut in [start, start + 1, start + 256, start + 511] {
            assert!(imported(&bytes[..cut], &checkpoint).is_err(), "{cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn i4_flipped_bits_never_bring_other_contents(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (_dir, checkpoint, mut bytes) = sample();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // `imported` compares what came with the original.
        let _ = imported(&bytes, &checkpoint);
    }
}
