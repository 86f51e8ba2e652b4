//! Bytes between threads that may wait and connections, which are not waited for by a thread each.
//!
//! Large pieces: what a piece costs, it costs in each process on the way.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use reqwest::Response;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// What is read at once.
pub const PIECE: usize = 256 << 10;

/// Pieces that wait for the connection.
const WAITING: usize = 2;

/// Drives the connections to the port.
///
/// # Panics
/// On first use, where the process can have no thread more.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("to-port").enable_all().build();
    runtime.expect("a runtime needs a thread and a descriptor")
});

/// A body that a thread pours in.
pub struct Poured {
    pieces: Receiver<Piece>,
    left: Option<u64>,
}

enum Piece {
    Bytes(Bytes),
    Broken(io::Error),
    End,
}

/// Where a thread pours it in.
pub struct Spout(Sender<Piece>);

/// A body, of a length that is known or is not, and its spout.
pub fn body(length: Option<u64>) -> (Poured, Spout) {
    let (spout, pieces) = channel(WAITING);
    (Poured { pieces, left: length }, Spout(spout))
}

impl Spout {
    /// Pours in all that is read, until that ends or nobody takes it any more. What breaks off never looks as if it had ended.
    pub fn pour(self, mut from: impl Read) {
        loop {
            let mut bytes = vec![0; PIECE];
            let piece = match from.read(&mut bytes) {
                Ok(0) => Piece::End,
                Ok(count) => {
                    bytes.truncate(count);
                    Piece::Bytes(bytes.into())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Piece::Broken(error),
            };
            let is_last = !matches!(piece, Piece::Bytes(_));
            if self.0.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    }
}

impl Body for Poured {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match ready!(self.pieces.poll_recv(context)) {
            Some(Piece::Bytes(bytes)) => {
                self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            Some(Piece::End) => None,
            Some(Piece::Broken(error)) => Some(Err(error)),
            None => Some(Err(io::Error::other("whoever sends it has stopped"))),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// An answer's body, for a thread that may wait. What breaks off on the way is an error, never an early end.
pub struct Answer {
    response: Response,
    piece: Bytes,
}

impl Answer {
    /// Nothing of it has been read.
    pub fn of(response: Response) -> Self {
        Self { response, piece: Bytes::new() }
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match RUNTIME.block_on(self.response.chunk()).map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn poured(length: Option<u64>, pour: impl FnOnce(Spout) + Send + 'static) -> io::Result<Vec<u8>> {
        let (body, spout) = body(length);
        std::thread::spawn(move || pour(spout));
        Ok(body.collect().await?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn all_that_is_read_comes_and_no_more() {
        let bytes: Vec<u8> = (0..3 * PIECE + 17).map(|index| (index % 253) as u8).collect();
        let from = io::Cursor::new(bytes.clone());
        assert!(poured(None, move |spout| spout.pour(from)).await.unwrap() == bytes);
        assert_eq!(poured(Some(0), |spout| spout.pour(io::empty())).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn what_breaks_off_does_not_look_as_if_it_had_ended() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let error = poured(None, |spout| spout.pour(Fails)).await.unwrap_err();
        assert_eq!(error.to_string(), "the disk is gone");
        assert!(poured(None, drop).await.is_err(), "whoever pours has died");
    }
}
