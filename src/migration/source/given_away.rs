//! What becomes of containers once they are given to the destination, by what it or a person says.

use super::Migrate;
use super::departures::write_down;
use super::memory::Mode;
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, Departure, departure};
use crate::migration::words::Standing;
use crate::operations;
use crate::saga::Operation;
use crate::world::Context;
use crate::world::decisions::Decision;

/// Whatever fails from the claim on, they stay frozen here.
pub fn give_away(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
    for member in migrate.freeze.members().iter().rev() {
        let failed = || format!("{} cannot be claimed", member.name);
        let claim = operations::claim(context, &member.id, &member.checkpoint).or_fail(failed)?;
        context.claims.place(&claim.departed_to(&migrate.peer)).or_fail(failed)?;
    }
    migrate.departure = migrate.departure.on(departure::Event::Commit).next;
    write_down(migrate, context)
}

/// The destination says where they stand that were given to it. That they never ran there and never will is on disk before they
/// go on here: what came of a lost answer must not be that nobody knows of it.
pub fn given_away_stands(migrate: &mut Migrate, context: &Context, arrival: Arrival) -> Result<(), Failure> {
    // The claim says that it is committed, whatever was journalled when a helper died over it.
    migrate.departure = Departure::Committed.on(departure::Event::Answer(arrival)).next;
    write_down(migrate, context)?;
    if migrate.departure == Departure::GivenUp {
        migrate.decided = Some(Decision::Thaw);
    }
    Ok(())
}

/// They were given away, and do not run there.
pub fn not_run_there(migrate: &Migrate, standing: Standing) -> Failure {
    let (name, peer) = (migrate.name(), &migrate.peer);
    let mut failure = match (standing.arrival, migrate.mode) {
        (Arrival::Dropped, _) => Failure::new(format!(
            "{name} was given to {peer}, which has lost it before it ran there: it stays here, and goes on where it stood"
        ))
        .remedy("migrate it again"),
        (other, mode) => {
            let failure = Failure::new(format!("{name} was given to {peer}, and {peer} says: {other:?}"));
            failure.remedy(match mode {
                Mode::PostCopy => "it stays frozen here, with all its memory, until you decide: see transship status",
                _ => "it stays frozen here until you decide; its checkpoint is whole: see transship ls",
            })
        }
    };
    if let Some(problem) = standing.problem {
        failure.why = std::iter::once(problem.what).chain(problem.why).collect();
        failure.remedy = problem.remedy.or(failure.remedy);
    }
    failure
}

/// A person has decided without the destination. What was decided is written down first; ending keeps all files here, for the
/// destination may have none.
pub fn by_force(migrate: &mut Migrate, context: &Context, decision: Decision) -> Result<(), Failure> {
    migrate.decided = Some(decision);
    let event = match decision {
        Decision::Thaw => departure::Event::ForceThaw,
        _ => departure::Event::ForceEnd,
    };
    // The claim says that it is committed.
    migrate.departure = Departure::Committed.on(event).next;
    write_down(migrate, context)?;
    if migrate.is_taken_back() {
        return Err(Failure::new(format!("{} stays here, as was decided", migrate.name())));
    }
    migrate.keep_source = true;
    let_pass(migrate, context)
}

pub fn let_pass(migrate: &Migrate, context: &Context) -> Result<(), Failure> {
    migrate.freeze.members().iter().try_for_each(|member| {
        let passed = context.holds.with(&member.id, |hold| hold.let_pass());
        passed.transpose().or_fail(|| format!("packets to {} are still parked", member.name)).map(drop)
    })
}
