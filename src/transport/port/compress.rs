//! Compression on the way: a body becomes another one, piece by piece, on a thread of its own.
//!
//! At level [`Fast`](Level::Fast) the network does not wait for the compressor: each piece is a frame of its own, and
//! where few are ready to be sent the next one is hardly compressed.
//!
//! Nothing is allocated on the sender's word: a frame that asks for a larger window than [`WINDOW_LOG`] is refused, and
//! however much a body swells, no more of it is in memory than a few pieces.

use super::body::Body;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use std::io::{self, BufReader, Read};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use zstd::bulk::Compressor;
use zstd::stream::read::{Decoder, Encoder};

/// 8 MiB: what a decoder holds for one body.
const WINDOW_LOG: u32 = 23;

/// What is read at once from the packed or unpacked stream.
const PIECE: usize = 256 << 10;

/// Pieces that wait on either side of the thread.
const WAITING: usize = 4;

/// Of [`WAITING`] pieces, so many keep the network busy while another is compressed.
const ENOUGH: usize = 2;

/// zstd's level at which it looks for almost nothing.
const HARDLY: i32 = -1000;

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For fast networks.
    Fast,
    /// For slow ones.
    Best,
}

impl Level {
    fn of_zstd(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Best => 9,
        }
    }
}

/// A body, compressed.
pub fn compressed(body: Body, level: Level) -> Body {
    match level {
        Level::Fast => through(body, frames),
        Level::Best => through(body, move |plain, packed| {
            let mut encoder = Encoder::with_buffer(plain, level.of_zstd())?;
            encoder.window_log(WINDOW_LOG)?;
            pour(encoder, packed)
        }),
    }
}

/// A compressed body, as it was.
pub fn decompressed(body: Body) -> Body {
    through(body, |packed, plain| {
        let mut decoder = Decoder::with_buffer(packed)?;
        decoder.window_log_max(WINDOW_LOG)?;
        pour(decoder, plain)
    })
}

/// Where a thread puts what it has made.
type Pour = Sender<io::Result<Bytes>>;

/// Lets a thread make another body of this one.
///
/// A body that breaks off, or does not decode, breaks off behind as well: it never looks as if it had ended.
fn through(body: Body, make: impl FnOnce(BufReader<Pieces>, &Pour) -> io::Result<()> + Send + 'static) -> Body {
    let (to_thread, from_body) = channel(WAITING);
    let (to_body, from_thread) = channel(WAITING);
    tokio::spawn(feed(body, to_thread));
    tokio::task::spawn_blocking(move || {
        let source = BufReader::with_capacity(PIECE, Pieces { pieces: from_body, rest: Bytes::new() });
        if let Err(error) = make(source, &to_body) {
            // Where nobody listens any more, nobody has to know.
            let _ = to_body.blocking_send(Err(error));
        }
    });
    StreamBody::new(ReceiverStream::new(from_thread).map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Takes a body's pieces to the thread, until it ends or nobody wants more.
async fn feed(mut body: Body, pieces: Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            // Trailers: nothing here has any.
            Ok(Err(_)) => continue,
            Err(error) => Err(error),
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

/// Each piece as a frame of its own, and the end as an empty one.
fn frames(mut plain: impl Read, packed: &Pour) -> io::Result<()> {
    let mut compressor = Compressor::default();
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        plain.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        let is_awaited = packed.max_capacity() - packed.capacity() < ENOUGH;
        compressor.set_compression_level(if is_awaited { HARDLY } else { Level::Fast.of_zstd() })?;
        let frame = compressor.compress(&piece)?;
        if packed.blocking_send(Ok(frame.into())).is_err() || piece.is_empty() {
            return Ok(());
        }
    }
}

fn pour(mut from: impl Read, to: &Pour) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let length = from.read(&mut piece)?;
        piece.truncate(length);
        if length == 0 || to.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

/// A body's pieces as a reader.
struct Pieces {
    pieces: Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(into.len());
        into[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::whole;
    use super::*;
    use std::io::Write;

    async fn collect(body: Body) -> io::Result<Vec<u8>> {
        Ok(body.collect().await?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_body_comes_out_as_it_went_in() {
        let plain: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for level in [Level::Fast, Level::Best] {
            let packed = collect(compressed(whole(plain.clone()), level)).await.unwrap();
            assert!(level == Level::Fast || packed.len() < plain.len() / 2, "{}", packed.len());
            assert!(collect(decompressed(whole(packed))).await.unwrap() == plain);
        }
        assert_eq!(collect(decompressed(compressed(whole(vec![]), Level::Fast))).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_network_that_is_behind_gets_less_and_one_that_is_not_does_not_wait() {
        let plain: Vec<u8> = (0..2_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let quick = collect(compressed(whole(plain.clone()), Level::Fast)).await.unwrap();
        let mut slowly = compressed(whole(plain.clone()), Level::Fast);
        let mut slow = 0;
        while let Some(frame) = slowly.frame().await {
            slow += frame.unwrap().into_data().unwrap().len();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(slow < plain.len() / 2 && slow < quick.len(), "{slow}, {}", quick.len());
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_does_not_look_whole() {
        let packed = collect(compressed(whole(vec![7; 1 << 20]), Level::Fast)).await.unwrap();
        let cut = collect(decompressed(whole(packed[..packed.len() - 4].to_vec()))).await;
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_breaks_in_front_breaks_behind() {
        let broken = || {
            let pieces = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(io::Error::other("gone"))];
            StreamBody::new(tokio_stream::iter(pieces)).boxed_unsync()
        };
        assert!(collect(compressed(broken(), Level::Fast)).await.is_err());
        assert!(collect(decompressed(broken())).await.is_err());
    }

    #[tokio::test]
    async fn a_window_that_is_too_large_is_refused() {
        let packed = |window_log| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(window_log).unwrap();
            encoder.write_all(&vec![0; 64 << 20]).unwrap();
            encoder.finish().unwrap()
        };
        let error = collect(decompressed(whole(packed(WINDOW_LOG + 1)))).await.unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
        assert_eq!(collect(decompressed(whole(packed(WINDOW_LOG)))).await.unwrap().len(), 64 << 20);
    }
}
