//! `decide`: a person says by force which copy of a container it is to be, where the two hosts cannot agree (I3).

use super::destination::{self, Arrive};
use super::source::{self, Migrate};
use crate::failure::Failure;
use crate::operations;
use crate::saga::{Operation, OperationRecord};
use crate::world::Context;
use crate::world::decisions::Decision;
use serde_json::{Value, json};

/// Carries a decision out. Where it can cost something it is refused, with what it can cost, unless it is forced.
pub fn run(
    context: &Context,
    operation: i64,
    decision: Decision,
    force: bool,
    asked_by: &str,
) -> Result<Value, Failure> {
    let record = operations::open_record(context, operation)?;
    let (risk, of_source) = match record.kind.as_str() {
        Migrate::KIND => (source::forced::risk(context, &record, decision)?, true),
        Arrive::KIND => (destination::forced::risk(context, &record, decision)?, false),
        other => {
            return Err(Failure::usage(format!("operation {operation} is a {other}"))
                .remedy("only migrations are decided; see: transship status"));
        }
    };
    if let Some(risk) = risk.filter(|_| !force) {
        let again = format!("if that is what you want: transship decide {operation} {} --force", decision.word());
        return Err(Failure::refused(risk).remedy(again));
    }
    tracing::warn!(operation, ?decision, force, asked_by, "a person has decided");
    match of_source {
        true => source::forced::decide(context, record, decision, asked_by)?,
        false => destination::forced::decide(context, record, decision)?,
    }
    Ok(json!({ "operation": operation, "decision": decision, "forced": force }))
}

/// What can be decided about an operation now.
pub fn choices(context: &Context, record: &OperationRecord) -> Vec<Decision> {
    let all = [Decision::Thaw, Decision::End, Decision::Run, Decision::Drop];
    let can = |decision: &Decision| match record.kind.as_str() {
        Migrate::KIND => source::forced::can_be(context, record, *decision).is_ok(),
        Arrive::KIND => destination::forced::can_be(context, record, *decision).is_ok(),
        _ => false,
    };
    all.into_iter().filter(can).collect()
}
