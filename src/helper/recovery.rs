//! What a killed helper left: brought to an end before anything new begins.

use crate::failure::{Failure, OrFail};
use crate::operations::checkpoint::Checkpoint;
use crate::operations::restore::Restore;
use crate::saga::{self, Operation, OperationRecord, Progress};
use crate::world::{Context, Told, World};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Brings unfinished operations to an end, takes holds over, sweeps what belongs to nothing.
pub fn run(world: &Arc<World>) -> Result<(), Failure> {
    let context = Context { world: Arc::clone(world), told: Arc::new(Log) };
    crate::operations::holds::take_over(&context);
    crate::restore::carry_out::committed(world);
    crate::restore::carry_out::unsettled(world);
    let unfinished = world.journal.unfinished().or_fail(|| "the journal cannot be read".into())?;
    for record in unfinished {
        tracing::warn!(
            operation = record.id,
            kind = record.kind,
            of = record.subject,
            "unfinished; bringing it to an end"
        );
        match bring_to_an_end(&context, &record) {
            Ok(_) => tracing::info!(operation = record.id, "done"),
            Err(failure) => tracing::warn!(operation = record.id, %failure, "ended"),
        }
    }
    crate::operations::holds::sweep(&context);
    let swept = world.catalog.sweep_staging().or_fail(|| "the store cannot be swept".into())?;
    if !swept.is_empty() {
        tracing::warn!(?swept, "half-made checkpoints are removed");
    }
    Ok(())
}

/// Tries an operation again that waits for a person.
pub fn resume(context: &Context, operation: i64) -> Result<Value, Failure> {
    let record = context.journal.operation(operation).or_fail(|| "the journal cannot be read".into())?;
    let record = record
        .ok_or_else(|| Failure::usage(format!("there is no operation {operation}")).remedy("see: transship history"))?;
    bring_to_an_end(context, &record)?;
    Ok(json!({ "operation": operation }))
}

fn bring_to_an_end(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    match record.kind.as_str() {
        Checkpoint::KIND => recover::<Checkpoint>(context, record),
        Restore::KIND => recover::<Restore>(context, record),
        other => Err(Failure::new(format!("operation {}: this version does not know {other}", record.id))),
    }
}

fn recover<O: Operation<World = Context>>(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let world = &context.world;
    saga::recover::<O>(record, context, &world.journal, &world.failpoints, context.told.as_ref())
}

/// Nobody waits for the answer at start; the log is told.
struct Log;

impl Progress for Log {
    fn step(&self, name: &str, number: usize, of: usize) {
        tracing::info!(step = name, number, of, "recovering");
    }

    fn step_ended(&self, name: &str, took: Duration) {
        tracing::info!(step = name, ?took, "step ended");
    }

    fn undoing(&self, because: &Failure) {
        tracing::info!(%because, "undoing");
    }
}

impl Told for Log {
    fn bytes(&self, _what: &str, _done: u64, _total: u64) {}

    fn note(&self, text: &str) {
        tracing::info!("{text}");
    }
}
