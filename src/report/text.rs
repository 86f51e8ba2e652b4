//! The report as plain lines, for a terminal or a pipe.

use super::axis::Stretch;
use super::course::{Bar, Look};
use super::figures::{Totals, bytes, count, duration, or_unknown, time};
use super::printable::printable;
use super::reason::reasons;
use super::sentence::{headline, longest_away, missing, still};
use super::{Cause, ContainerCourse, Outcome, Report};

/// No line is longer.
const WIDTH: usize = 100;
/// Names longer than this have a line for themselves.
const NAME_WIDTH: usize = 32;
/// Letters that draw the time for which containers were away.
const PICTURE_WIDTH: usize = WIDTH - NAME_WIDTH - 4;

/// The report as plain lines of at most 100 letters.
pub fn text(report: &Report) -> String {
    let report = printable(report);
    let mut page = Page::default();
    page.paragraph("", &headline(&report));
    facts(&report, &mut page);
    if let Some(cause) = &report.failure {
        failure(cause, &mut page);
    }
    let missing = missing(&report);
    if !missing.is_empty() {
        page.head("STILL AWAY");
        missing.iter().for_each(|container| page.paragraph("  ", &container.name));
    }
    versions(&report, &mut page);
    steps(&report, &mut page);
    picture(&report, &mut page);
    containers(&report, &mut page);
    if !report.warnings.is_empty() {
        page.head("WARNINGS");
        report.warnings.iter().for_each(|warning| page.paragraph("  - ", warning));
    }
    page.0
}

fn facts(report: &Report, page: &mut Page) {
    let zone = report.utc_offset_s;
    let ended = match (report.ended, report.took_us().map(duration)) {
        (Some(ended), Some(took)) => format!("{}, after {took}", time(ended, zone)),
        (Some(ended), None) => time(ended, zone),
        (None, Some(took)) => format!("not yet; {took} so far"),
        (None, None) => "not yet".into(),
    };
    page.line("");
    page.paragraph("outcome    ", report.outcome.label());
    page.paragraph("operation  ", &format!("{}, {}", report.operation, report.kind));
    page.paragraph("asked by   ", &report.asked_by);
    page.paragraph("began      ", &time(report.began, zone));
    page.paragraph("ended      ", &ended);
}

fn failure(cause: &Cause, page: &mut Page) {
    page.head("FAILURE");
    page.paragraph("  ", &cause.what);
    cause.why.iter().for_each(|why| page.paragraph("  because: ", why));
    cause.details.iter().for_each(|line| page.paragraph("  | ", line));
    if let Some(remedy) = &cause.remedy {
        page.paragraph("  what to do: ", remedy);
    }
}

fn versions(report: &Report, page: &mut Page) {
    let (before, after) = match report.outcome {
        Outcome::Done => ("BEFORE", "NOW"),
        Outcome::Undone => ("BEFORE, NOW AGAIN", "WAS TO BE"),
        Outcome::NeedsPerson | Outcome::UnderWay => ("BEFORE", "TO BE"),
    };
    let version = |version: &Option<String>, none: &str| version.clone().unwrap_or_else(|| none.into());
    let rows = report.packages.iter().map(|package| {
        vec![package.name.clone(), version(&package.from, "not installed"), version(&package.to, "removed")]
    });
    page.table(&["PACKAGE", before, after], &rows.collect::<Vec<_>>(), &[]);
}

fn steps(report: &Report, page: &mut Page) {
    let began = report.began.as_microsecond();
    let rows = report.steps.iter().map(|step| {
        let after = u64::try_from(step.began.as_microsecond() - began).ok();
        let undo = if step.undo { "undo of " } else { "" };
        vec![format!("{undo}{}", step.name), or_unknown(after, duration), or_unknown(step.took_us(), duration)]
    });
    page.table(&["STEP", "BEGAN AFTER", "TOOK"], &rows.collect::<Vec<_>>(), &[1, 2]);
    if report.clock_was_set_back() {
        page.paragraph("  ", "The clock was set back meanwhile; times may be wrong.");
    }
}

fn picture(report: &Report, page: &mut Page) {
    let operation = report.stretch();
    let touched = report.containers.iter().filter_map(|container| container.touched(operation));
    let Some(window) = touched.reduce(Stretch::cover) else { return };
    page.head("WHILE CONTAINERS WERE AWAY");
    let scale = format!("0 s{:>width$}", duration(window.length()), width = PICTURE_WIDTH - 3);
    page.columns(&[String::new(), scale], &[NAME_WIDTH, PICTURE_WIDTH], &[]);
    for container in &report.containers {
        let drawn = draw(container, operation, window);
        page.columns(&[container.name.clone(), drawn], &[NAME_WIDTH, PICTURE_WIDTH], &[]);
    }
    page.paragraph("  ", ". runs   h runs, packets kept for it   # is frozen   - waits   + is restored   u undo");
}

/// One letter for each part of the window: what was done to the container for most of it, or else what it did.
fn draw(container: &ContainerCourse, operation: Stretch, window: Stretch) -> String {
    let bars = container.bars(operation);
    let edge = |index: usize| {
        let past = window.length() as f64 * index as f64 / PICTURE_WIDTH as f64;
        window.from.saturating_add(past as i64)
    };
    let letter = |index: usize| {
        let part = Stretch::new(edge(index), edge(index + 1));
        let within = |bar: &&Bar<'_>| bar.stretch.overlap(part).map_or(0, Stretch::length);
        let is_work = |bar: &&Bar<'_>| bar.look != Look::Wait;
        bars.iter().filter(|bar| within(bar) > 0).max_by_key(|bar| (is_work(bar), within(bar))).map_or('.', sign)
    };
    (0..PICTURE_WIDTH).map(letter).collect()
}

