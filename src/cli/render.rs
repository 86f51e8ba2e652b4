//! What the operator sees: bars on a terminal, plain lines in a pipe, JSON when asked.

use crate::failure::Failure;
use crate::helper::protocol::Message;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;

/// How progress is shown, on standard error.
pub enum Progress {
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

    /// Shows one event.
    pub fn show(&self, message: &Message) {
        match self {
            Self::Json => eprintln!("{}", serde_json::to_string(message).unwrap_or_default()),
            Self::Lines => {
                if let Some(text) = describe(message) {
                    eprintln!("{text}");
                }
            }
            Self::Bar(bar) => match (message, describe(message)) {
                (Message::Step { .. } | Message::Bytes { .. } | Message::Percent { .. }, Some(text)) => {
                    bar.set_message(text)
                }
                (_, Some(text)) => bar.println(text),
                (_, None) => {}
            },
        }
    }

    /// Takes the moving line away.
    pub fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn describe(message: &Message) -> Option<String> {
    Some(match message {
        Message::Step { name, number, of } => format!("[{number}/{of}] {name}"),
        Message::StepEnded { name, microseconds } => format!("  {name}: {}", duration(*microseconds)),
        Message::Bytes { what, done, total } => {
            format!("  {what}: {} of {} ({} %)", HumanBytes(*done), HumanBytes(*total), done * 100 / (*total).max(1))
        }
        Message::Percent { what, percent } => format!("  {what}: {percent} %"),
        Message::Part { container, doing, number, of } => format!("  {container}: {doing} ({number}/{of})"),
        Message::Note { text } => format!("  note: {text}"),
        Message::Undoing { because } => format!("  undoing: {because}"),
        Message::Done { .. } | Message::Failed { .. } => return None,
    })
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
