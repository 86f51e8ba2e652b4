//! The journal: what was begun, how far it came, how it ended. One SQLite file, written by the helper alone.

use super::{reserve, secrets};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS operations (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    phase   TEXT NOT NULL,
    step    INTEGER NOT NULL,
    state   TEXT NOT NULL,
    result  TEXT,
    began   TEXT NOT NULL,
    ended   TEXT,
    within  INTEGER REFERENCES operations(id)
);
CREATE TABLE IF NOT EXISTS entries (
    operation INTEGER NOT NULL REFERENCES operations(id),
    step      TEXT NOT NULL,
    event     TEXT NOT NULL,
    at        TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_of ON entries(operation);
";

/// The number of the schema above, kept in the file's own `user_version`.
const VERSION: i64 = 2;

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite says no: a full disk, a damaged file, wrong permissions.
    #[error("the journal cannot be {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// A newer version has written it.
    #[error("it is of version {version}, and this program knows versions up to {VERSION}: install a newer transship")]
    Newer { version: i64 },
    /// An entry does not hold what this version writes.
    #[error("operation {operation} in the journal cannot be read")]
    Unreadable {
        operation: i64,
        #[source]
        source: serde_json::Error,
    },
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Steps are being run; nothing is committed.
    Running,
    /// Past its commit: what remains is run until it is done.
    Committed,
    /// A step failed; steps are being undone.
    Undoing,
    /// All steps ran.
    Done,
    /// Failed, and everything is undone.
    Undone,
    /// Failed, and a person has to look.
    NeedsPerson,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_text())
    }
}

impl Phase {
    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Undone | Self::NeedsPerson)
    }

    fn as_text(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Committed => "committed",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::NeedsPerson => "needs-person",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Running, Self::Committed, Self::Undoing, Self::Done, Self::Undone, Self::NeedsPerson]
            .into_iter()
            .find(|phase| phase.as_text() == text)
    }
}

/// One operation as the journal has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Its number, which operators use to name it.
    pub id: i64,
    /// Such as `checkpoint`.
    pub kind: String,
    /// What it is about, such as the containers' names.
    pub subject: String,
    /// Who asked: user and pid, from the socket's peer credentials.
    pub asked_by: String,
    /// Where it stands.
    pub phase: Phase,
    /// The step that is being run or undone, counted from 0.
    pub step: usize,
    /// The operation's own state as of the last entry.
    pub state: Value,
    /// What it answered, or the failure.
    pub result: Option<Value>,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The operation that it is a part of.
    pub within: Option<i64>,
}

/// Who asked for an operation.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// User and pid, from the socket's peer credentials.
    pub by: &'a str,
    /// The operation that needs this one, where it was not asked for by itself.
    pub within: Option<i64>,
}

impl<'a> Asked<'a> {
    /// Asked for by itself.
    pub fn by(by: &'a str) -> Self {
        Self { by, within: None }
    }
}

/// Where an operation stands, for its next entry.
#[derive(Debug, Clone, Copy)]
pub struct Stand<'a> {
    /// The step that it goes on with when it is taken up again, counted from 0.
    pub index: usize,
    /// The name of the step that the entry is about.
    pub step: &'a str,
    /// `begins`, `done` or `undoing`.
    pub event: &'a str,
    /// Its phase from now on.
    pub phase: Phase,
    /// Whether a loss of power must not take the entry away again.
    pub on_disk: bool,
}

/// One line of an operation's course.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The step's name.
    pub step: String,
    /// `begins`, `done` or `undoing`.
    pub event: String,
    /// When.
    pub at: Timestamp,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    connection: Mutex<Connection>,
    reserve: PathBuf,
    on_end: OnceLock<OnEnd>,
}

/// Who is told of every operation that has ended, with its course.
struct OnEnd(Box<ToldOfEnd>);

type ToldOfEnd = dyn Fn(&OperationRecord, &[Entry]) + Send + Sync;

impl fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnEnd")
    }
}

/// On a full disk there are still entries to be made: those of a way back.
const RESERVED_BYTES: u64 = 4 << 20;

