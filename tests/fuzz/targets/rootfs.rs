//! A container's writable layer, made anew as root from what a stranger sent: nothing outside of its directory changes.
//!
//! To be run where a fault can do no harm; `scripts/fuzz` sees to that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use transship::archive::rootfs::apply;
use transship_fuzz::{in_two, with_checksums};

fuzz_target!(|data: &[u8]| {
    let (delta, base) = in_two(data);
    let (delta, base) = (with_checksums(delta), with_checksums(base));
    let around = tempfile::tempdir().unwrap();
    let outside = around.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), "as it was").unwrap();
    let dest = around.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let before = look(&outside);
    let _ = apply(base.as_slice(), (!delta.is_empty()).then_some(delta.as_slice()), &dest);
    assert_eq!(look(&outside), before);
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 2, "something was made beside it");
});

type Looks = (u32, u32, u64, i64, i64, usize);

/// A directory with one file, by everything that could have been changed about them.
fn look(outside: &Path) -> [Looks; 2] {
    let of = |path: &Path, contents: usize| {
        let stat = fs::symlink_metadata(path).unwrap();
        (stat.mode(), stat.uid(), stat.nlink(), stat.ctime(), stat.ctime_nsec(), contents)
    };
    let file = outside.join("a");
    let text = fs::read(&file).unwrap();
    assert_eq!(text, b"as it was");
    [of(outside, fs::read_dir(outside).unwrap().count()), of(&file, text.len())]
}
