//! What pictures of time are made of: rows, an axis, bars and their labels.
//!
//! Everything is placed in per cent of the row's width, so that rows fit a telephone and a sheet of paper while texts
//! keep their size, and a page breaks between rows.

use super::axis::{Stretch, Tick, ticks};
use super::course::{Bar, Look};
use super::figures::{UNKNOWN, duration};
use maud::{Markup, html};

/// Height of a row, which is also that of its bars and what is above and below.
pub(super) const HEIGHT: f64 = 22.0;
/// No bar is narrower than this, in per cent, or it would not be seen.
const NARROWEST: f64 = 0.25;
/// How wide a row is taken to be when it is decided which labels fit: on a screen, and on a telephone or paper.
const WIDE: f64 = 780.0;
const NARROW: f64 = 300.0;
/// Width of a letter, generously, and of the space around a label.
const LETTER: f64 = 6.6;
const AROUND: f64 = 8.0;

pub(super) fn row(kind: &str, name: &Markup, spoken: &str, drawing: &Markup) -> Markup {
    html! {
        div class={ "row " (kind) } {
            div.name { (name) }
            svg.plot role="img" aria-label=(spoken) width="100%" height=(HEIGHT) { (drawing) }
        }
    }
}

pub(super) fn axis(view: Stretch) -> Markup {
    html! {
        div.row.axis aria-hidden="true" {
            div.name {}
            svg.plot width="100%" height=(HEIGHT) {
                @for Tick { share, label } in ticks(view.length()) {
                    @let anchor = match share { 0.0..0.02 => "start", 0.96..=1.0 => "end", _ => "middle" };
                    text x=(percent(share * 100.0)) y="15" text-anchor=(anchor) { (label) }
                }
            }
        }
    }
}

pub(super) fn grid(view: Stretch) -> Markup {
    html! {
        @for Tick { share, .. } in ticks(view.length()) {
            @let x = percent(share * 100.0);
            line.grid x1=(x) x2=(x) y1="0" y2="100%" {}
        }
    }
}

pub(super) fn running(view: Stretch, stretch: Stretch) -> Markup {
    let end = |at: i64| percent(view.share(at) * 100.0);
    running_line(&end(stretch.from), &end(stretch.to))
}

pub(super) fn running_line(from: &str, to: &str) -> Markup {
    html! { line.runs x1=(from) x2=(to) y1="50%" y2="50%" {} }
}

/// The wide first, so that the narrow are not hidden by them.
pub(super) fn draw_bars(mut bars: Vec<(&Bar<'_>, &str, String)>, view: Stretch) -> Markup {
    bars.sort_by_key(|(bar, ..)| std::cmp::Reverse(bar.stretch.length()));
    html! {
        @for (bar, class, number) in bars {
            @let (x, width) = place(bar.stretch, view);
            @let class = if bar.open { format!("{class} open") } else { class.into() };
            g {
                title { (tell(bar)) }
                rect class={ "bar " (class) } x=(percent(x)) width=(percent(width)) y="2" height=(HEIGHT - 4.0) {}
                @for (fits, label) in labels(bar.name, &number, width) {
                    text class={ "label " (class) " " (fits) } x=(percent(x + width / 2.0)) y="15" { (label) }
                }
            }
        }
    }
}

/// What fits into a bar on a screen and on a telephone: name, number, or nothing.
fn labels(name: &str, number: &str, width: f64) -> Vec<(&'static str, String)> {
    let both = format!("{number} {name}");
    let candidates = [both.trim(), name, number];
    let fitting = |row: f64| {
        let space = row * width / 100.0 - AROUND;
        let fits = |label: &&&str| label.chars().count() as f64 * LETTER <= space;
        candidates.iter().find(fits).filter(|label| !label.is_empty()).map(|label| label.to_string())
    };
    match (fitting(WIDE), fitting(NARROW)) {
        (Some(wide), Some(narrow)) if wide == narrow => vec![("", wide)],
        (wide, narrow) => {
            wide.map(|label| ("wide", label)).into_iter().chain(narrow.map(|label| ("narrow", label))).collect()
        }
    }
}

/// Begin and width of a bar in per cent of the view, always inside it.
pub(super) fn place(stretch: Stretch, view: Stretch) -> (f64, f64) {
    let (from, to) = (view.share(stretch.from) * 100.0, view.share(stretch.to) * 100.0);
    let width = (to - from).max(NARROWEST);
    (from.min(100.0 - width), width)
}

pub(super) fn percent(share: f64) -> String {
    format!("{share:.3}%")
}

/// A row of bars for those who do not see it.
pub(super) fn spoken<'b>(bars: impl Iterator<Item = &'b Bar<'b>>) -> String {
    let told: Vec<String> = bars.map(tell).collect();
    if told.is_empty() { "nothing".into() } else { told.join(", ") }
}

fn tell(bar: &Bar<'_>) -> String {
    let undo = if bar.look == Look::Undo { "undo of " } else { "" };
    let took = match bar.took_us {
        Some(took) if bar.open => format!("{} and more", duration(took)),
        Some(took) => duration(took),
        None if bar.open => "no end noted".into(),
        None => UNKNOWN.into(),
    };
    format!("{undo}{} {took}", bar.name)
}

pub(super) fn class(look: Look) -> &'static str {
    match look {
        Look::Hold => "hold",
        Look::Freeze => "freeze",
        Look::Dump => "dump",
        Look::Copy => "copy",
        Look::Seal => "seal",
        Look::Claim => "claim",
        Look::Stop => "stop",
        Look::Wait => "wait",
        Look::Verify => "verify",
        Look::Reclaim => "reclaim",
        Look::Start => "start",
        Look::Undo => "undo",
        Look::Other => "other",
    }
}

pub(super) fn bar_key(look: Look, name: &str) -> Markup {
    let bar = html! { rect class={ "bar " (class(look)) } width="100%" height="100%" {} };
    html! { span.key { (key(&bar)) (name) } }
}

pub(super) fn key(drawing: &Markup) -> Markup {
    html! { svg width="22" height="12" aria-hidden="true" { (drawing) } }
}

/// Hatchings, so that waiting and undoing are told apart without colour.
pub(super) fn patterns() -> Markup {
    html! {
        svg.patterns width="0" height="0" aria-hidden="true" {
            defs {
                @for (name, turn) in [("waiting", "rotate(45)"), ("undoing", "rotate(-45)")] {
                    pattern id=(name) class=(name) width="6" height="6"
                        patternUnits="userSpaceOnUse" patternTransform=(turn) {
                        rect width="6" height="6" {}
                        line x1="0" y1="0" x2="0" y2="6" {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_bar_is_drawn_inside_the_picture(view in any::<(i64, i64)>(), bar in any::<(i64, i64)>()) {
            let (x, width) = place(Stretch::new(bar.0, bar.1), Stretch::new(view.0, view.1));
            prop_assert!(x >= 0.0 && width >= NARROWEST && x + width <= 100.0 + 1e-9, "{x} {width}");
        }
    }

    #[test]
    fn a_label_is_as_long_as_its_bar_allows() {
        assert_eq!(labels("install", "4", 50.0), [("", "4 install".into())]);
        assert_eq!(labels("install", "4", 10.0), [("wide", "4 install".into()), ("narrow", "4".into())]);
        assert_eq!(labels("dump", "", 1.0), []);
    }
}
