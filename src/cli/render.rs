//! What the operator sees: bars on a terminal, plain lines in a pipe, JSON when asked.

use crate::failure::Failure;
use crate::helper::protocol::{Message, Round};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shows progress, on standard error.
pub struct Progress {
    form: Form,
    pace: Mutex<Pace>,
}

enum Form {
    /// A terminal: one line that moves.
    Bar(ProgressBar),
    /// A pipe or a file: a line for each event.
    Lines,
    /// For programs: a JSON object a line.
    Json,
}

impl Progress {
    /// As the output is.
    pub fn new(json: bool) -> Self {
        Self { form: Form::new(json), pace: Mutex::default() }
    }

    /// Shows one event.
    pub fn show(&self, message: &Message) {
        if let Form::Json = self.form {
            eprintln!("{}", serde_json::to_string(message).unwrap_or_default());
            return;
        }
        let left = self.pace.lock().unwrap_or_else(PoisonError::into_inner).left(message, Instant::now());
        let Some(text) = describe(message, left) else { return };
        match (&self.form, message) {
            (Form::Bar(bar), Message::Step { .. } | Message::Bytes { .. } | Message::Percent { .. }) => {
                bar.set_message(text);
            }
            (Form::Bar(bar), _) => bar.println(text),
            (Form::Lines | Form::Json, _) => eprintln!("{text}"),
        }
    }

    /// Takes the moving line away.
    pub fn end(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

impl Form {
    fn new(json: bool) -> Self {
        if json {
            return Self::Json;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Bar(bar)
    }
}

/// How fast the present amount grows.
#[derive(Debug, Default)]
struct Pace {
    /// What it is an amount of, how much there was at first, and when.
    since: Option<(String, u64, Instant)>,
}

/// Sooner than this a guess is worth nothing.
const FIRST_GUESS: Duration = Duration::from_millis(500);

impl Pace {
    /// How long it will still take, as it has gone until now; none where that cannot be told.
    fn left(&mut self, message: &Message, now: Instant) -> Option<Duration> {
        let (what, done, total) = match message {
            Message::Bytes { what, done, total } => (what, *done, *total),
            Message::Percent { what, percent } => (what, u64::from(*percent), 100),
            _ => return None,
        };
        let goes_on = self.since.as_ref().is_some_and(|(known, first, _)| known == what && *first <= done);
        if !goes_on {
            self.since = Some((what.clone(), done, now));
        }
        let (_, first, began) = self.since.as_ref()?;
        let (grown, took) = (done - first, now.duration_since(*began));
        let worth = grown > 0 && took >= FIRST_GUESS && done < total;
        worth.then(|| took.mul_f64(total.saturating_sub(done) as f64 / grown as f64))
    }
}

fn describe(message: &Message, left: Option<Duration>) -> Option<String> {
    let left = left.map(|left| format!(", {} s left", left.as_secs_f64().ceil())).unwrap_or_default();
    Some(match message {
        Message::Begun { operation } => format!("operation {operation}"),
        Message::Step { name, number, of } => format!("[{number}/{of}] {name}"),
        Message::StepEnded { name, microseconds } => format!("  {name}: {}", duration(*microseconds)),
        Message::Bytes { what, done, total } => {
            let percent = done * 100 / (*total).max(1);
            format!("  {what}: {} of {} ({percent} %{left})", HumanBytes(*done), HumanBytes(*total))
        }
        Message::Percent { what, percent } => format!("  {what}: {percent} %{left}"),
        Message::Part { container, doing, number, of } => format!("  {container}: {doing} ({number}/{of})"),
        Message::Round(round) => tell_round(round),
        Message::Note { text } => format!("  note: {text}"),
        Message::Undoing { because } => format!("  undoing: {because}"),
        Message::Done { .. } | Message::Failed { .. } => return None,
    })
}

fn tell_round(round: &Round) -> String {
    let (sent, memory) = (HumanBytes(round.sent_bytes), HumanBytes(round.memory_bytes));
    let rate = round.dirty_bytes_per_s.map_or_else(String::new, |rate| format!("; {}/s change", HumanBytes(rate)));
    let away = round.expected_downtime_us.map_or_else(String::new, |us| format!("; away for about {}", duration(us)));
    format!("  round {}: {sent} of {memory} sent{rate}{away}", round.number)
}

/// Microseconds as a person reads them.
pub fn duration(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        _ => format!("{:.2} s", microseconds as f64 / 1e6),
    }
}

/// Bytes as a person reads them.
pub fn bytes(value: &Value) -> String {
    HumanBytes(value.as_u64().unwrap_or_default()).to_string()
}

/// Prints why something failed; the one place that does.
pub fn failure(failure: &Failure, json: bool) {
    if json {
        println!("{}", json!({ "error": failure }));
        return;
    }
    eprintln!("transship: {}", failure.what);
    for cause in &failure.why {
        eprintln!("  because: {cause}");
    }
    for line in &failure.details {
        eprintln!("  | {line}");
    }
    if let Some(remedy) = &failure.remedy {
        eprintln!("  what to do: {remedy}");
    }
}

/// Columns padded to their widest cell, two spaces between.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    let heads: Vec<String> = heads.iter().map(|head| head.to_string()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_told_once_there_is_a_pace() {
        let began = Instant::now();
        let mut pace = Pace::default();
        let mut at = |seconds, done| {
            let message = Message::Bytes { what: "fetched".into(), done, total: 100 };
            pace.left(&message, began + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, 10), None);
        assert_eq!(at(2, 30), Some(Duration::from_secs(7)));
        assert_eq!(at(9, 100), None);
        assert_eq!(at(10, 5), None, "another one of the same name");
        assert_eq!(at(11, 10), Some(Duration::from_secs(18)));
    }

    #[test]
    fn columns_line_up() {
        let text = table(&["ID", "NAME"], &[vec!["1".into(), "web".into()], vec!["22".into(), "é".into()]]);
        assert_eq!(text, "ID  NAME\n1   web\n22  é\n");
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        assert_eq!(duration(999), "999 µs");
        assert_eq!(duration(1_500), "1.5 ms");
        assert_eq!(duration(2_340_000), "2.34 s");
    }
}
