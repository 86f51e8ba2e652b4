//! Runs an operation's steps, undoes them, and goes on with what a killed helper left.

use super::failpoint::Failpoints;
use super::journal::{Asked, Journal, JournalError, OperationRecord, Phase, Stand};
use crate::failure::{Failure, OrFail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A unit of work with a way back.
///
/// Contract: running it twice is as running it once; undoing it after it ran half, or not at all, is safe.
pub struct Step<O, W> {
    /// Its name in the journal, in progress lines and in failpoints.
    pub name: &'static str,
    /// Does it.
    pub run: fn(&mut O, &W) -> Result<(), Failure>,
    /// Takes it back.
    pub undo: fn(&mut O, &W) -> Result<(), Failure>,
    /// Whether nothing is undone any more once this step is done: the point of no return.
    pub commits: bool,
    /// Whether the journal has all before it on disk when it begins.
    pub on_disk: bool,
}

impl<O, W> Step<O, W> {
    /// A step with its undo.
    pub const fn new(
        name: &'static str,
        run: fn(&mut O, &W) -> Result<(), Failure>,
        undo: fn(&mut O, &W) -> Result<(), Failure>,
    ) -> Self {
        Self { name, run, undo, commits: false, on_disk: false }
    }

    /// The same step, after which the operation is never undone.
    pub const fn commits(mut self) -> Self {
        self.commits = true;
        self
    }

    /// The same step. When it begins, all before it is in the journal on disk: others may be told of that, and a loss of
    /// power must not take the journal back behind it.
    pub const fn on_disk(mut self) -> Self {
        self.on_disk = true;
        self
    }
}

/// Something that is done in steps; its fields are what has to survive the helper's death.
pub trait Operation: Serialize + DeserializeOwned + Send + 'static {
    /// What it works on.
    type World;

    /// Its name in the journal.
    const KIND: &'static str;

    /// Its steps, in order.
    fn steps(&self) -> Vec<Step<Self, Self::World>>;

    /// What it is about, for people.
    fn subject(&self) -> String;

    /// Whether its commit is a fact in the world, where a helper was killed between the fact and the journal.
    fn has_committed(&self, world: &Self::World) -> bool;

    /// What it answers when it is done.
    fn answer(&self) -> Value;

    /// It is told its number in the journal, for operations that are made of others.
    fn is_numbered(&mut self, _number: i64) {}

    /// It is read from the journal, to be brought to its end by somebody who has not begun it.
    fn is_taken_up(&mut self, _world: &Self::World) {}

    /// Whether somebody else may have acted on what it has done, so that a step that fails now must not be undone although
    /// the commit has not been journalled.
    fn is_out_of_hand(&self, _world: &Self::World) -> bool {
        false
    }

    /// Notes what whoever takes it up needs and may not find any more, since it waits for a person now. Whether there is any.
    fn notes_where_it_stands(&mut self, _world: &Self::World) -> bool {
        false
    }

    /// Whether it was decided that it is undone, past its commit as well.
    fn is_taken_back(&self) -> bool {
        false
    }

    /// Asked before each step until the commit: an error where a person has cancelled it. Before the step that commits it is
    /// asked for the last time, and cannot be cancelled any more.
    fn go_ahead(&self, _commits: bool) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether a killed helper's operation is carried on rather than undone, short of its commit.
    fn goes_on_after_a_crash(&self) -> bool {
        false
    }
}

/// Who is told how an operation comes along.
pub trait Progress: Sync {
    /// An operation has begun, of this number in the journal. Parts of others are not told.
    fn begun(&self, _operation: i64) {}
    /// A step begins: its name, its number from 1, how many there are.
    fn step(&self, name: &str, number: usize, of: usize);
    /// A step ended after this long.
    fn step_ended(&self, name: &str, took: Duration);
    /// Undoing begins, because of this.
    fn undoing(&self, because: &Failure);
}

