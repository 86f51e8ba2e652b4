//! Bodies that go no faster than they may, alone or together.

use super::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, SizeHint};
use std::collections::HashMap;
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// What may be caught up after a pause, and what goes at once.
const BURST: Duration = Duration::from_millis(100);

/// Which way bytes go: what comes back does not take the room of what goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// To the peer.
    There,
    /// From the peer.
    Back,
}

/// Out of which bodies take what may go; those that share one go no faster together than each alone.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// When what was taken should have gone.
    due: Arc<Mutex<Instant>>,
}

impl Bucket {
    fn new() -> Self {
        Self { due: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Whether it differs from a new one, or may do so yet: the next body of its flow may begin a while after the last.
    fn matters(&self) -> bool {
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::strong_count(&self.due) > 1 || due + BURST > Instant::now()
    }

    /// Takes what goes within `length`; when it may go.
    fn take(&self, length: Duration) -> Instant {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*due).max(Instant::now() - BURST);
        *due = begin + length;
        begin
    }
}

/// The buckets of flows.
#[derive(Debug, Default)]
pub struct Buckets(Mutex<HashMap<(u64, Way), Bucket>>);

impl Buckets {
    /// A flow's; one of its own where it belongs to none.
    pub fn of(&self, flow: Option<u64>, way: Way) -> Bucket {
        let Some(flow) = flow else { return Bucket::new() };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, bucket| bucket.matters());
        all.entry((flow, way)).or_insert_with(Bucket::new).clone()
    }
}

/// The body, with no more than so many bytes a second out of this bucket.
pub fn throttled(body: Body, bytes_per_second: NonZeroU64, bucket: Bucket) -> Body {
    let at_once = usize::try_from(bytes_per_second.get() / 10).unwrap_or(usize::MAX).max(1);
    let wait = Box::pin(sleep_until(Instant::now()));
    Throttled { body, bytes_per_second, at_once, rest: Bytes::new(), piece: None, bucket, wait }.boxed_unsync()
}

struct Throttled {
    body: Body,
    bytes_per_second: NonZeroU64,
    /// What may go at once, in bytes: as much as in [`BURST`]. Pieces are large, and a slow link is to have a steady flow.
    at_once: usize,
    /// What is left of the last piece that has come.
    rest: Bytes,
    /// What goes when `wait` is over.
    piece: Option<Bytes>,
    bucket: Bucket,
    wait: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Throttled {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.piece.is_none() {
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
            let takes = Duration::from_secs_f64(length as f64 / self.bytes_per_second.get() as f64);
            let begin = self.bucket.take(takes);
            self.piece = Some(self.rest.split_to(length));
            self.wait.as_mut().reset(begin);
        }
        ready!(self.wait.as_mut().poll(context));
        Poll::Ready(self.piece.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_none() && self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let here = self.rest.len() + self.piece.as_ref().map_or(0, Bytes::len);
        let (here, mut hint) = (here as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(here));
        }
        hint.set_lower(hint.lower().saturating_add(here));
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
            let passed =
                throttled(body, NonZeroU64::new(10_000).unwrap(), Bucket::new()).collect().await.unwrap().to_bytes();
            assert_eq!(passed.len(), 100_000);
            let took = begun.elapsed().as_secs_f64();
            assert!((9.5..10.5).contains(&took), "{took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_bodies_of_one_flow_take_the_time_that_they_should_together() {
        let buckets = Arc::new(Buckets::default());
        let begun = Instant::now();
        let workers = (0..4).map(|_| {
            let buckets = Arc::clone(&buckets);
            tokio::spawn(async move {
                for _ in 0..50 {
                    let bucket = buckets.of(Some(7), Way::There);
                    let body = throttled(whole(vec![0; 500]), NonZeroU64::new(10_000).unwrap(), bucket);
                    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 500);
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        let took = begun.elapsed().as_secs_f64();
        assert!((9.5..10.5).contains(&took), "{took}");
    }

    #[tokio::test]
    async fn its_length_is_still_known() {
        let mut body = throttled(whole(vec![0; 10]), NonZeroU64::MIN, Bucket::new());
        assert_eq!(body.size_hint().exact(), Some(10));
        body.frame().await.unwrap().unwrap();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(9), false));
    }
}
