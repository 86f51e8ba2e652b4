//! What both hosts have in common where a person decides by force: whoever is at work hears of it, and has to end as decided.

use crate::failure::Failure;
use crate::operations;
use crate::saga::Phase;
use crate::world::{Context, Turn};
use std::time::Duration;

/// How long whoever works on the migration may take to hear of it and to carry it out.
const CARRYING_OUT: Duration = Duration::from_secs(300);

/// The right to work on the containers of a migration once `tell` has told whoever works on it now.
pub fn turn_after<'a>(
    context: &'a Context,
    names: Vec<String>,
    tell: impl FnOnce(),
) -> Result<(Turn<'a>, bool), Failure> {
    if let Ok(turn) = context.busy.begin(names.clone()) {
        return Ok((turn, false));
    }
    tell();
    let turn = context.busy.begin_within(names, CARRYING_OUT);
    turn.map(|turn| (turn, true)).map_err(|taken| {
        Failure::new(format!(
            "whoever is at work on {taken} has not carried it out within {} s",
            CARRYING_OUT.as_secs()
        ))
        .remedy("see: transship status")
        .needs_person()
    })
}

/// How it has ended; an error where it has not ended as decided.
pub fn ended(context: &Context, operation: i64, wanted: Phase) -> Result<(), Failure> {
    let record = operations::record(context, operation)?;
    if record.phase == wanted {
        return Ok(());
    }
    let failure = record.result.and_then(|result| serde_json::from_value(result["failure"].clone()).ok());
    Err(failure.unwrap_or_else(|| Failure::new(format!("operation {operation} is {}", record.phase)).needs_person()))
}
