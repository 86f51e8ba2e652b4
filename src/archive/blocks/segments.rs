//! Work on every part of a file by all cores, with the results in order.

use crate::archive::hash::all_cores;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Length of a segment in bytes. Each is cut by itself, so that a block ends where one ends.
pub(super) const SEGMENT: u64 = 2 << 20;

/// Results that may wait to be taken, for each thread.
const AHEAD: usize = 1;

/// What was made of each segment, in the file's order.
///
/// Of two threads the first works on the segments 0, 2, 4..., the second on 1, 3, 5...: taking from them in turn keeps
/// the order. They end when this is dropped.
pub(super) struct Segments<T> {
    results: Vec<Receiver<io::Result<T>>>,
    next: usize,
    left: u64,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Segments<T> {
    /// Has `work` work on bytes `from` to `length` of a file; it is given a segment and where that begins.
    ///
    /// # Errors
    /// As an item, when the file cannot be read or is shorter.
    pub(super) fn of(
        file: &Arc<File>,
        (from, length): (u64, u64),
        work: impl Fn(&[u8], u64) -> T + Send + Sync + 'static,
    ) -> Self {
        let first = from / SEGMENT;
        let count = if from < length { length.div_ceil(SEGMENT) - first } else { 0 };
        let lanes = (all_cores().get() as u64).min(count);
        let work = Arc::new(work);
        let (mut results, mut threads) = (Vec::new(), Vec::new());
        for lane in 0..lanes {
            let (sender, receiver) = sync_channel(AHEAD);
            let (file, work) = (Arc::clone(file), Arc::clone(&work));
            let run = move || {
                run((first + lane..first + count).step_by(lanes as usize), (from, length), &file, &*work, &sender)
            };
            // The only segment is quicker worked on than a thread is made, and then there is room for it.
            match count {
                1 => run(),
                _ => threads.push(thread::spawn(run)),
            }
            results.push(receiver);
        }
        Self { results, next: 0, left: count, threads }
    }
}

impl<T> Iterator for Segments<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        if self.left == 0 {
            return None;
        }
        let result = self.results[self.next].recv();
        self.next = (self.next + 1) % self.results.len();
        self.left -= 1;
        let result = result.unwrap_or_else(|_| Err(io::Error::other("a thread that reads the file has died")));
        if result.is_err() {
            self.left = 0;
        }
        Some(result)
    }
}

impl<T> Drop for Segments<T> {
    fn drop(&mut self) {
        self.results.clear();
        for thread in self.threads.drain(..) {
            // One that panicked was noticed where its result was missing.
            let _ = thread.join();
        }
    }
}

fn run<T>(
    segments: impl Iterator<Item = u64>,
    (from, length): (u64, u64),
    file: &File,
    work: &(impl Fn(&[u8], u64) -> T + ?Sized),
    sender: &SyncSender<io::Result<T>>,
) {
    let mut buffer = Vec::new();
    for segment in segments {
        let begin = (segment * SEGMENT).max(from);
        let end = ((segment + 1) * SEGMENT).min(length);
        buffer.resize((end - begin) as usize, 0);
        let result = file.read_exact_at(&mut buffer, begin).map(|()| work(&buffer, begin));
        let failed = result.is_err();
        if sender.send(result).is_err() || failed {
            return;
        }
    }
}
