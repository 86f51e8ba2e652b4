//! The tar reader, extended headers and sparse maps with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use transship::archive::tar::{BLOCK, MAX_SPARSE_SEGMENTS, TarReader};
use transship_fuzz::{drain, with_checksums};

fuzz_target!(|data: &[u8]| {
    let bytes = with_checksums(data);
    let mut tar = TarReader::new(bytes.as_slice());
    let mut last = None;
    while let Ok(Some(member)) = tar.next_member() {
        assert!(last < Some(member.offset), "members go on");
        assert!(tar.offset() <= bytes.len() as u64 && member.offset.is_multiple_of(BLOCK));
        assert!(!member.meta.path.contains(&0) && !member.meta.link.contains(&0), "a path is one for the kernel");
        if let Some(segments) = &member.segments {
            assert!(segments.len() <= MAX_SPARSE_SEGMENTS);
            let ends = segments.iter().map(|(offset, length)| offset.checked_add(*length).expect("a segment ends"));
            assert!(ends.into_iter().all(|end| end <= member.length), "no segment is behind the file's end");
        }
        last = Some(member.offset);
        if member.offset.is_multiple_of(2 * BLOCK) {
            drain(&mut tar, u64::MAX);
        }
    }
    let _ = tar.finish();
});
