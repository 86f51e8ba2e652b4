//! What is said to an arrival, and what its source says when it is asked.

use super::{Arrive, of_source};
use crate::failure::Failure;
use crate::handover::{Arrival, arrival};
use crate::world::Context;
use crate::world::decisions::Decision;

/// A word of the handover, or a person's. The rules say what becomes of it; this carries out what they say, short of letting it run.
pub fn heard(arrive: &mut Arrive, context: &Context, event: arrival::Event) -> Result<(), Failure> {
    let next = arrive.arrival.on(event).next;
    if next != arrive.arrival {
        arrive.stands(context, next)?;
    }
    match next {
        // The answer follows when all is undone.
        Arrival::Dropped | Arrival::Lost => Err(Failure::new(match event {
            arrival::Event::ForceDrop => format!("{} was dropped here by force", arrive.name()),
            _ => format!("{} is not to run here: {} keeps it", arrive.name(), arrive.peer),
        })),
        // Answered once it runs.
        Arrival::Released => {
            if event == arrival::Event::ForceRun {
                arrive.decided = Some(Decision::Run);
            }
            Ok(())
        }
        _ => {
            arrive.visit(context).hear();
            Ok(())
        }
    }
}

/// The source may have decided and not have been able to say so.
pub fn ask_source(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
    match of_source::decided(&arrive.peer, &arrive.id) {
        Ok(Some(request)) => heard(arrive, context, arrival::Event::Request(request)),
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::info!(migration = %arrive.id, peer = arrive.peer, %error, "its source cannot be asked; waiting on");
            Ok(())
        }
    }
}
