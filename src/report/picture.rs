//! The pictures: the operation's steps and its containers as rows of bars above one axis.

use super::axis::Stretch;
use super::course::{self, Bar, Look};
use super::draw::{
    HEIGHT, axis, bar_key, class, draw_bars, grid, key, patterns, percent, place, row, running, running_line, spoken,
};
use super::figures::{away_at_once, counted, duration};
use super::{ContainerCourse, Report};
use maud::{Markup, html};

/// Looks in the order in which a container meets them, with their names in the legend.
const LEGEND: [(&str, &[(Look, &str)]); 4] = [
    (
        "Being frozen",
        &[
            (Look::Freeze, "freeze"),
            (Look::Dump, "dump"),
            (Look::Copy, "copy"),
            (Look::Seal, "seal"),
            (Look::Claim, "claim"),
            (Look::Stop, "stop"),
        ],
    ),
    ("Standing still", &[(Look::Wait, "waits")]),
    ("Being restored", &[(Look::Verify, "verify"), (Look::Reclaim, "claim"), (Look::Start, "start")]),
    ("Else", &[(Look::Other, "other"), (Look::Undo, "undo")]),
];

/// What the pictures show.
pub(super) struct Pictures<'a> {
    report: &'a Report,
    operation: Stretch,
    /// All that is drawn.
    whole: Stretch,
    /// Where any container is held or away, and a little after that.
    window: Option<Stretch>,
}

impl<'a> Pictures<'a> {
    pub fn of(report: &'a Report) -> Self {
        let operation = report.stretch();
        let steps = course::bars(&report.steps, operation);
        let phases = report.containers.iter().flat_map(|container| container.bars(operation));
        let whole = steps.into_iter().chain(phases).map(|bar| bar.stretch).fold(operation, Stretch::cover);
        let touched = report.containers.iter().filter_map(|container| container.touched(operation));
        let window = touched.reduce(Stretch::cover).map(|window| with_margin(window, whole));
        Self { report, operation, whole, window }
    }

    /// The whole operation, and then the window alone.
    pub fn draw(&self) -> Markup {
        html! {
            (patterns())
            figure {
                figcaption { b { "The whole operation" } " (" (duration(self.whole.length())) ")" }
                (axis(self.whole))
                (self.steps(self.whole))
                @if let Some(window) = self.window { (self.away_at_once(window)) }
            }
            @if let Some(window) = self.window {
                figure {
                    figcaption {
                        b { "While containers were away" }
                        ": " (duration(window.length())) " of the above, from "
                        (duration(window.from.abs_diff(self.whole.from))) " on, enlarged"
                    }
                    (axis(window))
                    (self.steps(window))
                    @for container in &self.report.containers { (self.container(container, window)) }
                }
            }
            (self.legend())
        }
    }

