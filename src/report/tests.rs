//! What holds for every report, whatever is in it.

use super::sample::{self, container};
use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[test]
fn a_report_comes_back_from_json_as_it_was() {
    for report in sample::all() {
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}

#[test]
fn the_names_of_fields_and_outcomes_are_stable() {
    let json = serde_json::to_value(sample::needs_person()).unwrap();
    assert_eq!(json["outcome"], "needs-person");
    assert_eq!(json["began"], "2026-05-03T03:12:07Z");
    assert_eq!(json["containers"][0]["away_us"], serde_json::Value::Null);
}

#[test]
fn a_clock_that_was_set_back_is_noticed() {
    let mut report = sample::upgrade();
    assert!(!report.clock_was_set_back());
    report.steps[2].ended = Some(report.began);
    assert!(report.clock_was_set_back());
    assert_eq!(report.steps[2].took_us(), None);
}

#[test]
fn markup_and_escape_sequences_from_outside_stay_text() {
    let report = sample::crowded();
    let page = html(&report);
    for escaped in ["&lt;b&gt;&quot;x&quot;&amp;", "&lt;script&gt;alert('x')&lt;/script&gt;", "Docker &lt;26.1.5&gt;"] {
        assert!(page.contains(escaped), "{escaped}");
    }
    for raw in ["<script", "<b>\"x\"", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(raw), "{raw}");
    }
    assert!(!text(&report).contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for report in sample::all() {
        let page = html(&report);
        for outside in ["http:", "https:", "<script", "<link", "<img", "@import", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}

#[test]
fn every_sample_is_well_formed_and_fits_a_terminal() {
    sample::all().iter().for_each(check);
}

#[test]
fn an_empty_report_has_no_empty_tables() {
    let report = sample::empty();
    assert!(!html(&report).contains("<table"));
    assert!(!text(&report).contains("CONTAINER"));
}

proptest! {
    #[test]
    fn any_report_makes_a_well_formed_page_and_lines_that_fit(report in any_report()) {
        check(&report);
    }
}

fn check(report: &Report) {
    let page = html(report);
    assert_eq!(unbalanced(&page), None, "{page}");
    assert!(!page.contains("=\"NaN") && !page.contains("=\"inf"), "a place that is no number");
    for line in text(report).lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

/// The first tag that is not closed by its own end.
fn unbalanced(page: &str) -> Option<String> {
    const WITHOUT_END: [&str; 3] = ["meta", "br", "!DOCTYPE"];
    let mut open = Vec::new();
    for tag in page.split('<').skip(1) {
        let Some((tag, _)) = tag.split_once('>') else { return Some(tag.into()) };
        let name = tag.split_whitespace().next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return Some(tag.into()),
            None if !WITHOUT_END.contains(&name) => open.push(name),
            _ => {}
        }
    }
    open.pop().map(Into::into)
}

prop_compose! {
    fn any_report()(
        outcome in prop_oneof![
            Just(Outcome::Done), Just(Outcome::Undone), Just(Outcome::NeedsPerson), Just(Outcome::UnderWay),
        ],
        (began, ended, as_of) in (any_time(), option::of(any_time()), any_time()),
        (kind, subject, asked_by) in (any_name(), any::<String>(), any::<String>()),
        utc_offset_s in any::<Option<i32>>(),
        cause in option::of((any::<String>(), vec(any::<String>(), 0..3), any::<Option<String>>())),
        packages in vec((any::<String>(), any::<Option<String>>(), any::<Option<String>>()), 0..3),
        steps in any_spans(),
        containers in vec(any_container(), 0..5),
        warnings in vec(any::<String>(), 0..3),
    ) -> Report {
        let failure = cause.map(|(what, why, remedy)| Cause { what, details: why.clone(), why, remedy });
        let packages = packages.into_iter().map(|(name, from, to)| PackageChange { name, from, to }).collect();
        Report {
            kind, subject, asked_by, outcome, began, ended, as_of, utc_offset_s, failure, packages, steps, containers,
            warnings, ..sample::empty()
        }
    }
}

prop_compose! {
    fn any_container()(
        name in any::<String>(),
        strategy in any_name(),
        spans in any_spans(),
        figures in any::<[Option<u64>; 4]>(),
        note in any::<Option<String>>(),
    ) -> ContainerCourse {
        let [away_us, memory_bytes, parked, dropped] = figures;
        ContainerCourse { strategy, spans, away_us, memory_bytes, parked, dropped, note, ..container(&name) }
    }
}

fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (any_name(), any_time(), option::of(any_time()), any::<bool>());
    vec(span.prop_map(|(name, began, ended, undo)| Span { name, began, ended, undo }), 0..9)
}

/// A word that means something, or anything.
fn any_name() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 9] = ["upgrade", "checkpoint", "stop", "hold", "freeze", "dump", "claim", "verify", "start"];
    prop_oneof![prop::sample::select(&KNOWN[..]).prop_map(String::from), any::<String>()]
}

/// Mostly within an hour, sometimes the ends of time.
fn any_time() -> impl Strategy<Value = Timestamp> {
    let hour = (0i64..3_600_000_000).prop_map(|time| Timestamp::from_microsecond(time).unwrap());
    prop_oneof![8 => hour, 1 => Just(Timestamp::MIN), 1 => Just(Timestamp::MAX)]
}
