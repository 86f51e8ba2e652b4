//! The report as one page that needs nothing else: no script, no file, no network.

use super::figures::{Totals, UNKNOWN, bytes, count, counted, duration, or_unknown, time};
use super::picture::Pictures;
use super::printable::printable;
use super::reason::reasons;
use super::sentence::{headline, longest_away, missing, still, title};
use super::{Cause, ContainerCourse, Outcome, PackageChange, Report, Span};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// Should a text ever get out of its place, the browser still fetches nothing and runs nothing.
const NOTHING_FROM_ELSEWHERE: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The report as a page of its own. Everything from outside is escaped.
pub fn html(report: &Report) -> String {
    page(&printable(report)).into_string()
}

fn page(report: &Report) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(NOTHING_FROM_ELSEWHERE);
                title { (report.outcome.label()) ": " (arrows(&title(report))) " on " (report.host) }
                style { (PreEscaped(STYLE)) }
            }
            body.(class(report.outcome)) {
                (head(report))
                main {
                    @if let Some(cause) = &report.failure { (failure(cause)) }
                    (still_away(report))
                    @if !report.packages.is_empty() { (versions(report)) }
                    (timeline(report))
                    @if !report.containers.is_empty() { (containers(report)) }
                    @if !report.warnings.is_empty() { (warnings(&report.warnings)) }
                    @if !report.steps.is_empty() { (steps(report)) }
                }
                footer { "Written by transship at " (time(report.as_of, report.utc_offset_s)) "." }
            }
        }
    }
}

fn head(report: &Report) -> Markup {
    let zone = report.utc_offset_s;
    let took = report.took_us().map(duration);
    html! {
        header {
            p.over {
                span.badge { (sign(report.outcome)) " " (report.outcome.label()) }
                span { "Operation " (report.operation) ", " (report.kind) }
            }
            h1 { (arrows(&headline(report))) }
            dl.facts {
                dt { "Asked by" } dd { (report.asked_by) }
                dt { "Began" } dd { (time(report.began, zone)) }
                dt { "Ended" }
                dd {
                    @match report.ended {
                        Some(ended) => {
                            (time(ended, zone)) @if let Some(took) = took { ", after " (took) }
                        }
                        None => { "not yet" @if let Some(took) = took { "; " (took) " so far" } }
                    }
                }
                @if !report.warnings.is_empty() {
                    dt { "Besides" }
                    dd { a href="#warnings" { (counted(report.warnings.len() as u64, "warning")) } " below" }
                }
            }
        }
    }
}

fn failure(cause: &Cause) -> Markup {
    html! {
        section.failure aria-labelledby="failure" {
            h2 id="failure" { "What failed" }
            p.what { (cause.what) }
            @if !cause.why.is_empty() {
                ul { @for why in &cause.why { li { "because: " (why) } } }
            }
            @if !cause.details.is_empty() {
                pre { @for line in &cause.details { (line) "\n" } }
            }
            @if let Some(remedy) = &cause.remedy { p.remedy { b { "What to do: " } (remedy) } }
        }
    }
}

fn still_away(report: &Report) -> Markup {
    let missing = missing(report);
    html! {
        @if !missing.is_empty() {
            section.missing aria-labelledby="missing" {
                h2 id="missing" { "Still away" }
                ul {
                    @for container in missing {
                        li { b { (container.name) } @if let Some(note) = &container.note { ": " (note) } }
                    }
                }
            }
        }
    }
}

fn versions(report: &Report) -> Markup {
    let (before, after) = match report.outcome {
        Outcome::Done => ("Before", "Now"),
        Outcome::Undone => ("Before, and now again", "Was to be"),
        Outcome::NeedsPerson | Outcome::UnderWay => ("Before", "To be"),
    };
    html! {
        h2 { "Versions" }
        table {
            thead { tr { th scope="col" { "Package" } th scope="col" { (before) } th scope="col" { (after) } } }
            tbody {
                @for PackageChange { name, from, to } in &report.packages {
                    tr {
                        th scope="row" { (name) }
                        (version(before, from.as_deref(), "not installed"))
                        (version(after, to.as_deref(), "removed"))
                    }
                }
            }
        }
    }
}

fn version(label: &str, version: Option<&str>, none: &str) -> Markup {
    html! {
        td data-label=(label) {
            @match version { Some(version) => span { (version) }, None => span.none { (none) } }
        }
    }
}

