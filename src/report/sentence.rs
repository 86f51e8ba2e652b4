//! The one sentence that says what happened.

use super::figures::{Totals, count, counted, duration, or_unknown};
use super::{ContainerCourse, Outcome, Report};

/// Containers named in the sentence before the rest is only counted.
const MOST_NAMES: usize = 3;

/// What happened: to what, how it ended, who was away for how long, what was lost.
pub(super) fn headline(report: &Report) -> String {
    let clauses = [vec![ending(report)], absence(report), still_away(report), loss(report)];
    format!("{} on {}: {}.", title(report), report.host, clauses.concat().join("; "))
}

/// The operation's subject, and what was done to it where the subject alone does not say that.
pub(super) fn title(report: &Report) -> String {
    let kind = capitalised(&report.kind);
    match report.kind.as_str() {
        _ if report.subject.is_empty() => kind,
        "upgrade" | "rollback" => report.subject.clone(),
        _ => format!("{kind} of {}", report.subject),
    }
}

/// Containers that have not come back although they should have.
pub(super) fn missing(report: &Report) -> Vec<&ContainerCourse> {
    let containers = report.containers.iter().filter(|container| container.is_still_away(report.stretch()));
    containers.filter(|_| still(report) == "still away").collect()
}

/// What a container is that has not come back.
pub(super) fn still(report: &Report) -> &'static str {
    match report.outcome {
        // A checkpoint that is done leaves them frozen, and that is what was asked.
        Outcome::Done if report.kind == "checkpoint" => "frozen in a checkpoint",
        Outcome::UnderWay => "away now",
        _ => "still away",
    }
}

/// How long the longest was away, or that one is still.
pub(super) fn longest_away(report: &Report) -> String {
    match report.containers.iter().any(|container| container.is_still_away(report.stretch())) {
        true => still(report).into(),
        false => or_unknown(Totals::of(report).away_us, duration),
    }
}

fn ending(report: &Report) -> String {
    let after = |word: &str| report.took_us().map_or(String::new(), |took| format!(" {word} {}", duration(took)));
    match report.outcome {
        Outcome::Done => format!("done{}", after("in")),
        Outcome::Undone => format!("failed and rolled back{}", after("within")),
        Outcome::NeedsPerson => format!("failed{} and needs a person", after("after")),
        Outcome::UnderWay => {
            let step = report.steps.iter().rfind(|step| step.ended.is_none());
            let step = step.map_or(String::new(), |step| {
                format!(", now {} {}", if step.undo { "undoing" } else { "at" }, step.name)
            });
            format!("under way{}{step}", after("for"))
        }
    }
}

/// Those that were away and are back.
fn absence(report: &Report) -> Vec<String> {
    let operation = report.stretch();
    let all = report.containers.len();
    let away: Vec<_> = report.containers.iter().filter(|container| container.was_away(operation)).collect();
    let back: Vec<_> = away.iter().filter(|container| !container.is_still_away(operation)).collect();
    let whom = match back.as_slice() {
        [] if away.is_empty() && all > 0 => return vec!["no container was away".into()],
        [] => return Vec::new(),
        [one] if all == 1 => one.name.clone(),
        _ if back.len() == all => counted(all as u64, "container"),
        _ => format!("{} of {}", count(back.len() as u64), counted(all as u64, "container")),
    };
    let were = was_or_were(back.len() as u64);
    let most = if back.len() == 1 { "" } else { " at most" };
    let longest = back.iter().filter_map(|container| container.away_us).max();
    let time = longest.map_or(String::new(), |longest| format!(" for {}{most}", duration(longest)));
    vec![format!("{whom} {were} away{time}")]
}

fn still_away(report: &Report) -> Vec<String> {
    let operation = report.stretch();
    let away: Vec<_> = report.containers.iter().filter(|container| container.is_still_away(operation)).collect();
    if away.is_empty() {
        return Vec::new();
    }
    let mut names: Vec<_> = away.iter().take(MOST_NAMES).map(|container| container.name.clone()).collect();
    if away.len() > MOST_NAMES {
        names.push(format!("{} more", count((away.len() - MOST_NAMES) as u64)));
    }
    let last = names.pop().unwrap_or_default();
    let names = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
    let are = if away.len() == 1 { "is" } else { "are" };
    vec![format!("{names} {are} {}", still(report))]
}

