use super::*;
use crate::archive::entry::{Digest, RelPath};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;

static GO: AtomicBool = AtomicBool::new(false);

fn watch(cancel: &AtomicBool) -> Watch<'_> {
    Watch { progress: &|_| (), cancel }
}

fn directory(files: &BTreeMap<String, Vec<u8>>) -> (TempDir, Vec<FileEntry>) {
    let dir = tempfile::tempdir().unwrap();
    let entry = |(path, bytes): (&String, &Vec<u8>)| {
        let path = RelPath::new(path.as_str()).unwrap();
        let target = path.below(dir.path());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
        FileEntry { path, length: bytes.len() as u64, blake3: Digest::of(bytes) }
    };
    let entries = files.iter().map(entry).collect();
    (dir, entries)
}

fn packed(dir: &Path, entries: &[FileEntry]) -> Result<Vec<u8>, ArchiveError> {
    pack(dir, entries, Vec::new(), Compression::default(), watch(&GO))
}

fn unpacked(bytes: &[u8], entries: &[FileEntry]) -> Result<BTreeMap<String, Vec<u8>>, ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("new");
    let outcome = unpack(bytes, entries, Some(&dest), &|_| ());
    assert_eq!(outcome.is_ok(), dest.exists(), "a failed unpack left something");
    outcome.map(|()| {
        let read = |e: &FileEntry| (e.path.to_string(), fs::read(e.path.below(&dest)).unwrap());
        entries.iter().map(read).collect()
    })
}

fn sample() -> (TempDir, Vec<FileEntry>, Vec<u8>) {
    let files = [("core-1.img", b"core".to_vec()), ("sub/pages-1.img", vec![5; 90_000])];
    let (dir, entries) = directory(&files.map(|(k, v)| (k.to_owned(), v)).into());
    let bytes = packed(dir.path(), &entries).unwrap();
    (dir, entries, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn directories_survive_the_round_trip(
        files in btree_map("[a-d]{1,3}(/[e-h]{1,3})?-x", vec(any::<u8>(), 0..5000), 0..6),
    ) {
        let (dir, entries) = directory(&files);
        prop_assert_eq!(unpacked(&packed(dir.path(), &entries).unwrap(), &entries).unwrap(), files);
    }

    #[test]
    fn i4_damage_is_never_unpacked(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        let (_dir, entries, bytes) = sample();
        let good = unpacked(&bytes, &entries).unwrap();
        prop_assert!(unpacked(&bytes[..cut.index(bytes.len())], &entries).is_err());
        let mut flipped = bytes;
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        prop_assert!(unpacked(&flipped, &entries).map_or(true, |files| files == good));
    }
}

#[test]
fn i4_a_file_that_differs_from_the_list_is_not_packed() {
    let (dir, entries, _) = sample();
    fs::write(entries[0].path.below(dir.path()), b"c0re").unwrap();
    assert!(matches!(packed(dir.path(), &entries), Err(ArchiveError::Digest { .. })));
    fs::write(entries[0].path.below(dir.path()), b"longer").unwrap();
    assert!(matches!(packed(dir.path(), &entries), Err(ArchiveError::Length { found: 5, .. })));
}

#[test]
fn members_are_held_against_the_list() {
    let (_dir, entries, bytes) = sample();
    let mut longer = entries.clone();
    longer[0].length += 1;
    assert!(matches!(unpacked(&bytes, &longer), Err(ArchiveError::Length { .. })));
    assert!(matches!(unpacked(&bytes, &entries[..1]), Err(ArchiveError::UnexpectedMember { .. })));
    let mut more = entries.clone();
    more.push(FileEntry { path: RelPath::new("zz").unwrap(), ..entries[0].clone() });
    assert!(matches!(unpacked(&bytes, &more), Err(ArchiveError::MissingMember { .. })));
}

#[test]
fn duplicates_links_and_strangers_are_refused() {
    let (_dir, entries, _) = sample();
    let archive = |members: &[Meta]| {
        let mut tar = TarWriter::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for meta in members {
            let data: &[u8] = if meta.kind == Kind::File { b"core" } else { b"" };
            tar.member(meta, data.len() as u64).unwrap();
            tar.write_all(data).unwrap();
        }
        tar.finish().unwrap().finish().unwrap()
    };
    let plain = Meta::plain_file("core-1.img");
    let twice = archive(&[plain.clone(), plain.clone()]);
    assert!(matches!(unpacked(&twice, &entries[..1]), Err(ArchiveError::DuplicateMember { offset: 1024, .. })));
    let link = archive(&[Meta { kind: Kind::Symlink, link: b"/etc/passwd".to_vec(), ..plain.clone() }]);
    assert!(matches!(unpacked(&link, &entries[..1]), Err(ArchiveError::NotRegular { .. })));
    let out = archive(&[Meta { path: b"../core-1.img".to_vec(), ..plain }]);
    assert!(matches!(unpacked(&out, &entries[..1]), Err(ArchiveError::UnexpectedMember { .. })));
}

#[test]
fn a_single_file_survives_and_trailing_data_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rootfs.tar");
    fs::write(&path, vec![3; 70_000]).unwrap();
    let entry =
        FileEntry { path: RelPath::new("rootfs.tar").unwrap(), length: 70_000, blake3: Digest::of(&vec![3; 70_000]) };
    let bytes = pack_file(&path, &entry, Vec::new(), Compression::default(), watch(&GO)).unwrap();
    let dest = dir.path().join("out");
    unpack_file(bytes.as_slice(), &entry, Some(&dest), &|_| ()).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), vec![3; 70_000]);
    assert!(unpack_file(bytes.as_slice(), &entry, Some(&dest), &|_| ()).is_err(), "overwrote a file");
    assert!(dest.exists(), "removed a file that was there before");
    let doubled = [bytes.as_slice(), bytes.as_slice()].concat();
    assert!(matches!(unpack_file(doubled.as_slice(), &entry, None, &|_| ()), Err(ArchiveError::Length { .. })));
}

#[test]
fn packing_stops_when_asked() {
    let (dir, entries, _) = sample();
    let stop = AtomicBool::new(true);
    let outcome = pack(dir.path(), &entries, Vec::new(), Compression::default(), watch(&stop));
    assert!(matches!(outcome, Err(ArchiveError::Cancelled)));
}
