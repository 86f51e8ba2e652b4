//! Texts from outside, without what would command a terminal or mislead a reader.

use super::{Cause, ContainerCourse, PackageChange, Report, Span};

/// The same report, every text of it fit to be shown.
pub(super) fn printable(report: &Report) -> Report {
    Report {
        kind: line(&report.kind),
        subject: line(&report.subject),
        host: line(&report.host),
        asked_by: line(&report.asked_by),
        failure: report.failure.as_ref().map(cause),
        packages: report.packages.iter().map(package).collect(),
        steps: report.steps.iter().map(span).collect(),
        containers: report.containers.iter().map(container).collect(),
        warnings: lines(&report.warnings),
        ..*report
    }
}

fn cause(cause: &Cause) -> Cause {
    Cause {
        what: line(&cause.what),
        why: lines(&cause.why),
        remedy: cause.remedy.as_deref().map(line),
        details: lines(&cause.details),
    }
}

fn package(package: &PackageChange) -> PackageChange {
    PackageChange {
        name: line(&package.name),
        from: package.from.as_deref().map(line),
        to: package.to.as_deref().map(line),
    }
}

fn span(span: &Span) -> Span {
    Span { name: line(&span.name), ..*span }
}

fn container(container: &ContainerCourse) -> ContainerCourse {
    ContainerCourse {
        name: line(&container.name),
        strategy: line(&container.strategy),
        reason: line(&container.reason),
        spans: container.spans.iter().map(span).collect(),
        note: container.note.as_deref().map(line),
        ..*container
    }
}

fn lines(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| line(text)).collect()
}

/// One line: white space is a single blank, and every other sign that steers rather than shows is a `U+FFFD`.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(steers, "\u{fffd}")
}

/// Control characters (escape sequences of a terminal), marks that turn the direction of writing, and code points
/// that are no characters and that HTML forbids.
fn steers(sign: char) -> bool {
    let code = u32::from(sign);
    sign.is_control()
        || matches!(sign, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(code, 0xfdd0..=0xfdef)
        || code & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_commanded_and_a_line_stays_one() {
        assert_eq!(line("a\n\n b\tc"), "a b c");
        assert_eq!(line("\u{1b}[2Jweb\u{202e}"), "\u{fffd}[2Jweb\u{fffd}");
        assert_eq!(line("größe 容器"), "größe 容器");
    }
}
