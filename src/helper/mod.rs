//! The helper, `transshipd`: sole writer of the store and the journal, runs the operations.
//!
//! It listens on a local socket ([`server`]) and at the gate that the interposer asks
//! ([`crate::restore::gate`]). What other hosts ask comes through a process without privileges ([`port`]) to a socket of
//! its own ([`inward`]). Each request becomes one thread that runs one operation and tells how it comes
//! along ([`dispatch`]). At its start it brings to an end what a killed helper left ([`recovery`]).

mod dispatch;
mod inward;
mod metrics;
mod port;
pub mod protocol;
mod recovery;
mod server;
mod supervise;

use crate::failure::{Failure, OrFail};
use crate::pager;
use crate::restore::gate;
use crate::settings::{self, Settings};
use crate::transport::port::process;
use crate::world::World;
use clap::Parser;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

/// Sockets, the lock, CRIU's logs.
const RUNTIME_DIRECTORY: &str = "/run/transship";

/// What answers to peers may still take when the helper is to stop. A peer must not be able to keep it from that.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The first word when CRIU's canary is wanted and not the helper.
const CANARY: &str = "canary";

/// transship's helper: freezes and restores containers on behalf of `transship`.
#[derive(Debug, Parser)]
#[command(name = "transshipd", version)]
struct Arguments {
    /// How log lines on standard error look.
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
    /// Start the helper again whenever it was killed: for hosts whose service manager does not.
    #[arg(long)]
    supervise: bool,
    /// The settings file.
    #[arg(long, default_value = settings::FILE)]
    settings: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

/// Runs the helper, the canary where CRIU's health is being tried, the port that the helper keeps, or a pager.
pub fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CANARY) {
        crate::criu::canary::canary_main();
    }
    if std::env::args().nth(1).as_deref() == Some(process::WORD) {
        return process::main(std::env::args().skip(2));
    }
    if std::env::args().nth(1).as_deref() == Some(pager::WORD) {
        return pager::main(std::env::args().nth(2));
    }
    let arguments = Arguments::parse();
    if arguments.supervise {
        return supervise();
    }
    start_logging(arguments.log_format);
    keep_little_memory();
    match serve(&arguments.settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(%failure, remedy = failure.remedy, "transshipd cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Operations are many threads with large buffers for a while. glibc gives each thread a heap of its own, eight for each core,
/// and what was used once stays there (mallopt(3)).
fn keep_little_memory() {
    // SAFETY: it only sets a number that later allocations go by, and no other thread runs yet.
    unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2) };
}

/// Runs a helper with the same words, without the one that asks for this.
fn supervise() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--supervise").collect();
    supervise::run(&words).unwrap_or_else(|error| {
        eprintln!("transshipd cannot be supervised: {error}");
        ExitCode::FAILURE
    })
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_env("TRANSSHIP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn serve(settings: &Path) -> Result<(), Failure> {
    let settings = Settings::load(settings)
        .or_fail(|| "the settings cannot be used".into())
        .map_err(|failure| failure.remedy("correct the file; every setting is described in docs/operations.md"))?;
    let _lock = lock().or_fail(|| "another transshipd runs on this host".into())?;
    let world = World { on_settled: crate::operations::settled::containers, ..World::open(settings)? };
    let world = Arc::new(world);
    let metrics = Arc::clone(&world.metrics);
    world.journal.tell_ends_to(move |record, entries| crate::overview::metrics::count(&metrics, record, entries));
    gate::listen(&world).or_fail(|| format!("cannot listen at {}", gate::SOCKET))?;
    crate::operations::forward::keep_ending(&world)?;
    recovery::run(&world)?;
    if let Err(failure) = port::keep(&world) {
        // Containers of this host are brought back all the same.
        tracing::error!(%failure, "no peer can call or be called");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .or_fail(|| "cannot start the socket's threads".into())?;
    runtime.block_on(serve_socket(world))
}

/// One helper a host: held until the process ends, however it ends.
fn lock() -> std::io::Result<Flock<File>> {
    std::fs::create_dir_all(RUNTIME_DIRECTORY)?;
    let file = File::create(Path::new(RUNTIME_DIRECTORY).join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

async fn serve_socket(world: Arc<World>) -> Result<(), Failure> {
    let socket = Path::new(protocol::SOCKET);
    let listener = server::listen(socket).or_fail(|| format!("cannot listen on {}", socket.display()))?;
    let (has_to_stop, stops) = watch::channel(());
    let inward = answer_peers(&world, stops);
    if let Err(error) = metrics::listen(&world).await {
        // Containers are worth more than figures.
        tracing::error!(%error, port = world.settings.metrics_port, "no monitor can ask at its port");
    }
    let dispatcher = Arc::new(dispatch::Dispatcher::new(world));
    let mut terminate = signal(SignalKind::terminate()).or_fail(|| "cannot wait for signals".into())?;
    let mut interrupt = signal(SignalKind::interrupt()).or_fail(|| "cannot wait for signals".into())?;
    // The service manager may start what needs us: the socket is there.
    supervise::tell_ready();
    tracing::info!(socket = protocol::SOCKET, version = env!("CARGO_PKG_VERSION"), "transshipd is ready");
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping once the operations under way have ended");
    };
    let served = server::serve(listener, Arc::clone(&dispatcher), stop).await;
    dispatcher.wait_until_idle();
    // Peers may wait for what was under way here until now.
    drop(has_to_stop);
    if let Some(inward) = inward {
        let _ = timeout(LAST_ANSWERS, inward).await;
    }
    let _ = std::fs::remove_file(socket);
    served.or_fail(|| "the local socket failed".into())
}

/// Begins to answer what the port passes on, until the sender of `stops` is dropped. A host that cannot goes on without
/// peers.
fn answer_peers(world: &Arc<World>, mut stops: watch::Receiver<()>) -> Option<JoinHandle<()>> {
    let listener = match inward::listen() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "peers cannot be answered");
            return None;
        }
    };
    let world = Arc::clone(world);
    let stop = async move { while stops.changed().await.is_ok() {} };
    Some(tokio::spawn(async move {
        if let Err(error) = inward::serve(listener, world, stop).await {
            tracing::error!(%error, "peers are not answered any more");
        }
    }))
}
