//! Waiting until a container is as healthy as it was.

use super::course::Traveller;
use crate::failure::{Failure, OrFail};
use crate::world::Context;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long a health check may take to pass. Docker's own defaults give three tries of 30 seconds each.
const LONGEST_ILLNESS: Duration = Duration::from_secs(120);

/// Returns when a container's health check passes again; at once where it did not pass before.
pub fn wait_until_as_healthy(member: &Traveller, context: &Context) -> Result<(), Failure> {
    match member.was_healthy {
        Some(true) => wait_until_healthy(member, context),
        _ => Ok(()),
    }
}

fn wait_until_healthy(member: &Traveller, context: &Context) -> Result<(), Failure> {
    let deadline = Timestamp::now() + SignedDuration::try_from(LONGEST_ILLNESS).unwrap_or_default();
    loop {
        let began = Timestamp::now();
        let container =
            context.docker.container(member.id.as_str()).or_fail(|| format!("{} is not here", member.name))?;
        match container.health() {
            None | Some("healthy") => return Ok(()),
            Some(health) if began > deadline => {
                return Err(Failure::new(format!("{} is {health} after {} s", member.name, LONGEST_ILLNESS.as_secs())));
            }
            Some(_) => {}
        }
        // dockerd ends the answer at this moment; until then nothing can have changed that is not in it.
        let until = began + SignedDuration::from_secs(1);
        context.docker.events(began, until).or_fail(|| "dockerd does not tell its events".into())?;
    }
}
