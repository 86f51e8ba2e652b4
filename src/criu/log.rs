//! The last words of a CRIU log.
//!
//! CRIU writes thousands of lines; those that explain a failure are the `Error (...)` lines, what stands just before
//! them, and the end. This is read when something has failed already, so it never fails itself.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How much of the end of a log is looked at, in bytes.
const WINDOW: u64 = 512 * 1024;
/// Lines kept before each error.
const BEFORE: usize = 3;
/// Lines kept at the end.
const TAIL: usize = 6;
/// Lines kept in all; the last ones win.
const MAX_LINES: usize = 40;
/// Characters kept of a line.
const MAX_LINE: usize = 300;

/// The part of a CRIU log that explains a failure. Displays as nothing where no log was expected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogExcerpt {
    /// The log's file; `None` where CRIU was not asked to write one.
    pub file: Option<PathBuf>,
    /// Lines as CRIU wrote them, shortened; `...` stands for a gap.
    pub lines: Vec<String>,
    /// Why there are no lines.
    pub missing: Option<String>,
}

impl LogExcerpt {
    /// The first error CRIU wrote, which most often is the cause of the others. One that CRIU goes on after, when it
    /// may not raise its own limit of open files, is passed over.
    pub fn first_error(&self) -> Option<&str> {
        let mut errors = self.lines.iter().filter(|line| is_error(line) && !is_harmless(line));
        errors.next().map(String::as_str)
    }
}

impl fmt::Display for LogExcerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(file) = &self.file else {
            return Ok(());
        };
        if let Some(why) = &self.missing {
            return write!(f, "; its log {} is missing: {why}", file.display());
        }
        write!(f, "; from its log {}:", file.display())?;
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// The telling lines of the log at `path`.
pub fn excerpt(path: &Path) -> LogExcerpt {
    let file = Some(path.to_path_buf());
    match read_end(path) {
        Ok(text) if text.trim().is_empty() => {
            LogExcerpt { file, missing: Some("it is empty".to_owned()), ..LogExcerpt::default() }
        }
        Ok(text) => LogExcerpt { file, lines: select(&text), missing: None },
        Err(error) => LogExcerpt { file, missing: Some(error.to_string()), ..LogExcerpt::default() },
    }
}

fn read_end(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line of a window is cut somewhere.
    Ok(if start > 0 { text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned()) } else { text })
}

fn select(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut wanted: BTreeSet<usize> = (lines.len().saturating_sub(TAIL)..lines.len()).collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| is_error(line)) {
        wanted.extend(at.saturating_sub(BEFORE)..=at);
    }
    let mut kept = Vec::new();
    let mut last = None;
    for at in wanted.into_iter().rev().take(MAX_LINES) {
        if last.is_some_and(|last| last != at + 1) {
            kept.push("...".to_owned());
        }
        kept.push(shorten(lines[at]));
        last = Some(at);
    }
    kept.reverse();
    kept
}

fn is_error(line: &str) -> bool {
    line.contains("Error (") || line.contains("FATAL")
}

/// Written by every CRIU without CAP_SYS_RESOURCE.
pub(super) fn is_harmless(line: &str) -> bool {
    line.contains("Can't setup RLIMIT_NOFILE for self")
}

fn shorten(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{} [cut]", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> LogExcerpt {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        excerpt(file.path())
    }

    #[test]
    fn errors_come_with_what_stood_before_them_and_with_the_end() {
        let mut text: String = (0..100).map(|n| format!("(00.{n:06}) step {n}\n")).collect();
        text.push_str("(01.0) Error (criu/sockets.c:1): no luck\n");
        text.extend((0..50).map(|n| format!("after {n}\n")));
        let found = written(&text);
        assert!(found.lines.iter().any(|line| line.ends_with("step 97")));
        assert!(!found.lines.iter().any(|line| line.ends_with("step 96")));
        assert_eq!(found.first_error(), Some("(01.0) Error (criu/sockets.c:1): no luck"));
        assert_eq!(found.lines.last().unwrap(), "after 49");
        assert_eq!(found.lines.iter().filter(|line| *line == "...").count(), 1);
    }

    #[test]
    fn a_log_of_any_size_gives_a_bounded_excerpt() {
        let text = format!("Error ({}\n", "ä".repeat(2000)).repeat(2000);
        let found = written(&text);
        assert!(found.lines.len() <= 2 * MAX_LINES);
        assert!(found.lines.iter().all(|line| line.chars().count() <= MAX_LINE + 6));
    }

    #[test]
    fn a_missing_or_empty_log_is_told_of() {
        let missing = excerpt(Path::new("/nonexistent/dump.log"));
        assert!(missing.to_string().contains("is missing: No such file"), "{missing}");
        assert!(written("").to_string().contains("it is empty"));
        assert_eq!(LogExcerpt::default().to_string(), "");
    }

    #[test]
    fn an_error_that_criu_goes_on_after_is_not_the_cause() {
        let found = written(
            "(0.1) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self: no\n(0.2) Error (x): the cause\n",
        );
        assert_eq!(found.first_error(), Some("(0.2) Error (x): the cause"));
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xff\xfe\nError (x) \xc3\n").unwrap();
        assert!(excerpt(file.path()).first_error().is_some());
    }
}