fn timeline(report: &Report) -> Markup {
    html! {
        h2 { "What happened when" }
        @if report.clock_was_set_back() {
            p.aside { "The clock was set back meanwhile. Bars may be too long, too short or in the wrong place." }
        }
        (Pictures::of(report).draw())
    }
}

fn containers(report: &Report) -> Markup {
    html! {
        h2 { "Containers" }
        @for reason in reasons(&report.containers) {
            p { b { (reason.strategy) } ", since " (reason.why) ": " (reason.whom()) "." }
        }
        table {
            thead {
                tr {
                    th scope="col" { "Container" }
                    th scope="col" { "Strategy" }
                    th.number scope="col" { "Held" }
                    th.number scope="col" { "Away" }
                    th.number scope="col" { "Memory" }
                    th.number scope="col" { "Packets parked" }
                    th.number scope="col" { "Packets dropped" }
                }
            }
            tbody { @for container in &report.containers { (container_row(report, container)) } }
            @if report.containers.len() > 1 { tfoot { (totals_row(report)) } }
        }
        p.aside {
            "Held: how long its packets were kept for it, so how long its clients waited. "
            "Away: how long it did not run. "
            "Parked packets were let go when it ran again. Of those that were dropped, TCP sends its own again. "
            (UNKNOWN) " is not known."
        }
    }
}

fn container_row(report: &Report, container: &ContainerCourse) -> Markup {
    let operation = report.stretch();
    let is_away = container.is_still_away(operation);
    html! {
        tr {
            th scope="row" {
                (container.name)
                @if let Some(note) = &container.note { div.note { (note) } }
            }
            td.word data-label="Strategy" { (container.strategy) }
            td.number data-label="Held" {
                (or_unknown(container.held_us(operation), duration)) @if is_away { " so far" }
            }
            @if is_away { td.number data-label="Away" { b { (still(report)) } } }
            @else { (figure("Away", container.away_us, duration)) }
            (figure("Memory", container.memory_bytes, bytes))
            (figure("Packets parked", container.parked, count))
            (figure("Packets dropped", container.dropped, count))
        }
    }
}

fn totals_row(report: &Report) -> Markup {
    let totals = Totals::of(report);
    html! {
        tr {
            th scope="row" { "Longest time, and sum of the rest" }
            td {}
            (figure("Held at most", totals.held_us, duration))
            td.number data-label="Away at most" { (longest_away(report)) }
            (figure("Memory", totals.memory_bytes, bytes))
            (figure("Packets parked", totals.parked, count))
            (figure("Packets dropped", totals.dropped, count))
        }
    }
}

fn figure(label: &str, figure: Option<u64>, show: impl Fn(u64) -> String) -> Markup {
    html! { td.number data-label=(label) { (or_unknown(figure, show)) } }
}

fn warnings(warnings: &[String]) -> Markup {
    html! {
        h2 id="warnings" { "Warnings" }
        ul.warnings { @for warning in warnings { li { (warning) } } }
    }
}

fn steps(report: &Report) -> Markup {
    let since = |span: &Span| span.began.as_microsecond() - report.began.as_microsecond();
    html! {
        details {
            summary { "The " (counted(report.steps.len() as u64, "step")) ", one by one" }
            table {
                thead {
                    tr {
                        th.number scope="col" { "No." }
                        th scope="col" { "Step" }
                        th.number scope="col" { "Began after" }
                        th.number scope="col" { "Took" }
                    }
                }
                tbody {
                    @for (index, span) in report.steps.iter().enumerate() {
                        tr {
                            td.number data-label="No." { (index + 1) }
                            th scope="row" { @if span.undo { "undo of " } (span.name) }
                            (figure("Began after", u64::try_from(since(span)).ok(), duration))
                            (figure("Took", span.took_us(), duration))
                        }
                    }
                }
            }
        }
    }
}

fn arrows(text: &str) -> String {
    text.replace("->", "→")
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Undone => "undone",
        Outcome::NeedsPerson => "needs-person",
        Outcome::UnderWay => "under-way",
    }
}

fn sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "✓",
        Outcome::Undone => "↶",
        Outcome::NeedsPerson => "!",
        Outcome::UnderWay => "…",
    }
}
