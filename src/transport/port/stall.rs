//! A body that has to get on: whoever sends it may keep a container standing still for it.

use super::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the answer to a body may take that has gone in whole: the other host writes it out.
const ANSWER: Duration = Duration::from_secs(600);

/// How far a body is.
#[derive(Debug, Clone, Copy)]
pub enum Progress {
    /// Pieces go.
    Going,
    /// All have gone.
    Gone,
}

/// The body, and what tells of each piece that goes.
pub fn watched(body: Body) -> (Body, watch::Receiver<Progress>) {
    let start = if hyper::body::Body::is_end_stream(&body) { Progress::Gone } else { Progress::Going };
    let (tell, progress) = watch::channel(start);
    (Watched { body, tell }.boxed_unsync(), progress)
}

/// Returns when no piece has gone for `patience`, or the answer to all of them is long overdue.
pub async fn stalled(mut progress: watch::Receiver<Progress>, patience: Duration) {
    loop {
        let limit = match *progress.borrow_and_update() {
            Progress::Going => patience,
            Progress::Gone => ANSWER,
        };
        match timeout(limit, progress.changed()).await {
            Ok(Ok(())) => {}
            // The body is not needed any more.
            Ok(Err(_)) => return tokio::time::sleep(ANSWER).await,
            Err(_) => return,
        }
    }
}

struct Watched {
    body: Body,
    tell: watch::Sender<Progress>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let is_gone = frame.is_none() || self.body.is_end_stream();
        self.tell.send_replace(if is_gone { Progress::Gone } else { Progress::Going });
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
    use tokio::time::Instant;
    use tokio_stream::wrappers::ReceiverStream;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_body_of_which_nothing_goes_is_given_up_and_one_that_creeps_is_not() {
        let (pieces, from) = tokio::sync::mpsc::channel(1);
        let (mut body, progress) = watched(StreamBody::new(ReceiverStream::new(from)).boxed_unsync());
        let begun = Instant::now();
        let watching = tokio::spawn(stalled(progress, PATIENCE));
        for _ in 0..4 {
            tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
            pieces.send(Ok(Frame::data(Bytes::from_static(b"piece")))).await.unwrap();
            body.frame().await.unwrap().unwrap();
        }
        watching.await.unwrap();
        assert_eq!(begun.elapsed(), (PATIENCE - Duration::from_secs(1)) * 4 + PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_a_whole_body_may_take_longer() {
        let (mut body, progress) = watched(whole(vec![0; 10]));
        body.frame().await.unwrap().unwrap();
        let begun = Instant::now();
        stalled(progress, PATIENCE).await;
        assert_eq!(begun.elapsed(), ANSWER);
    }
}