/// What was lost. That it was nothing is only said where it is known.
fn loss(report: &Report) -> Vec<String> {
    let operation = report.stretch();
    let away: Vec<_> = report.containers.iter().filter(|container| container.was_away(operation)).collect();
    let is_back = |container: &ContainerCourse| !container.is_still_away(operation);
    let afresh = away.iter().filter(|container| container.is_stopped() && is_back(container)).count() as u64;
    let mut losses = Vec::new();
    if afresh > 0 {
        losses.push(format!("{} {} stopped and started afresh", count(afresh), was_or_were(afresh)));
    }
    if let Some(dropped @ 1..) = Totals::of(report).dropped {
        losses.push(format!("{} {} dropped", counted(dropped, "packet"), was_or_were(dropped)));
    }
    let ended = matches!(report.outcome, Outcome::Done | Outcome::Undone);
    let whole = |container: &ContainerCourse| container.dropped == Some(0) && is_back(container);
    if losses.is_empty() && ended && !away.is_empty() && away.iter().all(|container| whole(container)) {
        losses.push("nothing was lost".into());
    }
    losses
}

fn was_or_were(number: u64) -> &'static str {
    if number == 1 { "was" } else { "were" }
}

fn capitalised(word: &str) -> String {
    let mut signs = word.chars();
    signs.next().map_or(String::new(), |first| first.to_uppercase().chain(signs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn an_upgrade_is_told_in_one_sentence() {
        assert_eq!(
            headline(&sample::upgrade()),
            "Docker 26.1.5 -> 28.5.2 on alpha: done in 31.2 s; 10 containers were away for 3.24 s at most; nothing \
             was lost."
        );
    }

    #[test]
    fn one_container_is_called_by_its_name() {
        let mut report = sample::upgrade();
        report.containers.truncate(1);
        assert!(headline(&report).contains("; postgres was away for "), "{}", headline(&report));
    }

    #[test]
    fn what_is_still_away_is_named() {
        let text = headline(&sample::needs_person());
        assert_eq!(longest_away(&sample::needs_person()), "still away");
        assert!(text.contains("failed after 52.1 s and needs a person; "), "{text}");
        assert!(
            text.ends_with("; 8 of 10 containers were away for 3.24 s at most; postgres and redis are still away."),
            "{text}"
        );
    }

    #[test]
    fn a_checkpoint_leaves_its_container_frozen_and_that_is_no_alarm() {
        let mut report = sample::needs_person();
        (report.kind, report.subject, report.outcome) = ("checkpoint".into(), "web".into(), Outcome::Done);
        assert!(headline(&report).starts_with("Checkpoint of web on alpha: done in 52.1 s"));
        assert!(headline(&report).contains("postgres and redis are frozen in a checkpoint"));
        assert_eq!(missing(&report), Vec::<&ContainerCourse>::new());
    }

    #[test]
    fn nothing_is_said_to_be_unharmed_unless_that_is_known() {
        let unharmed = |report: &Report| headline(report).contains("nothing was lost");
        let mut report = sample::upgrade();
        assert!(unharmed(&report));
        report.containers[3].dropped = None;
        assert!(!unharmed(&report));
        report.containers[3].dropped = Some(1);
        assert!(headline(&report).ends_with("; 1 packet was dropped."));
        report.containers[3].strategy = "stop".into();
        assert!(headline(&report).contains("; 1 was stopped and started afresh; 1 packet was dropped"));
        report.containers[3].dropped = Some(0);
        assert!(!unharmed(&report));
        assert!(!unharmed(&sample::under_way()));
    }

    #[test]
    fn an_operation_under_way_says_where_it_is() {
        assert!(headline(&sample::under_way()).contains("under way for 27.2 s, now at restart; "));
    }

    #[test]
    fn without_containers_and_words_there_is_still_a_sentence() {
        let mut report = sample::upgrade();
        report.containers.clear();
        report.subject.clear();
        assert_eq!(headline(&report), "Upgrade on alpha: done in 31.2 s.");
    }
}