/// Runs a new operation to its end, whichever that is.
pub fn run<O: Operation>(
    mut operation: O,
    world: &O::World,
    journal: &Journal,
    failpoints: &Failpoints,
    progress: &dyn Progress,
    asked: Asked<'_>,
) -> Result<Value, Failure> {
    let id = journal
        .begin(O::KIND, &operation.subject(), asked, &state_of(&operation))
        .or_fail(|| format!("cannot begin {} of {}", O::KIND, operation.subject()))?;
    operation.is_numbered(id);
    if asked.within.is_none() {
        progress.begun(id);
    }
    let course = Course { id, journal, failpoints, progress };
    course.forward(&mut operation, world, 0)
}

/// Brings an operation that the journal has as unfinished to an end: forward past its commit, back before it.
pub fn recover<O: Operation>(
    record: &OperationRecord,
    world: &O::World,
    journal: &Journal,
    failpoints: &Failpoints,
    progress: &dyn Progress,
) -> Result<Value, Failure> {
    let mut operation: O = serde_json::from_value(record.state.clone())
        .or_fail(|| format!("operation {} ({}) in the journal cannot be read", record.id, record.kind))?;
    operation.is_taken_up(world);
    operation.is_numbered(record.id);
    let course = Course { id: record.id, journal, failpoints, progress };
    match record.phase {
        _ if operation.is_taken_back() => {
            let because = Failure::new(format!("{} of {} is taken back", record.kind, record.subject));
            Err(course.back(&mut operation, world, record.step, because))
        }
        Phase::Committed => course.forward(&mut operation, world, record.step),
        Phase::Running if operation.goes_on_after_a_crash() => course.forward(&mut operation, world, record.step),
        // One that needs a person may have failed on either side of its commit.
        _ if is_past_commit(&operation, record) || operation.has_committed(world) => {
            course.forward(&mut operation, world, record.step)
        }
        phase => {
            let because = Failure::new(format!("{} of {} was interrupted", record.kind, record.subject));
            let from = match phase {
                Phase::Running => furthest(&operation),
                _ => record.step,
            };
            Err(course.back(&mut operation, world, from, because))
        }
    }
}

/// The last step that may have begun before the commit. A loss of power takes the journal's last entries with it, and what they
/// were about may be on disk all the same.
fn furthest<O: Operation>(operation: &O) -> usize {
    let steps = operation.steps();
    steps.iter().position(|step| step.commits).unwrap_or(steps.len().saturating_sub(1))
}

/// Whether the step that the journal has as the last is behind the one that commits.
pub fn is_past_commit<O: Operation>(operation: &O, record: &OperationRecord) -> bool {
    operation.steps().iter().take(record.step).any(|step| step.commits)
}

struct Course<'a> {
    id: i64,
    journal: &'a Journal,
    failpoints: &'a Failpoints,
    progress: &'a dyn Progress,
}

