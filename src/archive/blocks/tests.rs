use super::record::Part;
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Two files, which share some of their blocks, and where the second is to go.
struct Case {
    dir: TempDir,
    old: PathBuf,
    new: PathBuf,
    target: PathBuf,
}

impl Case {
    fn new(old: &[u8], new: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let case = Self { old: path("old"), new: path("new"), target: path("target"), dir };
        fs::write(&case.old, old).unwrap();
        fs::write(&case.new, new).unwrap();
        fs::write(&case.target, b"").unwrap();
        case
    }

    fn pool(&self, cutting: Cutting) -> Pool {
        let mut pool = Pool::new();
        pool.add(&self.old, 0, cutting).unwrap();
        pool
    }

    /// What a sender knows that has asked for the new file's blocks.
    fn known(&self, pool: &Pool, cutting: Cutting) -> Arc<KnownBlocks> {
        let mut known = KnownBlocks::new();
        for some in digests(&self.file(), self.length(), cutting) {
            let some = some.unwrap();
            some.iter()
                .zip(pool.has(&some))
                .filter(|(_, has)| *has)
                .for_each(|(digest, _)| assert!(known.insert(*digest)));
        }
        Arc::new(known)
    }

    fn file(&self) -> Arc<File> {
        Arc::new(File::open(&self.new).unwrap())
    }

    fn length(&self) -> u64 {
        self.new.metadata().unwrap().len()
    }

