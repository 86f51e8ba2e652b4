//! `inspect`: one checkpoint in full.

use crate::failure::{Failure, OrFail};
use crate::world::Context;
use serde_json::{Value, json};

/// The manifest, and where it lies.
pub fn run(context: &Context, reference: &str) -> Result<Value, Failure> {
    let checkpoint = super::find(context, reference)?;
    let failed = || format!("checkpoint {} cannot be described", checkpoint.id());
    let mut answer = serde_json::to_value(checkpoint.manifest()).or_fail(failed)?;
    answer["directory"] = json!(checkpoint.dir());
    answer["bytes"] = json!(checkpoint.disk_usage());
    answer["form"] = json!(super::form_name(checkpoint.form().or_fail(failed)?));
    Ok(answer)
}
