//! One round: all memory is looked at while the containers run, and what the peer does not have goes to it.

use crate::archive::blocks::{BlockDigest, KnownBlocks};
use crate::checkpoint::live_memory::{PAGE, SPAN, Spans};
use crate::world::cancels::Watch;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Spans of pages that may wait to be sent.
const AHEAD: usize = 4;

/// How much was looked at and how much of it is to be sent, so far.
#[derive(Debug, Default)]
pub struct Looked {
    /// Bytes of memory.
    pub memory: AtomicU64,
    /// Bytes that the peer lacks.
    pub lacking: AtomicU64,
}

/// Looks at the memory of the processes below `inits` and sends what is not known yet as a body of pages to `send`. What
/// was sent is known afterwards, where there is room.
///
/// # Errors
/// What `send` says.
pub fn run<E: Send>(
    inits: &[i32],
    known: &Mutex<KnownBlocks>,
    looked: &Looked,
    watch: &Watch,
    send: impl FnOnce(Pages) -> Result<(), E>,
) -> Result<(), E> {
    let (pages, body) = sync_channel(AHEAD);
    let spans = Mutex::new(Spans::of(inits));
    std::thread::scope(|threads| {
        for _ in 0..lookers() {
            let pages = pages.clone();
            threads.spawn(|| look(&spans, known, looked, watch, pages));
        }
        drop(pages);
        send(Pages { body, piece: Vec::new(), at: 0 })
    })
}

/// Half of the cores: the others are the containers', which run meanwhile.
fn lookers() -> usize {
    crate::archive::hash::all_cores().get().div_ceil(2)
}

fn look(
    spans: &Mutex<Spans>,
    known: &Mutex<KnownBlocks>,
    looked: &Looked,
    watch: &Watch,
    pages: SyncSender<io::Result<Vec<u8>>>,
) {
    let mut memory = Vec::with_capacity(SPAN);
    loop {
        let next = spans.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(span) = next else { return };
        if let Err(cancelled) = watch.go_on() {
            let _ = pages.send(Err(cancelled));
            return;
        }
        span.read(&mut memory);
        looked.memory.fetch_add(memory.len() as u64, Ordering::Relaxed);
        let lacking = lacking(&memory, known);
        looked.lacking.fetch_add(lacking.len() as u64, Ordering::Relaxed);
        if !lacking.is_empty() && pages.send(Ok(lacking)).is_err() {
            // Nobody sends them any more, and says why.
            return;
        }
    }
}

/// The pages that are not known, which are known from here on: whatever is not sent after all ends the migration.
fn lacking(memory: &[u8], known: &Mutex<KnownBlocks>) -> Vec<u8> {
    let pages = memory.chunks_exact(PAGE).filter(|page| page.iter().any(|byte| *byte != 0));
    let hashed: Vec<_> = pages.map(|page| (BlockDigest::of(page), page)).collect();
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = |digest: &BlockDigest| !known.contains(digest) && known.insert(*digest);
    let mut lacking = Vec::new();
    let mut is_new = is_new;
    hashed.iter().filter(|(digest, _)| is_new(digest)).for_each(|(_, page)| lacking.extend_from_slice(page));
    lacking
}

/// Pages one behind the other, as they are found.
pub struct Pages {
    body: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.body.recv() {
                Ok(next) => (self.piece, self.at) = (next?, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_once_and_zeros_never() {
        let known = Mutex::default();
        let memory = [vec![1; PAGE], vec![0; PAGE], vec![2; PAGE], vec![1; PAGE]].concat();
        assert_eq!(lacking(&memory, &known), [vec![1; PAGE], vec![2; PAGE]].concat());
        assert!(lacking(&memory, &known).is_empty());
        let changed = [vec![3; PAGE], vec![2; PAGE]].concat();
        assert_eq!(lacking(&changed, &known), vec![3; PAGE]);
    }

    #[test]
    fn pages_are_read_one_behind_the_other_and_an_error_is_no_end() {
        let (sender, body) = sync_channel(3);
        sender.send(Ok(vec![1; PAGE])).unwrap();
        sender.send(Ok(vec![2; 2 * PAGE])).unwrap();
        sender.send(Err(io::Error::other("it was cancelled"))).unwrap();
        let mut read = vec![0; 3 * PAGE];
        let mut pages = Pages { body, piece: Vec::new(), at: 0 };
        pages.read_exact(&mut read).unwrap();
        assert_eq!(read, [vec![1; PAGE], vec![2; 2 * PAGE]].concat());
        assert!(pages.read(&mut read).is_err());
    }
}
