//! One round: all memory is looked at while the containers run, and what the peer does not have goes to it.

use crate::archive::blocks::{BlockDigest, KnownBlocks};
use crate::checkpoint::live_memory::{PAGE, SPAN, Spans};
use crate::world::cancels::Watch;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Looks at the memory of the processes below `inits` and sends what is not known yet as a body of pages to `send`. All that
/// is [`Known::fresh`] afterwards was sent.
pub fn run<T>(
    inits: &[i32],
    known: &Mutex<Known>,
    looked: &Looked,
    watch: &Watch,
    send: impl FnOnce(Pages) -> T,
) -> (T, Order) {
    let (pages, body) = sync_channel(AHEAD);
    let (spans, order) = (Mutex::new(Spans::of(inits)), Order::default());
    let sent = std::thread::scope(|threads| {
        for _ in 0..lookers() {
            let pages = pages.clone();
            threads.spawn(|| look(&spans, known, looked, watch, pages));
        }
        drop(pages);
        send(Pages { body, piece: Vec::new(), at: 0, order: Arc::clone(&order) })
    });
    (sent, order)
}

/// The digests of pages in the order in which they went into a body.
pub type Order = Arc<Mutex<Vec<BlockDigest>>>;

/// What the peer has, and which of it is on its way there.
#[derive(Debug, Default)]
pub struct Known {
    blocks: KnownBlocks,
    fresh: Vec<BlockDigest>,
}

impl Known {
    /// What a body brought is there.
    pub fn came(&mut self) {
        self.fresh.clear();
    }

    /// Of a body that broke off so many bytes are there, by whole pages.
    pub fn broke_off(&mut self, order: &Order, bytes: u64) {
        self.fresh.drain(..).for_each(|digest| self.blocks.remove(&digest));
        let order = order.lock().unwrap_or_else(PoisonError::into_inner);
        let pages = usize::try_from(bytes / PAGE as u64).unwrap_or(usize::MAX);
        for digest in order.iter().take(pages) {
            self.blocks.insert(*digest);
        }
    }

    /// What the peer has.
    pub fn into_blocks(self) -> KnownBlocks {
        self.blocks
    }

    /// Whether a page is neither there nor on its way; it is from here on.
    fn is_new(&mut self, digest: BlockDigest) -> bool {
        let is_new = !self.blocks.contains(&digest) && self.blocks.insert(digest);
        if is_new {
            self.fresh.push(digest);
        }
        is_new
    }
}

/// Half of the cores: the others are the containers', which run meanwhile.
fn lookers() -> usize {
    crate::archive::hash::all_cores().get().div_ceil(2)
}

fn look(
    spans: &Mutex<Spans>,
    known: &Mutex<Known>,
    looked: &Looked,
    watch: &Watch,
    pages: SyncSender<io::Result<Lacking>>,
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
        looked.lacking.fetch_add(lacking.pages.len() as u64, Ordering::Relaxed);
        if !lacking.pages.is_empty() && pages.send(Ok(lacking)).is_err() {
            // Nobody sends them any more, and says why.
            return;
        }
    }
}

/// Pages that the peer lacks, one behind the other.
#[derive(Debug, Default)]
struct Lacking {
    pages: Vec<u8>,
    digests: Vec<BlockDigest>,
}

fn lacking(memory: &[u8], known: &Mutex<Known>) -> Lacking {
    let pages = memory.chunks_exact(PAGE).filter(|page| page.iter().any(|byte| *byte != 0));
    let hashed: Vec<_> = pages.map(|page| (BlockDigest::of(page), page)).collect();
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lacking = Lacking::default();
    for (digest, page) in hashed {
        if known.is_new(digest) {
            lacking.pages.extend_from_slice(page);
            lacking.digests.push(digest);
        }
    }
    lacking
}

/// Pages one behind the other, as they are found.
pub struct Pages {
    body: Receiver<io::Result<Lacking>>,
    piece: Vec<u8>,
    at: usize,
    order: Order,
}

impl Read for Pages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.body.recv() {
                Ok(next) => {
                    let Lacking { pages, digests } = next?;
                    self.order.lock().unwrap_or_else(PoisonError::into_inner).extend(digests);
                    (self.piece, self.at) = (pages, 0);
                }
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
        assert_eq!(lacking(&memory, &known).pages, [vec![1; PAGE], vec![2; PAGE]].concat());
        assert!(lacking(&memory, &known).pages.is_empty());
        let changed = [vec![3; PAGE], vec![2; PAGE]].concat();
        assert_eq!(lacking(&changed, &known).pages, vec![3; PAGE]);
    }

    #[test]
    fn i4_what_did_not_come_over_a_connection_that_broke_goes_again_and_what_came_does_not() {
        let known = Mutex::default();
        let (here, lost) = (vec![1; PAGE], vec![2; PAGE]);
        lacking(&vec![9; PAGE], &known);
        known.lock().unwrap().came();
        let sent = lacking(&[here.clone(), lost.clone()].concat(), &known);
        // The second one was found, and never went into the body.
        let order = Order::new(Mutex::new(sent.digests[..1].to_vec()));
        known.lock().unwrap().broke_off(&order, 2 * PAGE as u64 - 1);
        let again = lacking(&[here, lost.clone(), vec![9; PAGE]].concat(), &known);
        assert_eq!(again.pages, lost);
    }

    #[test]
    fn pages_are_read_one_behind_the_other_and_an_error_is_no_end() {
        let (sender, body) = sync_channel(3);
        let piece = |pages: Vec<u8>| Ok(Lacking { digests: pages.chunks(PAGE).map(BlockDigest::of).collect(), pages });
        sender.send(piece(vec![1; PAGE])).unwrap();
        sender.send(piece(vec![2; 2 * PAGE])).unwrap();
        sender.send(Err(io::Error::other("it was cancelled"))).unwrap();
        let (mut read, order) = (vec![0; 3 * PAGE], Order::default());
        let mut pages = Pages { body, piece: Vec::new(), at: 0, order: Arc::clone(&order) };
        pages.read_exact(&mut read).unwrap();
        assert_eq!(read, [vec![1; PAGE], vec![2; 2 * PAGE]].concat());
        assert_eq!(order.lock().unwrap().len(), 3);
        assert!(pages.read(&mut read).is_err());
    }
}
