//! What of a process's memory is still to come, as CRIU's image from a peer has it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;
use transship::criu::pagemap::{PAGE, to_come};

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|data: &[u8]| {
    fs::write(DIR.path().join("pagemap-1.img"), data).unwrap();
    let Ok(ranges) = to_come(DIR.path(), 1) else { return };
    let mut end = 0;
    for range in ranges {
        assert!(end <= range.start && range.start < range.end, "ranges go on");
        assert!(range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE), "and are of pages");
        end = range.end;
    }
});
