//! What an operator asks for, each a readable list of steps.

pub mod check;
pub mod checkpoint;
pub mod collect;
pub mod export;
pub mod holds;
pub mod import;
pub mod inspect;
pub mod install;
pub mod list;
pub mod pack;
pub mod remove;
pub mod restore;
pub mod status;

use crate::failure::{Failure, OrFail};
use crate::store::Checkpoint;
use crate::store::checkpoint::Form;
use crate::world::{Context, Turn};

/// The checkpoint that an operator means.
fn find(context: &Context, reference: &str) -> Result<Checkpoint, Failure> {
    let found = context.catalog.find(reference).or_fail(|| format!("no checkpoint {reference}"));
    found.map_err(|failure| failure.as_refusal().remedy("see: transship ls"))
}

/// The right to work on containers; refused while another operation does.
fn turn(context: &Context, names: Vec<String>) -> Result<Turn<'_>, Failure> {
    context.busy.begin(names).map_err(|name| {
        Failure::refused(format!("another operation is at work on {name}")).remedy("wait for it; see: transship status")
    })
}

/// A checkpoint's form for people.
fn form_name(form: Form) -> &'static str {
    match form {
        Form::Raw => "raw",
        Form::Packed => "compressed",
        Form::Both => "being compressed",
    }
}
