//! What an operator asks of a single host, each a readable list of steps.

pub mod answering;
pub mod brought;
pub mod cancel;
pub mod carriage;
pub mod check;
pub mod checkpoint;
pub mod collect;
pub mod export;
pub mod forward;
pub mod holds;
pub mod images;
pub mod import;
pub mod inspect;
pub mod install;
pub mod list;
pub mod pack;
pub mod persist;
pub mod processor;
pub mod remove;
pub mod restore;
pub mod settled;
pub mod several;
pub mod upgrade;

use crate::failure::{Failure, OrFail};
use crate::restore::gate;
use crate::saga::{Operation, OperationRecord, Phase};
use crate::store::checkpoint::Form;
use crate::store::claims::Claim;
use crate::store::{Checkpoint, CheckpointId, ContainerId, StoreError};
use crate::world::{Context, Turn};

/// The turn on everything there is, or who has one.
pub fn turn_on_everything(context: &Context) -> Result<Turn<'_>, Failure> {
    context.busy.begin_on_engine().map_err(|taken| {
        Failure::refused(format!("another operation is at work on {taken}"))
            .remedy("wait for it; see: transship status")
    })
}

/// The checkpoint that an operator means: by id or name, or a container's newest.
///
/// A container's name belongs to the container that has it now. Only a name that nobody has is looked for among
/// the names that containers had when they were frozen.
pub fn find(context: &Context, reference: &str) -> Result<Checkpoint, Failure> {
    let listing = context.catalog.list().or_fail(|| "the store cannot be listed".into())?;
    let is_checkpoint = |one: &Checkpoint| {
        one.id().as_str() == reference || one.manifest().name.as_ref().is_some_and(|name| name.as_str() == reference)
    };
    if !listing.checkpoints.iter().any(is_checkpoint)
        && let Some(newest) = newest_of(context, listing.checkpoints, reference)
    {
        return Ok(newest);
    }
    let found = context.catalog.find(reference).or_fail(|| format!("{reference} means no checkpoint"));
    found.map_err(|failure| failure.as_refusal().remedy("see: transship ls"))
}

/// The newest checkpoint of the container that Docker knows by this name or id; the claimed one where there is one.
fn newest_of(context: &Context, checkpoints: Vec<Checkpoint>, reference: &str) -> Option<Checkpoint> {
    let container = context.docker.container(reference).ok()?;
    let id = container.id().parse().ok()?;
    let claimed = context.claims.find(&id).ok().flatten().map(|claim| claim.checkpoint);
    let mut own: Vec<_> = checkpoints.into_iter().filter(|one| one.manifest().container.id == id).collect();
    own.sort_by_key(|one| (Some(one.id()) == claimed.as_ref(), one.manifest().created));
    own.pop()
}

/// The note that a container's next create restores a checkpoint; not placed yet.
pub fn claim(context: &Context, container: &ContainerId, checkpoint: &CheckpointId) -> Result<Claim, StoreError> {
    let manifest = context.catalog.get(checkpoint)?.manifest_digest().to_string();
    Ok(Claim::new(container.clone(), checkpoint.clone(), manifest, gate::SOCKET.into()))
}

/// The right to work on containers; refused while another operation does.
pub fn turn(context: &Context, names: Vec<String>) -> Result<Turn<'_>, Failure> {
    context.busy.begin(names).map_err(|name| {
        Failure::refused(format!("another operation is at work on {name}")).remedy("wait for it; see: transship status")
    })
}

/// An operation in the journal.
pub fn record(context: &Context, operation: i64) -> Result<OperationRecord, Failure> {
    let record = context.journal.operation(operation).or_fail(|| "the journal cannot be read".into())?;
    record.ok_or_else(|| Failure::usage(format!("there is no operation {operation}")).remedy("see: transship history"))
}

/// The same, that has not come to its end.
pub fn open_record(context: &Context, operation: i64) -> Result<OperationRecord, Failure> {
    let record = record(context, operation)?;
    match record.phase {
        Phase::Done | Phase::Undone => {
            Err(Failure::refused(format!("operation {operation} has ended: it is {}", record.phase))
                .remedy("see: transship history"))
        }
        _ => Ok(record),
    }
}

/// What an operation in the journal remembers.
pub fn state<O: Operation>(record: &OperationRecord) -> Result<O, Failure> {
    let unreadable = || format!("operation {} in the journal cannot be read", record.id);
    serde_json::from_value(record.state.clone()).or_fail(unreadable)
}

/// A checkpoint's form for people.
fn form_name(form: Form) -> &'static str {
    match form {
        Form::Raw => "raw",
        Form::Packed => "compressed",
        Form::Both => "being compressed",
    }
}