impl Course<'_> {
    fn forward<O: Operation>(&self, operation: &mut O, world: &O::World, from: usize) -> Result<Value, Failure> {
        let steps = operation.steps();
        let committed_before = |index: usize| steps[..index].iter().any(|step| step.commits);
        for (index, step) in steps.iter().enumerate().skip(from) {
            let committed = committed_before(index);
            if let Err(failure) = self.step(operation, world, (index, steps.len()), step, committed) {
                let stands = committed || operation.is_out_of_hand(world);
                return Err(match stands && !operation.is_taken_back() {
                    true => {
                        if operation.notes_where_it_stands(world) {
                            let (step, phase) = (step.name, under_way(committed));
                            self.follow(operation, &Stand { index, step, event: "stands", phase, on_disk: false });
                        }
                        self.stands(failure)
                    }
                    false => self.back(operation, world, index, failure),
                });
            }
        }
        let answer = operation.answer();
        self.ended(Phase::Done, &answer);
        Ok(answer)
    }

    fn step<O: Operation>(
        &self,
        operation: &mut O,
        world: &O::World,
        place: (usize, usize),
        step: &Step<O, O::World>,
        committed: bool,
    ) -> Result<(), Failure> {
        let (index, count) = place;
        if !committed {
            operation.go_ahead(step.commits)?;
        }
        let phase = under_way(committed);
        self.record(operation, &Stand { index, step: step.name, event: "begins", phase, on_disk: step.on_disk })?;
        self.progress.step(step.name, index + 1, count);
        let begun = Instant::now();
        self.failpoints.pass(&format!("{}/{}/before", O::KIND, step.name))?;
        (step.run)(operation, world)?;
        self.failpoints.pass(&format!("{}/{}/after", O::KIND, step.name))?;
        self.progress.step_ended(step.name, begun.elapsed());
        // The commit itself: from this entry on a killed helper goes forward.
        let (next, phase) = match committed || step.commits {
            true => (index + 1, Phase::Committed),
            false => (index, Phase::Running),
        };
        self.record(operation, &Stand { index: next, step: step.name, event: "done", phase, on_disk: false })
    }

    /// Undoes the step that failed and all before it. A failing undo does not keep the others from running, and it and
    /// all before it are undone once more when the operation is taken up again.
    fn back<O: Operation>(&self, operation: &mut O, world: &O::World, from: usize, failure: Failure) -> Failure {
        self.progress.undoing(&failure);
        self.journal.use_reserve();
        let steps = operation.steps();
        let mut unmended = Vec::new();
        let mut again_from = None;
        for (index, step) in steps.iter().enumerate().take(from + 1).rev() {
            let index_now = again_from.unwrap_or(index);
            let stand =
                Stand { index: index_now, step: step.name, event: "undoing", phase: Phase::Undoing, on_disk: false };
            self.follow(operation, &stand);
            let undone = self
                .failpoints
                .pass(&format!("{}/{}/undo", O::KIND, step.name))
                .and_then(|()| (step.undo)(operation, world));
            if let Err(error) = undone {
                tracing::error!(step = step.name, %error, "undo failed");
                unmended.push(format!("undoing {}: {error}", step.name));
                again_from = again_from.or(Some(index));
            }
        }
        let mut failure = if from > 0 { failure.undone() } else { failure };
        let phase = if unmended.is_empty() { Phase::Undone } else { Phase::NeedsPerson };
        if phase == Phase::NeedsPerson {
            failure = failure.needs_person();
            failure.why.extend(unmended);
        }
        self.ended(phase, &serde_json::json!({ "failure": failure }));
        failure
    }

    /// After the commit nothing is undone; the operation stays in the journal until a person has it taken up again.
    fn stands(&self, failure: Failure) -> Failure {
        self.ended(Phase::NeedsPerson, &serde_json::json!({ "failure": failure }));
        failure.needs_person()
    }

    fn record<O: Operation>(&self, operation: &O, stand: &Stand<'_>) -> Result<(), Failure> {
        let recorded = self.journal.record(self.id, stand, &state_of(operation));
        recorded.or_fail(|| format!("cannot journal {} of operation {}", stand.step, self.id))
    }

    /// The same where it goes on all the same.
    fn follow<O: Operation>(&self, operation: &O, stand: &Stand<'_>) {
        if let Err(error) = self.record(operation, stand) {
            tracing::error!(%error, "the journal cannot follow");
        }
    }

    fn ended(&self, phase: Phase, result: &Value) {
        let end: Result<(), JournalError> = self.journal.end(self.id, phase, result);
        if let Err(error) = end {
            // The work itself has ended; the next start of the helper finds the operation and ends it again.
            tracing::error!(operation = self.id, %error, "the end of an operation could not be journalled");
        }
        self.journal.keep_reserve();
    }
}

fn under_way(committed: bool) -> Phase {
    if committed { Phase::Committed } else { Phase::Running }
}