    fn steps(&self, view: Stretch) -> Markup {
        let bars = course::bars(&self.report.steps, self.operation);
        let shown: Vec<_> = bars.iter().enumerate().filter(|(_, bar)| bar.stretch.overlap(view).is_some()).collect();
        let shade = |index: usize, bar: &Bar<'_>| match bar.look {
            Look::Undo => "undo",
            _ if index.is_multiple_of(2) => "even",
            _ => "odd",
        };
        let labelled = shown.iter().map(|(index, bar)| (*bar, shade(*index, bar), (index + 1).to_string()));
        row(
            "steps",
            &html! { b { "Steps" } },
            &spoken(shown.iter().map(|(_, bar)| *bar)),
            &html! {
                (grid(view))
                (draw_bars(labelled.collect(), view))
            },
        )
    }

    fn container(&self, container: &ContainerCourse, view: Stretch) -> Markup {
        let bars = container.bars(self.operation);
        let spoken = match bars.as_slice() {
            [] if container.was_away(self.operation) => "it was away; when was not noted".into(),
            [] => "it ran all the time".into(),
            bars => spoken(bars.iter()),
        };
        let shown = bars.iter().filter(|bar| bar.stretch.overlap(view).is_some());
        let labelled = shown.map(|bar| (bar, class(bar.look), String::new())).collect();
        row(
            "container",
            &html! { (container.name) },
            &spoken,
            &html! {
                (grid(view))
                @for stretch in self.running(container, view) { (running(view, stretch)) }
                (draw_bars(labelled, view))
            },
        )
    }

    /// When a container runs, as far as that was noted.
    fn running(&self, container: &ContainerCourse, view: Stretch) -> Vec<Stretch> {
        let mut from = view.from;
        let mut stretches = Vec::new();
        if container.spans.is_empty() && container.was_away(self.operation) {
            return stretches;
        }
        for away in container.away(self.operation) {
            stretches.push(Stretch::new(from, away.stretch.from));
            from = away.stretch.to;
        }
        // Past its end, and past now, an operation knows nothing.
        stretches.push(Stretch::new(from, view.to.min(self.operation.to)));
        stretches.into_iter().filter(|stretch| stretch.from < stretch.to).filter_map(|run| run.overlap(view)).collect()
    }

    fn away_at_once(&self, window: Stretch) -> Markup {
        let away = self.report.containers.iter().flat_map(|container| container.away(self.operation));
        let stairs = away_at_once(&away.map(|away| away.stretch).collect::<Vec<_>>());
        let most = stairs.iter().map(|(_, count)| *count).max().unwrap_or_default();
        let text = format!("{} away at once, at most", counted(most as u64, "container"));
        let (x, width) = place(window, self.whole);
        row(
            "away",
            &html! { b { "Away" } " (at most " (most) ")" },
            &text,
            &html! {
                (grid(self.whole))
                rect class="window" x=(percent(x)) width=(percent(width)) y="0" height="100%" {}
                @for (stretch, count) in stairs {
                    @let (x, width) = place(stretch, self.whole);
                    @let height = (HEIGHT - 2.0) * count as f64 / most as f64;
                    rect class="stair" x=(percent(x)) width=(percent(width)) y=(HEIGHT - height) height=(height) {
                        title { (counted(count as u64, "container")) " away" }
                    }
                }
            },
        )
    }

    fn legend(&self) -> Markup {
        let containers = self.report.containers.iter().flat_map(|container| container.bars(self.operation));
        let undone = self.report.steps.iter().any(|step| step.undo).then_some(Look::Undo);
        let seen: Vec<Look> = containers.map(|bar| bar.look).chain(undone).collect();
        let entries = |looks: &[(Look, &'static str)]| -> Vec<(Look, &'static str)> {
            looks.iter().copied().filter(|(look, _)| seen.contains(look)).collect()
        };
        let groups = LEGEND.iter().map(|(title, looks)| (*title, entries(looks)));
        html! {
            dl.legend aria-label="What the bars mean" {
                @if self.window.is_some() {
                    div {
                        dt { "Running" }
                        dd {
                            span.key { (key(&running_line("0%", "100%"))) "runs" }
                            @if seen.contains(&Look::Hold) { (bar_key(Look::Hold, "hold: packets are kept for it")) }
                        }
                    }
                }
                @for (title, looks) in groups.filter(|(_, looks)| !looks.is_empty()) {
                    div { dt { (title) } dd { @for (look, name) in looks { (bar_key(look, name)) } } }
                }
            }
        }
    }
}

/// A little more at the end, as far as there is more, so that it is seen that all run again.
fn with_margin(window: Stretch, whole: Stretch) -> Stretch {
    let margin = i64::try_from(window.length() / 25).unwrap_or_default();
    Stretch::new(window.from, window.to.saturating_add(margin).min(whole.to.max(window.to)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn everything_lies_within_the_whole_whatever_the_clock_did() {
        for report in sample::all() {
            let pictures = Pictures::of(&report);
            let bars = report.containers.iter().flat_map(|container| container.bars(pictures.operation));
            for bar in bars.chain(course::bars(&report.steps, pictures.operation)) {
                assert_eq!(bar.stretch.overlap(pictures.whole), Some(bar.stretch), "{bar:?}");
            }
            assert!(pictures.window.is_none_or(|window| window.overlap(pictures.whole) == Some(window)));
        }
    }

    #[test]
    fn each_step_and_each_phase_has_a_bar() {
        let drawn = Pictures::of(&sample::upgrade()).draw().into_string();
        for name in ["install 17.2 s", "dump ", "waits frozen ", "start "] {
            assert!(drawn.contains(&format!("<title>{name}")), "{name}");
        }
        assert_eq!(drawn.matches("class=\"row container\"").count(), 10);
    }

    #[test]
    fn without_containers_only_the_whole_is_shown() {
        let drawn = Pictures::of(&sample::empty()).draw().into_string();
        assert_eq!(drawn.matches("<figure>").count(), 1);
    }
}