    fn stream(&self, from: u64, cutting: Cutting, known: &Arc<KnownBlocks>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut stream = BlockStream::new(&self.file(), from, self.length(), cutting, Arc::clone(known));
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn is_there(&self) -> bool {
        fs::read(&self.target).unwrap() == fs::read(&self.new).unwrap()
    }
}

fn noise(bytes: usize, mut seed: u64) -> Vec<u8> {
    let next = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    (0..bytes).map(next).collect()
}

#[test]
fn memory_of_which_a_tenth_has_changed_travels_as_a_tenth() {
    let old = noise(9 << 20, 1);
    let mut new = old.clone();
    for page in new.chunks_mut(PAGE).step_by(10) {
        page[17] ^= 1;
    }
    new.extend([0; 3 * PAGE]);
    let case = Case::new(&old, &new);
    let pool = case.pool(Cutting::Pages);
    let known = case.known(&pool, Cutting::Pages);
    let stream = case.stream(0, Cutting::Pages, &known);
    assert!(stream.len() < new.len() * 11 / 100, "{} of {}", stream.len(), new.len());
    let literals = assemble(&mut stream.as_slice(), &case.target, (0, case.length()), &pool).unwrap();
    assert_eq!(literals, (old.len() as u64).div_ceil(10 * PAGE as u64) * PAGE as u64);
    assert!(case.is_there());
}

#[test]
fn zeros_travel_as_nothing_and_become_holes() {
    use std::os::unix::fs::MetadataExt;
    let mut new = vec![0; 20 << 20];
    new[7_000_000] = 1;
    let case = Case::new(b"", &new);
    let stream = case.stream(0, Cutting::Content, &Arc::default());
    assert!(stream.len() < 2 * MAX_BLOCK, "{}", stream.len());
    assemble(&mut stream.as_slice(), &case.target, (0, case.length()), &Pool::new()).unwrap();
    assert!(case.is_there());
    assert!(case.target.metadata().unwrap().blocks() * 512 < 4 << 20);
}

#[test]
fn a_stream_that_broke_off_is_gone_on_with() {
    let case = Case::new(&noise(2 << 20, 1), &[noise(3 << 20, 2), noise(2 << 20, 1), noise(5 << 20, 3)].concat());
    for cutting in [Cutting::Pages, Cutting::Content] {
        let pool = case.pool(cutting);
        let known = case.known(&pool, cutting);
        fs::write(&case.target, b"").unwrap();
        let (mut from, mut tries) = (0, 0);
        loop {
            let stream = case.stream(from, cutting, &known);
            let part = &stream[..stream.len().min(1 << 20)];
            match assemble(&mut &part[..], &case.target, (from, case.length()), &pool) {
                Ok(_) => break,
                Err(broken) => {
                    assert!(matches!(broken.error, BlocksError::Stream(_)), "{broken:?}");
                    assert!(broken.whole > from, "it does not get on");
                    assert_eq!(case.target.metadata().unwrap().len(), broken.whole);
                    from = broken.whole;
                }
            }
            tries += 1;
        }
        assert!(tries > 3, "it broke off {tries} times only");
        assert!(case.is_there());
    }
}

#[test]
fn i4_a_block_that_has_changed_in_the_pool_is_not_used() {
    let old = noise(1 << 20, 1);
    let case = Case::new(&old, &old);
    let pool = case.pool(Cutting::Pages);
    let known = case.known(&pool, Cutting::Pages);
    let stream = case.stream(0, Cutting::Pages, &known);
    let mut damaged = old.clone();
    damaged[5 * PAGE + 3] ^= 4;
    fs::write(&case.old, &damaged).unwrap();
    let broken = assemble(&mut stream.as_slice(), &case.target, (0, case.length()), &pool).unwrap_err();
    assert!(
        matches!(&broken.error, BlocksError::Changed { path, at, .. } if *path == case.old && *at == 5 * PAGE as u64)
    );
    assert!(broken.error.is_about_the_pool());
    fs::write(&case.old, &old[..4 * PAGE]).unwrap();
    let broken = assemble(&mut stream.as_slice(), &case.target, (0, case.length()), &pool).unwrap_err();
    assert!(broken.error.is_about_the_pool(), "{broken:?}");
    let nothing = assemble(&mut stream.as_slice(), &case.target, (0, case.length()), &Pool::new()).unwrap_err();
    assert!(matches!(nothing.error, BlocksError::Unknown { offset: 0, .. }) && nothing.whole == 0, "{nothing:?}");
}

/// What becomes of a stream of a file of 10,000 bytes.
fn refused(stream: &[u8]) -> BlocksError {
    let case = Case::new(b"", &[7; 10_000]);
    let broken = assemble(&mut &stream[..], &case.target, (0, 10_000), &Pool::new()).unwrap_err();
    assert!(case.target.metadata().unwrap().len() <= 10_000);
    broken.error
}

#[test]
fn records_that_cannot_be_are_refused_before_anything_is_allocated() {
    let with = |from: u64, length: u64, records: &[u8]| [&Part { from, length }.header()[..], records].concat();
    let record = |kind: u8, length: u32| [&[kind][..], &length.to_le_bytes()].concat();
    let stream = |records: &[u8]| with(0, 10_000, records);
    assert!(matches!(refused(b""), BlocksError::Stream(_)));
    assert!(matches!(refused(b"tsblockX and so on and so on"), BlocksError::NoBlocks));
    let mut newer = stream(b"");
    newer[8] = 9;
    assert!(matches!(refused(&newer), BlocksError::Version { found: 9, known: 1 }));
    assert!(matches!(refused(&with(5, 10_000, b"")), BlocksError::Part { found_from: 5, .. }));
    assert!(matches!(refused(&with(0, u64::MAX, b"")), BlocksError::Part { found_length: u64::MAX, .. }));
    let fault = |records: &[u8]| match refused(&stream(records)) {
        BlocksError::Record { fault, .. } => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&record(1, 0)), "is empty");
    assert_eq!(fault(&record(0, 1)), "is of no known kind");
    assert_eq!(fault(&record(3, 10_001)), "goes beyond the file's end");
    assert_eq!(fault(&record(1, u32::MAX)), "goes beyond the file's end");
    assert_eq!(fault(&[record(3, 10_000), vec![1]].concat()), "comes after the file's end");
    let case = Case::new(b"", b"");
    let long = [Part { from: 0, length: 1 << 40 }.header(), record(1, u32::MAX)].concat();
    let broken = assemble(&mut &long[..], &case.target, (0, 1 << 40), &Pool::new()).unwrap_err();
    assert!(matches!(broken.error, BlocksError::Record { fault: "is longer than a block can be", .. }));
}