impl Journal {
    /// Opens the journal at `path`, making it where there is none.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = Connection::open(path).map_err(db("opened"))?;
        // With a write-ahead log an entry survives the helper's death without an fsync, and that is what most
        // entries are for: containers that stand still wait for each. What has to survive a loss of power asks
        // for it (`durably`).
        connection.pragma_update(None, "journal_mode", "WAL").map_err(db("opened"))?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(db("opened"))?;
        // What is forgotten is overwritten, not only unlinked.
        connection.pragma_update(None, "secure_delete", true).map_err(db("opened"))?;
        migrate(&connection)?;
        let journal = Self {
            connection: Mutex::new(connection),
            reserve: path.with_extension("reserve"),
            on_end: OnceLock::new(),
        };
        journal.keep_reserve();
        Ok(journal)
    }

    /// Lets disk space be used that was kept for undoing.
    pub fn use_reserve(&self) {
        reserve::give_back(&self.reserve);
    }

    /// Keeps disk space for undoing, where there is any.
    pub fn keep_reserve(&self) {
        if let Err(error) = reserve::keep(&self.reserve, RESERVED_BYTES) {
            tracing::warn!(%error, "no disk space is left to be kept for a way back");
        }
    }

    /// Writes; on a full disk with what was kept for that.
    fn write<T>(&self, write: impl Fn(&mut Connection) -> rusqlite::Result<T>) -> Result<T, JournalError> {
        let mut connection = self.lock();
        let written = match write(&mut connection) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                self.use_reserve();
                write(&mut connection)
            }
            other => other,
        };
        written.map_err(db("written"))
    }

    /// Begins an operation; returns its number. The entry is on disk then: after a loss of power, too, it is known
    /// what the operation was going to set aside.
    pub fn begin(&self, kind: &str, subject: &str, asked: Asked<'_>, state: &Value) -> Result<i64, JournalError> {
        self.write(|connection| {
            durably(connection, true)?;
            connection.execute(
                "INSERT INTO operations (kind, subject, asked_by, phase, step, state, began, within)
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
                params![kind, subject, asked.by, Phase::Running.as_text(), state.to_string(), now(), asked.within],
            )?;
            Ok(connection.last_insert_rowid())
        })
    }

    /// Records where an operation stands, with its state, in one transaction. The entry that makes it committed is
    /// on disk when this returns, and so is one that asks for it; with it all that was recorded before.
    pub fn record(&self, operation: i64, stand: &Stand<'_>, state: &Value) -> Result<(), JournalError> {
        let Stand { index, step, event, phase, on_disk } = *stand;
        self.write(|connection| {
            durably(connection, on_disk || phase == Phase::Committed)?;
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE operations SET phase = ?2, step = ?3, state = ?4, result = NULL, ended = NULL WHERE id = ?1",
                params![operation, phase.as_text(), index as i64, state.to_string()],
            )?;
            transaction
                .execute("INSERT INTO entries VALUES (?1, ?2, ?3, ?4)", params![operation, step, event, now()])?;
            transaction.commit()
        })
    }

    /// Notes in the state of an operation, and of its parts, that a person has cancelled it, on disk: for those that go by it when
    /// they are taken up again.
    pub fn note_cancelled(&self, operation: i64) -> Result<(), JournalError> {
        self.write(|connection| {
            durably(connection, true)?;
            connection.execute(
                "UPDATE operations SET state = json_set(state, '$.is_cancelled', json('true')) \
                 WHERE id = ?1 OR (within = ?1 AND ended IS NULL)",
                [operation],
            )?;
            Ok(())
        })
    }

    /// Records an operation's end with what it answered. Where nothing is left to be done for it, containers' environments
    /// and commands are forgotten.
    pub fn end(&self, operation: i64, phase: Phase, result: &Value) -> Result<(), JournalError> {
        let is_over = matches!(phase, Phase::Done | Phase::Undone);
        self.write(|connection| {
            durably(connection, true)?;
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE operations SET phase = ?2, result = ?3, ended = ?4 WHERE id = ?1",
                params![operation, phase.as_text(), result.to_string(), now()],
            )?;
            if is_over {
                forget_secrets(&transaction, operation)?;
            }
            transaction.commit()
        })?;
        if is_over {
            self.empty_log(operation);
        }
        self.tell_end(operation);
        Ok(())
    }

    /// SQLite's write-ahead log still has what was forgotten. Not while the whole that an operation is a part of goes on:
    /// containers may be waiting.
    fn empty_log(&self, operation: i64) {
        let connection = self.lock();
        let is_part = "SELECT within IS NOT NULL FROM operations WHERE id = ?1";
        let is_part = connection.query_row(is_part, [operation], |row| row.get(0));
        let emptied = match is_part {
            Ok(true) => return,
            Ok(false) => connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())),
            Err(error) => Err(error),
        };
        if let Err(error) = emptied {
            tracing::warn!(operation, %error, "the journal's log could not be emptied; the next operation's end does it");
        }
    }

    /// Has `told` hear of every operation that ends from now on, with its course; whoever asks for it first does.
    pub fn tell_ends_to(&self, told: impl Fn(&OperationRecord, &[Entry]) + Send + Sync + 'static) {
        let _ = self.on_end.set(OnEnd(Box::new(told)));
    }

    fn tell_end(&self, operation: i64) {
        let Some(OnEnd(told)) = self.on_end.get() else { return };
        let record = self.operation(operation).and_then(|record| Ok((record, self.entries(operation)?)));
        match record {
            Ok((Some(record), entries)) => told(&record, &entries),
            Ok((None, _)) => {}
            // It has ended all the same.
            Err(error) => tracing::warn!(operation, %error, "nobody is told of its end"),
        }
    }

    /// Operations that have not ended, newest first: a part comes before the whole that it belongs to.
    pub fn unfinished(&self) -> Result<Vec<OperationRecord>, JournalError> {
        self.select("WHERE ended IS NULL ORDER BY id DESC", 10_000)
    }

    /// The parts of an operation, oldest first.
    pub fn parts(&self, operation: i64) -> Result<Vec<OperationRecord>, JournalError> {
        self.select(&format!("WHERE within = {operation} ORDER BY id"), 100_000)
    }

    /// Operations that ended and wait for a person, oldest first.
    pub fn needing_a_person(&self) -> Result<Vec<OperationRecord>, JournalError> {
        self.select("WHERE phase = 'needs-person' ORDER BY id", 1_000)
    }

    /// The last operations, newest first.
    pub fn history(&self, limit: usize) -> Result<Vec<OperationRecord>, JournalError> {
        self.select("WHERE within IS NULL ORDER BY id DESC", limit)
    }

    /// One operation.
    pub fn operation(&self, id: i64) -> Result<Option<OperationRecord>, JournalError> {
        let connection = self.lock();
        let sql = format!("SELECT {COLUMNS} FROM operations WHERE id = ?1");
        let row = connection.query_row(&sql, [id], read_row).optional().map_err(db("read"))?;
        row.map(parse_row).transpose()
    }

    /// An operation's course, in order.
    pub fn entries(&self, operation: i64) -> Result<Vec<Entry>, JournalError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT step, event, at FROM entries WHERE operation = ?1 ORDER BY rowid")
            .map_err(db("read"))?;
        let rows = statement
            .query_map([operation], |row| {
                Ok(Entry { step: row.get(0)?, event: row.get(1)?, at: timestamp(&row.get::<_, String>(2)?) })
            })
            .map_err(db("read"))?;
        rows.collect::<Result<_, _>>().map_err(db("read"))
    }

    fn select(&self, rest: &str, limit: usize) -> Result<Vec<OperationRecord>, JournalError> {
        let connection = self.lock();
        let sql = format!("SELECT {COLUMNS} FROM operations {rest} LIMIT ?1");
        let mut statement = connection.prepare(&sql).map_err(db("read"))?;
        let rows = statement.query_map([limit as i64], read_row).map_err(db("read"))?;
        rows.map(|row| row.map_err(db("read")).and_then(parse_row)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A thread that panicked between two statements has left no transaction open: it rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the tables, or brings those of an older version up to this one.
fn migrate(connection: &Connection) -> Result<(), JournalError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(db("opened"))?;
    if version > VERSION {
        return Err(JournalError::Newer { version });
    }
    let bring_up = || {
        if connection.table_exists(None, "operations")? && version < VERSION {
            connection.execute_batch("ALTER TABLE operations ADD COLUMN within INTEGER REFERENCES operations(id)")?;
        }
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "user_version", VERSION)
    };
    bring_up().map_err(db("opened"))
}

