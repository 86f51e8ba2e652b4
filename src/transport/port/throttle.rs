//! A body that goes no faster than it may.

use super::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, SizeHint};
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// What may be caught up after a pause.
const BURST: Duration = Duration::from_millis(100);

/// The body, with no more than so many bytes a second.
pub fn throttled(body: Body, bytes_per_second: NonZeroU64) -> Body {
    let due = Instant::now();
    Throttled { body, bytes_per_second, due, wait: Box::pin(sleep_until(due)) }.boxed_unsync()
}

struct Throttled {
    body: Body,
    bytes_per_second: NonZeroU64,
    /// When what has gone should have gone.
    due: Instant,
    wait: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Throttled {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        ready!(self.wait.as_mut().poll(context));
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(|frame| frame.data_ref())) {
            let length = data.map_or(0, Bytes::len) as f64;
            let took = Duration::from_secs_f64(length / self.bytes_per_second.get() as f64);
            self.due = self.due.max(Instant::now() - BURST) + took;
            let due = self.due;
            self.wait.as_mut().reset(due);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
        let pieces: Vec<_> = (0..100).map(|_| Ok(Frame::data(Bytes::from(vec![0; 1000])))).collect();
        let body = StreamBody::new(tokio_stream::iter(pieces)).boxed_unsync();
        let begun = Instant::now();
        let passed = throttled(body, NonZeroU64::new(10_000).unwrap()).collect().await.unwrap().to_bytes();
        assert_eq!(passed.len(), 100_000);
        let took = begun.elapsed().as_secs_f64();
        assert!((9.5..10.5).contains(&took), "{took}");
    }

    #[tokio::test]
    async fn its_length_is_still_known() {
        let body = throttled(whole(vec![0; 10]), NonZeroU64::MIN);
        assert_eq!(body.size_hint().exact(), Some(10));
    }
}
