//! A body that goes no faster than it may.

use super::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, SizeHint};
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// What may be caught up after a pause, and what goes at once.
const BURST: Duration = Duration::from_millis(100);

/// The body, with no more than so many bytes a second.
pub fn throttled(body: Body, bytes_per_second: NonZeroU64) -> Body {
    let due = Instant::now();
    let at_once = usize::try_from(bytes_per_second.get() / 10).unwrap_or(usize::MAX).max(1);
    Throttled { body, bytes_per_second, at_once, rest: Bytes::new(), due, wait: Box::pin(sleep_until(due)) }
        .boxed_unsync()
}

struct Throttled {
    body: Body,
    bytes_per_second: NonZeroU64,
    /// What may go at once, in bytes: as much as in [`BURST`]. Pieces are large, and a slow link is to have a steady flow.
    at_once: usize,
    /// What is left of the last piece.
    rest: Bytes,
    /// When what has gone should have gone.
    due: Instant,
    wait: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Throttled {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        ready!(self.wait.as_mut().poll(context));
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(self.at_once);
        let piece = self.rest.split_to(length);
        let took = Duration::from_secs_f64(length as f64 / self.bytes_per_second.get() as f64);
        self.due = self.due.max(Instant::now() - BURST) + took;
        let due = self.due;
        self.wait.as_mut().reset(due);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::whole;
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Body as _;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_the_time_that_they_should() {
        for (pieces, size) in [(100, 1000), (1, 100_000)] {
            let pieces: Vec<_> = (0..pieces).map(|_| Ok(Frame::data(Bytes::from(vec![0; size])))).collect();
            let body = StreamBody::new(tokio_stream::iter(pieces)).boxed_unsync();
            let begun = Instant::now();
            let passed = throttled(body, NonZeroU64::new(10_000).unwrap()).collect().await.unwrap().to_bytes();
            assert_eq!(passed.len(), 100_000);
            let took = begun.elapsed().as_secs_f64();
            assert!((9.5..10.5).contains(&took), "{took}");
        }
    }

    #[tokio::test]
    async fn its_length_is_still_known() {
        let mut body = throttled(whole(vec![0; 10]), NonZeroU64::MIN);
        assert_eq!(body.size_hint().exact(), Some(10));
        body.frame().await.unwrap().unwrap();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(9), false));
    }
}
