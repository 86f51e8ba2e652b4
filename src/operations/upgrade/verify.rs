//! Whether everything is as before, and stays so for a while.

use super::course::Traveller;
use super::health::wait_until_as_healthy;
use super::strategy::Strategy;
use super::{Upgrade, engine, fleet};
use crate::failure::{Failure, OrFail};
use crate::world::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Looks at the engine and at every container, and again after the grace period: nothing may have ended meanwhile, and
/// who was healthy has to be.
pub fn everything(upgrade: &Upgrade, context: &Context) -> Result<(), Failure> {
    let began = Timestamp::now();
    engine::require(context, upgrade.engine_package_version())?;
    members(upgrade).try_for_each(|(member, strategy)| require_running(member, strategy, context))?;
    let until = began + SignedDuration::from_secs(i64::from(context.settings.grace_seconds));
    let events = context.docker.events(began, until).or_fail(|| "dockerd does not tell its events".into())?;
    for (member, _) in members(upgrade).filter(|(member, _)| member.init.is_some()) {
        if let Some(what) = events.iter().find_map(|event| trouble(event, member.id.as_str())) {
            return Err(Failure::new(format!("{} {what} within the grace period", member.name)));
        }
    }
    members(upgrade).try_for_each(|(member, _)| wait_until_as_healthy(member, context))?;
    match fleet::is_any_away(upgrade, context)? {
        Some(name) => Err(Failure::new(format!("{name} is still frozen"))),
        None => Ok(()),
    }
}

fn members(upgrade: &Upgrade) -> impl Iterator<Item = (&Traveller, Strategy)> {
    upgrade.containers.iter().flat_map(|course| course.members.iter().map(|member| (member, course.strategy)))
}

fn require_running(member: &Traveller, strategy: Strategy, context: &Context) -> Result<(), Failure> {
    let container = context.docker.container(member.id.as_str()).or_fail(|| format!("{} is not here", member.name))?;
    // One that was restarted again and again before has no better claim now.
    let Some(init) = member.init else { return Ok(()) };
    if !container.is_running() {
        return Err(Failure::new(format!("{} does not run: it is {}", member.name, container.status())));
    }
    if strategy == Strategy::LiveRestore && !init.is_alive() {
        return Err(Failure::new(format!("{} did not run on while the engine was restarted", member.name)));
    }
    Ok(())
}

/// What an event says against a container.
fn trouble(event: &Value, id: &str) -> Option<&'static str> {
    if event["Actor"]["ID"] != id {
        return None;
    }
    match event["Action"].as_str()? {
        "die" => Some("has ended"),
        "oom" => Some("has run out of memory"),
        "health_status: unhealthy" => Some("has become unhealthy"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::trouble;
    use serde_json::json;

    #[test]
    fn only_what_happens_to_the_container_itself_counts() {
        let event = |id: &str, action: &str| json!({ "Actor": { "ID": id }, "Action": action });
        assert_eq!(trouble(&event("a", "die"), "a"), Some("has ended"));
        assert_eq!(trouble(&event("b", "die"), "a"), None);
        assert_eq!(trouble(&event("a", "exec_start: sh"), "a"), None);
        assert!(trouble(&event("a", "health_status: unhealthy"), "a").is_some());
    }
}
