//! Memory that two processes share: a memfd, a file in /dev/shm, and anonymous memory.

use super::Turn;
use super::board::{beside, ensure, failed};
use crate::common::payload;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAGES: usize = 256;
const PAGE: usize = 4096;
const LENGTH: usize = PAGES * PAGE;
const PATIENCE: Duration = Duration::from_secs(60);

/// A shared mapping: its first word is the ball that goes to and fro, the rest is a pattern.
#[derive(Clone, Copy)]
struct Shared(*mut u8);

impl Shared {
    fn ball(&self) -> &AtomicU64 {
        // SAFETY: mappings are page-aligned, LENGTH long, and never unmapped.
        unsafe { &*self.0.cast() }
    }

    fn page(self, number: usize) -> &'static mut [u8] {
        // SAFETY: as above; each page is written before the fork, or by one process at its turn.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(number * PAGE), PAGE) }
    }

    fn fill(&self, seed: u64) {
        for number in 1..PAGES {
            payload::page(number as u64, seed, self.page(number));
        }
    }

    fn is_page(&self, number: usize, seed: u64) -> bool {
        let mut wanted = [0; PAGE];
        payload::page(number as u64, seed, &mut wanted);
        self.page(number) == wanted
    }

    fn wait_for(&self, ball: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.ball().load(Ordering::SeqCst) != ball {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }
}

pub fn role(_: &Path) -> Result<Turn, String> {
    let memfd = File::from(memfd_create("tree", MFdFlags::MFD_CLOEXEC).map_err(failed("memfd_create"))?);
    let name = format!("/dev/shm/tree-{}", std::process::id());
    let shm = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&name)
        .map_err(failed("/dev/shm"))?;
    let mappings = [of_file(&memfd)?, of_file(&shm)?, anonymous()?];
    for (seed, mapping) in mappings.iter().enumerate() {
        mapping.fill(seed as u64);
    }
    beside(move || answer(mappings))?;
    let mut ball = 0;
    let turn = move || {
        for (seed, mapping) in mappings.iter().enumerate() {
            mapping.ball().store(ball + 1, Ordering::SeqCst);
            ensure(mapping.wait_for(ball + 2, PATIENCE), || format!("mapping {seed}: the ball does not come back"))?;
            let page = 1 + ball as usize / 2 % (PAGES - 1);
            ensure(mapping.is_page(page, seed as u64), || format!("mapping {seed}: page {page} is not what it was"))?;
        }
        ball += 2;
        for (file, name) in [(&memfd, "memfd"), (&shm, "/dev/shm")] {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, 0).map_err(failed(name))?;
            ensure(u64::from_le_bytes(word) == ball, || format!("{name}: the file is not what is mapped"))?;
        }
        ensure(Path::new(&name).exists(), || format!("{name} is gone"))
    };
    Ok(Box::new(turn))
}

/// The other process: sends each ball back, having looked at the pattern too.
fn answer(mappings: [Shared; 3]) -> Result<(), String> {
    let mut ball = 1;
    loop {
        for (seed, mapping) in mappings.iter().enumerate() {
            while !mapping.wait_for(ball, PATIENCE) {}
            let page = PAGES - 1 - ball as usize / 2 % (PAGES - 1);
            ensure(mapping.is_page(page, seed as u64), || {
                format!("mapping {seed}: page {page} is otherwise over there")
            })?;
            mapping.ball().store(ball + 1, Ordering::SeqCst);
        }
        ball += 2;
    }
}

fn of_file(file: &File) -> Result<Shared, String> {
    file.set_len(LENGTH as u64).map_err(failed("ftruncate"))?;
    // SAFETY: a new mapping that is never unmapped.
    let place =
        unsafe { mmap(None, length(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, file, 0) };
    place.map(|place| Shared(place.as_ptr().cast())).map_err(failed("mmap"))
}

fn anonymous() -> Result<Shared, String> {
    // SAFETY: a new mapping that is never unmapped.
    let place =
        unsafe { mmap_anonymous(None, length(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) };
    place.map(|place| Shared(place.as_ptr().cast())).map_err(failed("mmap"))
}

fn length() -> NonZeroUsize {
    NonZeroUsize::new(LENGTH).expect("not zero")
}