#[test]
fn a_file_that_is_shorter_than_it_was_breaks_the_stream_off() {
    let case = Case::new(b"", &noise(5 << 20, 1));
    let mut stream = BlockStream::new(&case.file(), 0, 6 << 20, Cutting::Pages, Arc::default());
    assert_eq!(io::copy(&mut stream, &mut io::sink()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    // Dropped in the middle, it leaves no thread that waits.
    let mut stream = BlockStream::new(&case.file(), 0, case.length(), Cutting::Pages, Arc::default());
    stream.read_exact(&mut [0; 100]).unwrap();
}

#[test]
fn a_link_in_place_of_a_file_is_not_followed() {
    let case = Case::new(b"", b"abc");
    let link = case.dir.path().join("link");
    std::os::unix::fs::symlink(&case.old, &link).unwrap();
    assert!(Pool::new().add(&link, 0, Cutting::Content).is_err());
    let stream = case.stream(0, Cutting::Content, &Arc::default());
    assert!(assemble(&mut stream.as_slice(), Path::new(&link), (0, 3), &Pool::new()).is_err());
}

#[test]
fn a_pool_that_grows_has_what_was_added_on() {
    let case = Case::new(&noise(4 * PAGE, 1), &noise(4 * PAGE, 2));
    let mut pool = case.pool(Cutting::Pages);
    let more = noise(4 * PAGE, 2);
    fs::write(&case.old, [noise(4 * PAGE, 1), more].concat()).unwrap();
    pool.add(&case.old, 4 * PAGE as u64, Cutting::Pages).unwrap();
    assert_eq!(pool.len(), 8);
    let known = case.known(&pool, Cutting::Pages);
    let stream = case.stream(0, Cutting::Pages, &known);
    assert_eq!(assemble(&mut stream.as_slice(), &case.target, (0, case.length()), &pool).unwrap(), 0);
    assert!(case.is_there());
}

/// Files that share blocks with each other, now and then shifted.
fn similar() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let part = prop_oneof![
        (1u64..6, 1usize..40_000).prop_map(|(seed, bytes)| noise(bytes, seed)),
        (1usize..70_000).prop_map(|bytes| vec![0; bytes]),
    ];
    (vec(part.clone(), 0..8), vec(part, 0..8)).prop_map(|(old, new)| (old.concat(), new.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_the_receiver_has_the_file_arrives((old, new) in similar(), from in any::<prop::sample::Index>()) {
        let case = Case::new(&old, &new);
        for cutting in [Cutting::Pages, Cutting::Content] {
            let pool = case.pool(cutting);
            let known = case.known(&pool, cutting);
            let from = if new.is_empty() { 0 } else { from.index(new.len()) };
            fs::write(&case.target, &new[..from]).unwrap();
            let stream = case.stream(from as u64, cutting, &known);
            let outcome = assemble(&mut stream.as_slice(), &case.target, (from as u64, case.length()), &pool);
            prop_assert!(outcome.is_ok(), "{:?}", outcome);
            prop_assert!(case.is_there());
        }
    }

    #[test]
    fn i4_damage_on_the_way_is_an_error_or_shows_in_the_files_digest(
        (old, new) in similar(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(),
    ) {
        let case = Case::new(&old, &new);
        let pool = case.pool(Cutting::Content);
        let known = case.known(&pool, Cutting::Content);
        let stream = case.stream(0, Cutting::Content, &known);
        let whole = (0, case.length());
        let short = &stream[..cut.index(stream.len())];
        prop_assert!(assemble(&mut &short[..], &case.target, whole, &pool).is_err());
        let mut flipped = stream;
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        if assemble(&mut flipped.as_slice(), &case.target, whole, &pool).is_ok() {
            prop_assert_eq!(case.target.metadata().unwrap().len(), case.length());
        }
    }

    #[test]
    fn what_is_no_stream_is_an_error_and_never_more(bytes in vec(any::<u8>(), 0..3000), length in 1u64..1 << 32) {
        let case = Case::new(&noise(50_000, 1), b"");
        let records = [Part { from: 0, length }.header(), bytes].concat();
        let outcome = assemble(&mut records.as_slice(), &case.target, (0, length), &case.pool(Cutting::Content));
        let there = case.target.metadata().unwrap().len();
        prop_assert_eq!(outcome.map_or_else(|broken| broken.whole, |_| length), there);
    }
}