fn sign(bar: &Bar<'_>) -> char {
    match bar.look {
        Look::Hold => 'h',
        Look::Freeze | Look::Dump | Look::Copy | Look::Seal | Look::Claim | Look::Stop => '#',
        Look::Wait => '-',
        Look::Verify | Look::Reclaim | Look::Start => '+',
        Look::Undo => 'u',
        Look::Other => '.',
    }
}

fn containers(report: &Report, page: &mut Page) {
    const HEADS: [&str; 7] = ["CONTAINER", "STRATEGY", "HELD", "AWAY", "MEMORY", "PARKED", "DROPPED"];
    const NUMBERS: [usize; 5] = [2, 3, 4, 5, 6];
    let operation = report.stretch();
    let figures = |container: &ContainerCourse| {
        let away = match container.is_still_away(operation) {
            true => still(report).into(),
            false => or_unknown(container.away_us, duration),
        };
        vec![
            container.name.clone(),
            container.strategy.clone(),
            or_unknown(container.held_us(operation), duration),
            away,
            or_unknown(container.memory_bytes, bytes),
            or_unknown(container.parked, count),
            or_unknown(container.dropped, count),
        ]
    };
    let mut rows: Vec<_> = report.containers.iter().map(figures).collect();
    if rows.len() > 1 {
        let totals = Totals::of(report);
        rows.push(vec![
            "(longest, sums)".into(),
            String::new(),
            or_unknown(totals.held_us, duration),
            longest_away(report),
            or_unknown(totals.memory_bytes, bytes),
            or_unknown(totals.parked, count),
            or_unknown(totals.dropped, count),
        ]);
    }
    page.table(&HEADS, &rows, &NUMBERS);
    if rows.is_empty() {
        return;
    }
    page.line("");
    page.paragraph(
        "  ",
        "held: how long its clients waited; away: how long it did not run; dropped: TCP sends its own again",
    );
    for reason in reasons(&report.containers) {
        page.paragraph("  ", &format!("{}, since {}: {}", reason.strategy, reason.why, reason.whom()));
    }
    for container in &report.containers {
        if let Some(note) = &container.note {
            page.paragraph("  note: ", &format!("{}: {note}", container.name));
        }
    }
}

/// Lines of at most [`WIDTH`].
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn head(&mut self, head: &str) {
        self.line("");
        self.line(head);
    }

    /// A text in as many lines as it needs, all but the first one as far in as its lead is long.
    fn paragraph(&mut self, lead: &str, text: &str) {
        let inset = " ".repeat(lead.chars().count());
        for (index, line) in wrap(text, WIDTH - inset.len()).iter().enumerate() {
            self.line(&format!("{}{line}", if index == 0 { lead } else { &inset }));
        }
    }

    fn table(&mut self, heads: &[&str], rows: &[Vec<String>], numbers: &[usize]) {
        if rows.is_empty() {
            return;
        }
        self.line("");
        let heads: Vec<String> = heads.iter().map(|head| head.to_string()).collect();
        let rows: Vec<_> = std::iter::once(&heads).chain(rows).collect();
        let widths = widths(&rows);
        rows.iter().for_each(|row| self.columns(row, &widths, numbers));
    }

    /// One row; a cell that is too long for its column goes on in a line of its own.
    fn columns(&mut self, cells: &[String], widths: &[usize], numbers: &[usize]) {
        let mut line = String::new();
        for (index, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let column = line.chars().count();
            if cell.chars().count() > width {
                for (part, text) in wrap(cell, WIDTH - column - 2).into_iter().enumerate() {
                    let before = if part == 0 { std::mem::take(&mut line) } else { " ".repeat(column) };
                    self.line(&format!("{before}  {text}"));
                }
                line = " ".repeat(column + 2 + width);
            } else if numbers.contains(&index) {
                line.push_str(&format!("  {cell:>width$}"));
            } else {
                line.push_str(&format!("  {cell:<width$}"));
            }
        }
        if !line.trim().is_empty() {
            self.line(&line);
        }
    }
}

/// As wide as their widest cells, and then the widest columns narrower until all fit beside each other.
fn widths(rows: &[&Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, |heads| heads.len());
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut widths: Vec<_> = (0..columns).map(|column| widest(column).unwrap_or_default().min(NAME_WIDTH)).collect();
    while widths.iter().map(|width| width + 2).sum::<usize>() > WIDTH {
        widths.iter_mut().max().into_iter().for_each(|width| *width -= 1);
    }
    widths
}

/// Breaks between words, and within those that are too long for a line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + rest.len() <= width {
            lines.iter_mut().last().into_iter().for_each(|line| line.push(' '));
        } else if used > 0 {
            lines.push(String::new());
        }
        while rest.len() > width {
            let tail = rest.split_off(width);
            lines.iter_mut().last().into_iter().for_each(|line| line.extend(&rest));
            lines.push(String::new());
            rest = tail;
        }
        lines.iter_mut().last().into_iter().for_each(|line| line.extend(&rest));
    }
    lines
}
