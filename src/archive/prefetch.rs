//! Reading ahead on another thread, so that decompressing overlaps with hashing and writing.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Bytes per hand-over.
const BUFFER: usize = 1 << 20;
/// Buffers that may wait to be consumed.
const AHEAD: usize = 4;

/// Runs `consume` with a reader of what another thread reads from `input`.
///
/// Memory is bounded by [`AHEAD`] buffers. When `consume` returns early, the other thread ends at its next
/// hand-over.
pub(super) fn with_prefetch<R: Read + Send, T>(
    input: R,
    consume: impl FnOnce(&mut Prefetched) -> T,
) -> T {
    let (sender, receiver) = sync_channel(AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut input = input;
            loop {
                let next = next_buffer(&mut input);
                let last = !matches!(&next, Ok(buffer) if !buffer.is_empty());
                if sender.send(next).is_err() || last {
                    return;
                }
            }
        });
        // Owned by this closure, so that the sender fails and the thread ends as soon as `consume` is done.
        let mut reader = Prefetched {
            receiver,
            buffer: Vec::new(),
            at: 0,
        };
        consume(&mut reader)
    })
}

fn next_buffer(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(BUFFER);
    input
        .by_ref()
        .take(BUFFER as u64)
        .read_to_end(&mut buffer)?;
    Ok(buffer)
}

/// The reading end.
pub(super) struct Prefetched {
    receiver: Receiver<io::Result<Vec<u8>>>,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for Prefetched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            match self.receiver.recv() {
                Ok(next) => (self.buffer, self.at) = (next?, 0),
                // The other thread has ended after the last, empty buffer or after its error.
                Err(_) => return Ok(0),
            }
        }
        let count = out.len().min(self.buffer.len() - self.at);
        out[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order_and_an_early_end_does_not_hang() {
        let bytes: Vec<u8> = (0..3 * BUFFER + 17).map(|i| (i % 253) as u8).collect();
        let mut read = Vec::new();
        with_prefetch(bytes.as_slice(), |reader| reader.read_to_end(&mut read)).unwrap();
        assert!(read == bytes);
        let mut few = [0; 3];
        with_prefetch(io::repeat(7), |reader| reader.read_exact(&mut few)).unwrap();
        assert_eq!(few, [7; 3]);
    }

    #[test]
    fn an_error_arrives_once_and_the_reader_then_ends() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk gone"))
            }
        }
        with_prefetch(Fails, |reader| {
            assert_eq!(
                reader.read(&mut [0; 8]).unwrap_err().to_string(),
                "disk gone"
            );
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        });
    }
}
