//! Memory that goes to the peer while the containers run, so that little of it is left for when they stand still.
//!
//! ```text
//!   round 1 ─► round 2 ─► ... ─► freeze ─► dump ───────────────────►
//!   all pages  what changed       pages-*.img as they grow: references to what the peer has, and the rest
//!        └──────────┴───────► pool at the peer ◄──┘
//! ```
//!
//! A round looks at all memory and asks the kernel for nothing but reading, so it needs no tracking of dirty pages; pages
//! are told apart by their digests. Whatever a round misses, or reads while it is being written, is not found in the dump and
//! travels then: rounds decide how much that is, and nothing else. What the peer puts together is compared with the
//! manifest's digests like any other file (I4).

mod course;
mod follow;
mod mode;
mod round;

pub use follow::{Dumped, Follow, Followed};
pub use mode::{Goal, IfMissed, Mode};

use super::{Migrate, talk};
use crate::checkpoint::live_memory;
use crate::failure::{Failure, OrFail};
use crate::migration::words::{self, Here};
use crate::operations::check;
use crate::operations::persist::RUNNING;
use crate::saga::Step;
use crate::world::Context;
use crate::world::told::Round as Told;
use course::{Course, Next, Round};
use round::{Known, Looked};
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Docker's part of bringing a container back, beside CRIU's.
const DOCKERS_PART: Duration = Duration::from_millis(200);

/// How many bytes of memory a second are dumped, compared and restored, where no round has told: as two cores do it.
const HANDLED: u64 = 300 << 20;

/// How long nothing may be found that the peer lacks: much memory takes its time to look at.
const LOOKING: Duration = Duration::from_secs(900);

/// So much memory is written by CRIU long before its dump is complete. More is sent best where all processors are free for it.
const LITTLE: u64 = 64 << 20;

/// What is assumed of a network that nothing has gone over yet: a gigabit.
const USUAL_LINK: u64 = 110 << 20;

/// Rounds while they run; done when what is left is little, fits the goal, or does not get less.
pub fn rounds() -> Step<Migrate, Context> {
    Step::new("rounds", run, |migrate, _| {
        migrate.known = None;
        Ok(())
    })
}

fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
    let inits: Vec<i32> = migrate.freeze.members().iter().map(|member| member.init.pid).collect();
    let memory = live_memory::resident_bytes(&inits);
    let (mode, why) = migrate.mode.chosen(memory, migrate.measured_link.unwrap_or(USUAL_LINK));
    context.told.note(&format!("{}: {why}", mode.word()));
    let fixed = migrate.goal.map_or(Ok(2 * DOCKERS_PART), |_| fixed(context))?;
    if mode == Mode::StopAndCopy {
        // The peer has nothing of it; but what is written of it can go there while CRIU sees to all else.
        migrate.known = (memory <= LITTLE).then(Arc::default);
        let link = migrate.measured_link.unwrap_or(USUAL_LINK);
        let of_memory = Duration::from_secs_f64(memory as f64 / link as f64 + memory as f64 / HANDLED as f64);
        return meets_goal(migrate, context, Some(fixed + of_memory));
    }
    let (known, mut course) = (Mutex::new(Known::default()), Course::default());
    loop {
        let round = one(migrate, context, &inits, &known)?;
        course.ran(round);
        migrate.measured_link = Some(course.link());
        context.told.round(&Told {
            number: course.count(),
            memory_bytes: round.memory,
            sent_bytes: round.sent,
            dirty_bytes_per_s: course.dirty_rate(),
            expected_downtime_us: course.expected_downtime(fixed).and_then(|time| time.as_micros().try_into().ok()),
        });
        match course.next(fixed, migrate.goal.as_ref().map(Goal::downtime)) {
            Next::Round => {}
            Next::Fits => break,
            Next::ShrinksNoMore => {
                context.told.note("memory changes as fast as it is sent: more rounds would not leave less");
                break;
            }
        }
    }
    migrate.known = Some(Arc::new(known.into_inner().unwrap_or_else(PoisonError::into_inner).into_blocks()));
    meets_goal(migrate, context, course.expected_downtime(fixed))
}

/// What a process of our own takes on this host tells what a container takes besides its memory.
fn fixed(context: &Context) -> Result<Duration, Failure> {
    let canary = check::canary(context).or_fail(|| "it cannot be told how long a freeze takes here".into())?;
    Ok(Duration::from_micros(canary.dump_us + canary.restore_us) + DOCKERS_PART)
}

/// Where the goal cannot be met it is given up before anything stands still, or goes on, as was asked for.
fn meets_goal(migrate: &Migrate, context: &Context, expected: Option<Duration>) -> Result<(), Failure> {
    let (Some(goal), Some(expected)) = (&migrate.goal, expected) else { return Ok(()) };
    if expected <= goal.downtime() {
        return Ok(());
    }
    let (name, expected, goal_ms) = (migrate.name(), expected.as_millis(), goal.downtime().as_millis());
    let missed = format!("{name} would be away for about {expected} ms, and not {goal_ms} ms");
    match goal.if_missed {
        IfMissed::GoOn => {
            context.told.note(&format!("{missed}; it goes on, as was asked for"));
            Ok(())
        }
        IfMissed::GiveUp => {
            Err(Failure::new(missed)
                .remedy("a longer --downtime, or --if-missed go-on; or try when less of it changes"))
        }
    }
}

/// A round; where the connection breaks, another look at what the peer lacks by then. That one is told of, since it tells how
/// fast memory changes and goes.
fn one(migrate: &mut Migrate, context: &Context, inits: &[i32], known: &Mutex<Known>) -> Result<Round, Failure> {
    let failed = || format!("memory of {} cannot be sent to {}", migrate.name(), migrate.peer);
    let persistence = talk::persistence(context, migrate, RUNNING);
    let (mut sent_before, mut bodies) = (0, migrate.bodies);
    let round = loop {
        let (begun, looked) = (Instant::now(), Looked::default());
        let peer = talk::sending(migrate, LOOKING);
        let path = words::body_path(migrate.id(), "memory", bodies.another());
        let (to, put) = (peer.clone(), path.clone());
        let (sent, order) = round::run(inits, known, &looked, &migrate.cancel.watch(), |pages| {
            migrate.cancel.unless_cancelled(move || to.put::<Value>(&put, pages, None))
        });
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match sent? {
            Ok(_) => {
                lock().came();
                let (memory, sent) = (looked.memory.into_inner(), looked.lacking.load(Ordering::Relaxed));
                break Round { memory, sent, took: begun.elapsed() };
            }
            Err(error) => error,
        };
        persistence.broke(&error, failed)?;
        let here: Here = persistence.ask_at_hand(move |left| peer.get_within(&path, left), failed)?;
        lock().broke_off(&order, here.bytes);
        persistence.is_there(here.bytes > 0, &error, failed)?;
        sent_before += here.bytes;
    };
    migrate.bodies = bodies;
    migrate.memory_sent += sent_before + round.sent;
    Ok(round)
}
