//! From a request to the operation that answers it.

use super::protocol::{Lost, Message, Request};
use crate::failure::Failure;
use crate::migration::{self, evacuated_upgrade};
use crate::operations::upgrade::strategy::EVACUATE;
use crate::saga::{Asked, Progress};
use crate::world::told::Round;
use crate::world::{Context, Told, World};
use crate::{operations, overview, pairing, shipping};
use serde_json::Value;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Starts operations and knows how many are under way.
pub struct Dispatcher {
    world: Arc<World>,
    under_way: Arc<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Dispatcher {
    /// A dispatcher for this world.
    pub fn new(world: Arc<World>) -> Self {
        Self { world, under_way: Arc::default() }
    }

    /// The world that operations are begun in.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }

    /// Begins what is asked for on a thread of its own; the receiver gets every message.
    ///
    /// The operation goes on when the asker hangs up: an operator's lost terminal is no reason to stop half way.
    pub fn begin(&self, request: Request, peer: String) -> UnboundedReceiver<Message> {
        let (sender, receiver) = unbounded_channel();
        let context = Context {
            world: Arc::clone(&self.world),
            told: Arc::new(Stream { messages: sender.clone(), amount_told: Mutex::default() }),
        };
        let under_way = Arc::clone(&self.under_way);
        under_way.change(|count| *count += 1);
        let thread = std::thread::Builder::new().name("operation".into()).spawn(move || {
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer(request, &context, &peer)));
            let message = match answer {
                Ok(Ok(answer)) => Message::Done { answer },
                Ok(Err(failure)) => {
                    tracing::warn!(%failure, peer, "failed");
                    Message::Failed { failure }
                }
                Err(_) => Message::Failed { failure: broken() },
            };
            let _ = sender.send(message);
            under_way.change(|count| *count -= 1);
        });
        if let Err(error) = thread {
            tracing::error!(%error, "cannot start a thread for an operation");
            self.under_way.change(|count| *count -= 1);
        }
        receiver
    }

    /// Returns when no operation is under way: those that were begun are ended, not cut off.
    pub fn wait_until_idle(&self) {
        let mut count = self.under_way.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self.under_way.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl UnderWay {
    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.count.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

fn broken() -> Failure {
    Failure::new("a fault in transshipd itself; its log has the place")
        .remedy("restart transshipd: it undoes or completes what it was at")
        .needs_person()
}

fn answer(request: Request, context: &Context, peer: &str) -> Result<Value, Failure> {
    match request {
        Request::Check { containers, canary, to: None, binds: _ } => {
            operations::check::run(context, &containers, canary)
        }
        Request::Check { containers, canary, to: Some(peer), binds } => {
            migration::source::check(context, &containers, canary, peer, binds)
        }
        Request::Checkpoint { containers, leave_running, name } => {
            operations::checkpoint::run(context, &containers, leave_running, name, peer)
        }
        Request::Restore { reference, name, cold_start_on_failure } => {
            operations::restore::run(context, &reference, name, cold_start_on_failure, peer)
        }
        Request::List { from: None } => operations::list::run(context),
        Request::List { from: Some(from) } => shipping::list_of(context, &from),
        Request::Push { reference, to, way } => shipping::push(context, &reference, (&to, way), peer),
        Request::Pull { reference, from, way } => shipping::pull(context, &reference, (&from, way), peer),
        Request::Share { reference, with, ends } => shipping::share(context, &reference, &with, ends),
        Request::Inspect { reference } => operations::inspect::run(context, &reference),
        Request::Remove { references, force } => operations::remove::run(context, &references, force),
        Request::CollectGarbage { dry_run } => operations::collect::run(context, dry_run),
        Request::Export { reference, file } => operations::export::run(context, &reference, file.as_ref()),
        Request::Import { file } => operations::import::run(context, file.as_ref()),
        Request::Install { dry_run } => operations::install::install(context, dry_run),
        Request::Uninstall { dry_run } => operations::install::uninstall(context, dry_run),
        Request::Migrate { containers, to, keep_source, dry_run, compress, rate, mode, goal, tcp, binds } => {
            let how = migration::source::How {
                peer: to,
                keep_source,
                dry_run,
                compress,
                rate,
                mode,
                goal,
                closes_lost: tcp == Lost::Close,
                binds,
                whole: None,
            };
            migration::source::run(context, &containers, &how, peer)
        }
        Request::Evacuate { to, dry_run, compress, rate } => {
            let wish = migration::evacuate::Wish { peers: to, dry_run, compress, rate, whole: None };
            migration::evacuate::run(context, &wish, Asked::by(peer))
        }
        Request::Return { from } => migration::homecoming::run(context, from.as_deref(), Asked::by(peer)),
        Request::Forwards => operations::forward::list(context),
        Request::EndForward { container } => operations::forward::remove(context, &container),
        Request::Upgrade { to, strategy, may_stop, dry_run, evacuate_to } => match evacuate_to.is_empty() {
            true => operations::upgrade::run(context, to, strategy.as_deref(), may_stop, dry_run, Asked::by(peer)),
            false if strategy.as_deref() == Some(EVACUATE) => {
                let wish = evacuated_upgrade::Wish { to, peers: evacuate_to, may_stop, dry_run };
                evacuated_upgrade::run(context, wish, Asked::by(peer))
            }
            false => Err(Failure::usage("peers are named, and nothing is to be evacuated")
                .remedy("--strategy evacuate, or no --evacuate-to")),
        },
        Request::Rollback { operation, dry_run } => operations::upgrade::roll_back(context, operation, dry_run, peer),
        Request::Report { operation } => overview::report::run(context, operation),
        Request::Status => overview::status::run(context),
        Request::History { limit } => overview::status::history(context, limit),
        Request::Metrics => overview::metrics::run(context),
        Request::PeerInvite { addresses, name, valid_minutes } => {
            pairing::invite(context, &addresses, name.as_deref(), valid_minutes)
        }
        Request::PeerJoin { invitation, addresses } => pairing::join(context, &invitation.0, &addresses),
        Request::PeerList => pairing::list(context),
        Request::PeerRemove { name } => pairing::remove(context, &name),
        Request::PeerAllow { name, containers, checkpoints, takes_back } => {
            pairing::allow(context, &name, containers, checkpoints, takes_back)
        }
        Request::PeerRotate => pairing::rotate(context),
        Request::Decide { operation, decision, force } => {
            migration::decide::run(context, operation, decision, force, peer)
        }
        Request::Cancel { operation } => operations::cancel::run(context, operation, peer),
        Request::Resume { operation } => super::recovery::resume(context, operation),
    }
}

/// Progress as messages to the asker.
struct Stream {
    messages: UnboundedSender<Message>,
    amount_told: Mutex<Option<Instant>>,
}

impl Stream {
    /// Tells how far a step is, unless that was told just now.
    fn amount(&self, message: Message) {
        let mut told = self.amount_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < AMOUNT_INTERVAL) {
            return;
        }
        *told = Some(Instant::now());
        let _ = self.messages.send(message);
    }
}

/// Amounts are told this often; a person reads no faster, and a step must not wait for its own progress.
const AMOUNT_INTERVAL: Duration = Duration::from_millis(200);

impl Progress for Stream {
    fn begun(&self, operation: i64) {
        let _ = self.messages.send(Message::Begun { operation });
    }

    fn step(&self, name: &str, number: usize, of: usize) {
        let _ = self.messages.send(Message::Step { name: name.into(), number, of });
    }

    fn step_ended(&self, name: &str, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let _ = self.messages.send(Message::StepEnded { name: name.into(), microseconds });
    }

    fn undoing(&self, because: &Failure) {
        let _ = self.messages.send(Message::Undoing { because: because.to_string() });
    }
}

impl Told for Stream {
    fn bytes(&self, what: &str, done: u64, total: u64) {
        self.amount(Message::Bytes { what: what.into(), done, total });
    }

    fn percent(&self, what: &str, percent: u8) {
        self.amount(Message::Percent { what: what.into(), percent });
    }

    fn round(&self, round: &Round) {
        let _ = self.messages.send(Message::Round(*round));
    }

    fn note(&self, text: &str) {
        let _ = self.messages.send(Message::Note { text: text.into() });
    }

    fn part(&self, container: &str, doing: &str, number: usize, of: usize) {
        let _ = self.messages.send(Message::Part { container: container.into(), doing: doing.into(), number, of });
    }
}
