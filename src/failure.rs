//! What is told when something cannot be done: what failed, on what, why, and what to do next.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;

/// How an operation ended when it did not succeed; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It failed and what it had done is undone.
    Failed,
    /// The request itself makes no sense.
    Usage,
    /// A check said no before anything was touched.
    Refused,
    /// It failed and a person has to decide.
    NeedsPerson,
}

impl Outcome {
    /// The exit code of the command line for this outcome.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NeedsPerson => 4,
        }
    }
}

/// A failure as it travels from the helper to the operator.
///
/// The chain of causes is flattened here, at the edge, and nowhere before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// How it ended.
    pub outcome: Outcome,
    /// What failed, on what: one line.
    pub what: String,
    /// Why, from the nearest cause to the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Last lines of a log that tell more, such as CRIU's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Failure {
    /// A failure after which nothing is changed.
    pub fn new(what: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, what: what.into(), why: Vec::new(), remedy: None, details: Vec::new() }
    }

    /// A refusal before anything was touched.
    pub fn refused(what: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, ..Self::new(what) }
    }

    /// A request that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { outcome: Outcome::Usage, ..Self::new(what) }
    }

    /// The same, as a refusal: nothing was touched.
    pub fn as_refusal(mut self) -> Self {
        self.outcome = Outcome::Refused;
        self
    }

    /// Adds an error and all that caused it.
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.why.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what to do next.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds lines of a log.
    pub fn details(mut self, lines: Vec<String>) -> Self {
        self.details = lines;
        self
    }

    /// What failed, why, and what to do, for a list of several.
    pub fn in_one_line(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
        format!("{self}{remedy}")
    }

    /// The same, with no more than so many bytes of causes, remedy and log together; the last lines of a log are dropped first.
    pub fn shortened(mut self, most: usize) -> Self {
        let mut left = most;
        let mut fits = |text: &String| {
            let has_room = text.len() <= left;
            left -= if has_room { text.len() } else { left };
            has_room
        };
        self.remedy = self.remedy.filter(&mut fits);
        self.why.retain(&mut fits);
        self.details.retain(&mut fits);
        self
    }

    /// Marks the failure as one of something that had begun: whatever refused a part of it, something was touched.
    pub fn undone(mut self) -> Self {
        self.outcome = Outcome::Failed;
        self
    }

    /// Marks the failure as one that a person has to decide.
    pub fn needs_person(mut self) -> Self {
        self.outcome = Outcome::NeedsPerson;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for cause in &self.why {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl Error for Failure {}

/// Gives an error the sentence that says what failed, on what.
pub trait OrFail<T> {
    /// Turns the error into a [`Failure`] that begins with `what`.
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Error + 'static> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(what()).because(&error))
    }
}
