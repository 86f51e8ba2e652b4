//! Where a monitor asks: `GET /v1/metrics` at the local socket, and `GET /metrics` at a port of 127.0.0.1 where the
//! settings name one.
//!
//! Whoever has a shell on the host reaches that port. So it answers this one question, tells no name, and does not let
//! itself be kept busy: few connections at a time, a short while each, one answer each, and figures that are looked up once
//! a second at most.

use crate::metrics::CONTENT_TYPE;
use crate::overview;
use crate::world::World;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

/// The path at the port, as monitors have it by default.
const PATH: &str = "/metrics";

/// Connections at a time; the next one waits.
const AT_ONCE: usize = 4;

/// How long a connection may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where there is nothing left to accept connections with, before it is tried again. The kernel has no event for that.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At the port nobody is told anything newer than this.
const FRESH: Duration = Duration::from_secs(1);

/// All figures.
pub async fn answer(world: Arc<World>) -> Response {
    told(text(world).await)
}

/// The figures of now, or why there are none.
async fn text(world: Arc<World>) -> Result<String, String> {
    // The journal and the store are read: for a thread that may wait.
    match tokio::task::spawn_blocking(move || overview::metrics::text(&world)).await {
        Ok(text) => text.map_err(|failure| failure.to_string()),
        Err(error) => {
            tracing::error!(%error, "a fault in transshipd itself");
            Err("a fault in transshipd itself".into())
        }
    }
}

fn told(text: Result<String, String>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
    }
}

/// What is told at the port.
struct Figures {
    world: Arc<World>,
    last: Mutex<Option<(Instant, Result<String, String>)>>,
}

impl Figures {
    /// Whoever asks meanwhile waits, and is told the same.
    async fn answer(&self) -> Response {
        let mut last = self.last.lock().await;
        let text = match last.take().filter(|(looked_up, _)| looked_up.elapsed() < FRESH) {
            Some(fresh) => last.insert(fresh),
            None => last.insert((Instant::now(), text(Arc::clone(&self.world)).await)),
        };
        told(text.1.clone())
    }
}

/// Begins to answer at the port of the settings, where there is one.
///
/// # Errors
/// When the port is taken.
pub async fn listen(world: &Arc<World>) -> io::Result<()> {
    let port = world.settings.metrics_port;
    if port == 0 {
        return Ok(());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let figures = Figures { world: Arc::clone(world), last: Mutex::default() };
    tokio::spawn(serve(listener, Arc::new(figures)));
    Ok(())
}

async fn serve(listener: TcpListener, figures: Arc<Figures>) {
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let figures = Arc::clone(&figures);
                tokio::spawn(async move {
                    // Whoever takes longer is no monitor.
                    let _ = timeout(PATIENCE, connection(stream, figures)).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a monitor's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, figures: Arc<Figures>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let figures = Arc::clone(&figures);
        async move {
            Ok::<_, Infallible>(match (request.method(), request.uri().path()) {
                (&Method::GET, PATH) => figures.answer().await,
                _ => (StatusCode::NOT_FOUND, format!("there is nothing but {PATH}\n")).into_response(),
            })
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let http = http.timer(TokioTimer::new()).keep_alive(false);
    // How it ended is for whoever asked.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
