//! What is made of several migrations has in common: groups of containers go one after the other, until somebody cancels that.
//!
//! Whoever cancels the whole cancels what is under way as well: what has not committed stays where it was, what has goes on to
//! its end, and nothing else is begun.

use crate::failure::Failure;
use crate::world::cancels::Cancellable;
use crate::world::{Context, Turn};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long it takes at most until it is heard that the whole was cancelled, where a turn is waited for.
const HEARS: Duration = Duration::from_millis(500);

/// The turn on containers. Another operation that is at work on them is waited for, which is told, no longer than `patience`.
pub fn turn<'a>(
    context: &'a Context,
    names: &[String],
    patience: Duration,
    cancel: &Cancellable,
) -> Result<Turn<'a>, Failure> {
    let (begun, mut is_told) = (Instant::now(), false);
    loop {
        let taken = match context.busy.begin_within(names.to_vec(), HEARS.min(patience)) {
            Ok(turn) => return Ok(turn),
            Err(taken) => taken,
        };
        cancel.go_ahead(false)?;
        if begun.elapsed() >= patience {
            return Err(Failure::refused(format!("another operation is at work on {taken}"))
                .remedy("wait for it; see: transship status"));
        }
        if !std::mem::replace(&mut is_told, true) {
            context.told.note(&format!("{} waits: another operation is at work on {taken}", names.join(", ")));
        }
    }
}

/// What a whole that was cancelled tells of its containers: those that have moved, and those that have not.
pub fn cancelled(moved: Vec<String>, stays: Vec<String>) -> Value {
    json!({ "moved": moved, "stays": stays })
}

/// The same in a sentence.
pub fn in_words(cancelled: &Value) -> String {
    let names = |key: &str| {
        let names = cancelled[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    match (names("moved"), names("stays")) {
        (moved, stays) if moved.is_empty() => format!("nothing has moved; {stays} runs where it was"),
        (moved, stays) => format!("{moved} has moved; {stays} runs where it was"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cancelled_tells_what_has_moved() {
        let told = |moved: &[&str], stays: &[&str]| {
            let [moved, stays] = [moved, stays].map(|names| names.iter().map(ToString::to_string).collect());
            in_words(&cancelled(moved, stays))
        };
        assert_eq!(told(&["web", "db"], &["x"]), "web, db has moved; x runs where it was");
        assert_eq!(told(&[], &["x", "y"]), "nothing has moved; x, y runs where it was");
    }
}