const COLUMNS: &str = "id, kind, subject, asked_by, phase, step, state, result, began, ended, within";

struct RawRow {
    id: i64,
    texts: [String; 5],
    step: i64,
    result: Option<String>,
    began: String,
    ended: Option<String>,
    within: Option<i64>,
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<RawRow> {
    Ok(RawRow {
        id: row.get(0)?,
        texts: [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(6)?],
        step: row.get(5)?,
        result: row.get(7)?,
        began: row.get(8)?,
        ended: row.get(9)?,
        within: row.get(10)?,
    })
}

fn parse_row(row: RawRow) -> Result<OperationRecord, JournalError> {
    let unreadable = |source| JournalError::Unreadable { operation: row.id, source };
    let [kind, subject, asked_by, phase, state] = row.texts;
    Ok(OperationRecord {
        id: row.id,
        kind,
        subject,
        asked_by,
        // A phase of a newer version: nothing that this one may go on with.
        phase: Phase::from_text(&phase).unwrap_or(Phase::NeedsPerson),
        step: usize::try_from(row.step).unwrap_or_default(),
        state: serde_json::from_str(&state).map_err(unreadable)?,
        result: row.result.as_deref().map(serde_json::from_str).transpose().map_err(unreadable)?,
        began: timestamp(&row.began),
        ended: row.ended.as_deref().map(timestamp),
        within: row.within,
    })
}

/// Whether what is written from now on is on disk when its statement returns.
fn forget_secrets(connection: &Connection, operation: i64) -> rusqlite::Result<()> {
    let whole = "SELECT state FROM operations WHERE id = ?1";
    let state: String = connection.query_row(whole, [operation], |row| row.get(0))?;
    // One that cannot be read is told by who reads it.
    let Ok(mut state) = serde_json::from_str::<Value>(&state) else { return Ok(()) };
    secrets::forget(&mut state);
    let written = params![operation, state.to_string()];
    connection.execute("UPDATE operations SET state = ?2 WHERE id = ?1", written).map(drop)
}

fn durably(connection: &Connection, durably: bool) -> rusqlite::Result<()> {
    let level = if durably { "FULL" } else { "NORMAL" };
    connection.pragma_update(None, "synchronous", level)
}

fn now() -> String {
    Timestamp::now().to_string()
}

fn timestamp(text: &str) -> Timestamp {
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

fn db(doing: &'static str) -> impl Fn(rusqlite::Error) -> JournalError {
    move |source| JournalError::Database { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn that_it_was_cancelled_is_in_the_state_and_all_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("journal")).unwrap();
        let id = journal.begin("evacuate", "all", Asked::by("a test"), &json!({ "groups": [1] })).unwrap();
        journal.note_cancelled(id).unwrap();
        let state = journal.operation(id).unwrap().unwrap().state;
        assert_eq!(state, json!({ "groups": [1], "is_cancelled": true }));
    }

    #[test]
    fn an_end_is_told_with_the_course_that_led_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("journal")).unwrap();
        let (send, told) = std::sync::mpsc::channel();
        let send = Mutex::new(send);
        journal.tell_ends_to(move |record, entries| {
            let steps: Vec<_> = entries.iter().map(|entry| format!("{} {}", entry.step, entry.event)).collect();
            send.lock().unwrap().send((record.phase, record.ended.is_some(), steps)).unwrap();
        });
        let id = journal.begin("trip", "somebody", Asked::by("a test"), &Value::Null).unwrap();
        let stand = Stand { index: 0, step: "pack", event: "begins", phase: Phase::Running, on_disk: false };
        journal.record(id, &stand, &Value::Null).unwrap();
        assert!(told.try_recv().is_err());
        journal.end(id, Phase::Undone, &Value::Null).unwrap();
        assert_eq!(told.try_recv().unwrap(), (Phase::Undone, true, vec!["pack begins".to_owned()]));
    }

    #[test]
    fn passwords_are_kept_as_long_as_an_operation_may_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        let state = serde_json::json!({ "inspect": { "Config": { "Env": ["PASSWORD=swordfish"] } } });
        let id = journal.begin("trip", "somebody", Asked::by("a test"), &state).unwrap();
        journal.end(id, Phase::NeedsPerson, &Value::Null).unwrap();
        assert_eq!(journal.operation(id).unwrap().unwrap().state, state);
        journal.end(id, Phase::Done, &Value::Null).unwrap();
        let left = serde_json::json!({ "inspect": { "Config": { "Env": [] } } });
        assert_eq!(journal.operation(id).unwrap().unwrap().state, left);
        // Beside the journal lies SQLite's log.
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap().path();
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(9).any(|found| found == b"swordfish"), "it still is in {}", file.display());
        }
    }

    #[test]
    fn an_entry_that_asks_for_it_is_on_disk_when_it_returns() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("journal")).unwrap();
        let id = journal.begin("trip", "somebody", Asked::by("a test"), &Value::Null).unwrap();
        // `synchronous` is 2 (FULL) where SQLite writes its log out with each transaction, and 1 (NORMAL) where not.
        let written_out = |phase, on_disk| {
            let stand = Stand { index: 0, step: "pack", event: "begins", phase, on_disk };
            journal.record(id, &stand, &Value::Null).unwrap();
            journal.lock().pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(written_out(Phase::Running, false), 1);
        assert_eq!(written_out(Phase::Running, true), 2);
        assert_eq!(written_out(Phase::Running, false), 1);
        assert_eq!(written_out(Phase::Committed, false), 2);
    }
}
