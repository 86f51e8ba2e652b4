//! An HTTP/1.1 connection onwards, kept from one request to the next.

use super::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

/// Largest head of a message, in either direction.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// What is read at once of a body, at the most, and what may wait to be written.
pub const MAX_BUFFER_BYTES: usize = 256 << 10;

/// A connection; closed when dropped.
#[derive(Debug)]
pub struct Link {
    sender: SendRequest<Body>,
    task: JoinHandle<()>,
}

impl Link {
    /// Begins to speak on a stream that is connected.
    pub async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> hyper::Result<Self> {
        let mut builder = Builder::new();
        builder.max_header_size(MAX_HEAD_BYTES).max_buf_size(MAX_BUFFER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer is told of the error.
            let _ = connection.await;
        });
        Ok(Self { sender, task })
    }

    /// Whether another request can go this way, once the one before is through.
    pub async fn is_usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// The same connection, where it can be used again.
    pub async fn reusable(self) -> Option<Self> {
        let mut link = self;
        link.is_usable().await.then_some(link)
    }

    /// Asks.
    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}