fn state_of<O: Operation>(operation: &O) -> Value {
    serde_json::to_value(operation).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::sync::Mutex;

    /// What was done, and which of it fails, each once.
    #[derive(Default)]
    struct Log {
        done: Mutex<Vec<&'static str>>,
        fails: Mutex<Vec<&'static str>>,
    }

    impl Log {
        fn does(&self, what: &'static str) -> Result<(), Failure> {
            self.done.lock().unwrap().push(what);
            let mut fails = self.fails.lock().unwrap();
            match fails.iter().position(|failing| *failing == what) {
                Some(index) => Err(Failure::new(fails.remove(index))),
                None => Ok(()),
            }
        }

        fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.done.lock().unwrap())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Trip;

    impl Operation for Trip {
        type World = Log;

        const KIND: &'static str = "trip";

        fn steps(&self) -> Vec<Step<Self, Log>> {
            vec![
                Step::new("pack", |_, log: &Log| log.does("pack"), |_, log| log.does("unpack")),
                Step::new("drive", |_, log: &Log| log.does("drive"), |_, log| log.does("drive back")),
                Step::new("board", |_, log: &Log| log.does("board"), |_, log| log.does("get off")),
                Step::new("sail", |_, log: &Log| log.does("sail"), |_, log: &Log| log.does("swim")).commits(),
                Step::new("land", |_, log: &Log| log.does("land"), |_, log| log.does("vanish")),
            ]
        }

        fn subject(&self) -> String {
            "somebody".into()
        }

        fn has_committed(&self, _: &Log) -> bool {
            false
        }

        fn answer(&self) -> Value {
            Value::Null
        }
    }

    struct Nobody;

    impl Progress for Nobody {
        fn step(&self, _: &str, _: usize, _: usize) {}

        fn step_ended(&self, _: &str, _: Duration) {}

        fn undoing(&self, _: &Failure) {}
    }

    struct Desk {
        _directory: tempfile::TempDir,
        journal: Journal,
        log: Log,
    }

    impl Desk {
        fn where_fails(fails: &[&'static str]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let journal = Journal::open(&directory.path().join("journal")).unwrap();
            let log = Log { fails: Mutex::new(fails.to_vec()), ..Log::default() };
            Self { _directory: directory, journal, log }
        }

        fn run(&self) -> Result<Value, Failure> {
            run(Trip, &self.log, &self.journal, &Failpoints::default(), &Nobody, Asked::by("a test"))
        }

        fn recover(&self) -> Result<Value, Failure> {
            recover::<Trip>(&self.record(), &self.log, &self.journal, &Failpoints::default(), &Nobody)
        }

        fn record(&self) -> OperationRecord {
            self.journal.operation(1).unwrap().expect("the operation")
        }
    }

    #[test]
    fn i2_whatever_fails_before_the_commit_is_undone_and_nothing_else() {
        let desk = Desk::where_fails(&["board"]);
        let failure = desk.run().unwrap_err();
        assert_eq!(failure.outcome.exit_code(), 1);
        assert_eq!(desk.log.take(), ["pack", "drive", "board", "get off", "drive back", "unpack"]);
        assert_eq!(desk.record().phase, Phase::Undone);
    }

    #[test]
    fn i2_an_undo_that_failed_is_done_again_with_all_before_it() {
        let desk = Desk::where_fails(&["board", "drive back"]);
        assert_eq!(desk.run().unwrap_err().outcome.exit_code(), 4);
        assert_eq!(desk.record().phase, Phase::NeedsPerson);
        desk.log.take();
        assert_eq!(desk.recover().unwrap_err().outcome.exit_code(), 1);
        assert_eq!(desk.log.take(), ["drive back", "unpack"]);
        assert_eq!(desk.record().phase, Phase::Undone);
    }

    #[test]
    fn i5_what_the_journal_may_have_lost_with_the_power_is_undone_as_well() {
        let desk = Desk::where_fails(&[]);
        desk.journal.begin(Trip::KIND, "somebody", Asked::by("a test"), &state_of(&Trip)).unwrap();
        assert_eq!(desk.recover().unwrap_err().outcome.exit_code(), 1);
        assert_eq!(desk.log.take(), ["swim", "get off", "drive back", "unpack"]);
        assert_eq!(desk.record().phase, Phase::Undone);
    }

    #[test]
    fn i3_past_the_commit_it_only_goes_forward() {
        let desk = Desk::where_fails(&["land"]);
        assert_eq!(desk.run().unwrap_err().outcome.exit_code(), 4);
        assert_eq!(desk.log.take(), ["pack", "drive", "board", "sail", "land"]);
        desk.recover().unwrap();
        assert_eq!(desk.log.take(), ["land"]);
        assert_eq!(desk.record().phase, Phase::Done);
    }
}
