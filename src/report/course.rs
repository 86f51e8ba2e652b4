//! What became of one container, as bars of a picture and as the stretches for which it was away.

use super::axis::Stretch;
use super::{ContainerCourse, Span};

/// What a container, or the operation, was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// What comes for it is kept from it.
    Hold,
    Freeze,
    Dump,
    Copy,
    Seal,
    /// It is written down that it is to be restored.
    Claim,
    Stop,
    /// It stands still, and nothing is done to it.
    Wait,
    Verify,
    /// It is written down once more, for this restore.
    Reclaim,
    Start,
    Undo,
    Other,
}

/// A bar of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bar<'a> {
    pub stretch: Stretch,
    pub look: Look,
    pub name: &'a str,
    /// How long it took, where that is known.
    pub took_us: Option<u64>,
    /// It has no end yet, or none that was noted.
    pub open: bool,
}

/// A stretch for which a container did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away {
    pub stretch: Stretch,
    /// It has come back.
    pub over: bool,
}

impl ContainerCourse {
    /// Its phases, and the gaps between them for which it stood still.
    pub(super) fn bars(&self, operation: Stretch) -> Vec<Bar<'_>> {
        let mut bars = bars(&self.spans, operation);
        let mut restoring = false;
        for bar in &mut bars {
            restoring |= matches!(bar.look, Look::Stop | Look::Verify);
            if restoring && bar.look == Look::Claim {
                bar.look = Look::Reclaim;
            }
        }
        let waits = self.away(operation).into_iter().flat_map(|away| gaps(&bars, away.stretch)).map(|(gap, open)| {
            let name = if self.is_stopped() { "stopped" } else { "waits frozen" };
            Bar { stretch: gap, look: Look::Wait, name, took_us: Some(gap.length()), open }
        });
        let waits: Vec<_> = waits.collect();
        bars.extend(waits);
        bars.sort_by_key(|bar| bar.stretch.from);
        bars
    }

    /// When it did not run: from its freeze (or stop) until it was let go on.
    pub(super) fn away(&self, operation: Stretch) -> Vec<Away> {
        let mut stretches = Vec::new();
        // What begins with a restore was frozen before the operation began.
        let mut since = self.spans.first().filter(|span| is_of_restore(span)).map(|_| operation.from);
        for (span, stretch) in self.spans.iter().zip(stretches_of(&self.spans, operation)) {
            match since {
                None if takes_away(span) => since = Some(stretch.from),
                Some(from) if brings_back(span) && span.ended.is_some() => {
                    stretches.push(Away { stretch: Stretch::new(from, stretch.to), over: true });
                    since = None;
                }
                _ => {}
            }
        }
        stretches.extend(since.map(|from| Away { stretch: Stretch::new(from, operation.to), over: false }));
        stretches
    }

    /// From its hold, or else from when it was gone, until it was back; none if it was neither held nor away.
    pub(super) fn touched(&self, operation: Stretch) -> Option<Stretch> {
        let bars = bars(&self.spans, operation).into_iter();
        let holds = bars.filter(|bar| bar.look == Look::Hold).map(|bar| bar.stretch);
        holds.chain(self.away(operation).into_iter().map(|away| away.stretch)).reduce(Stretch::cover)
    }

    /// How long its clients were kept waiting, if it was held.
    pub(super) fn held_us(&self, operation: Stretch) -> Option<u64> {
        let held = self.spans.iter().any(|span| look(span) == Look::Hold);
        self.touched(operation).filter(|_| held).map(Stretch::length)
    }

    /// Whether it was away at any time during the operation.
    pub(super) fn was_away(&self, operation: Stretch) -> bool {
        self.away_us.is_some_and(|away| away > 0) || !self.away(operation).is_empty()
    }

    /// Whether it has not come back.
    pub(super) fn is_still_away(&self, operation: Stretch) -> bool {
        self.away(operation).iter().any(|away| !away.over)
    }

    /// Whether it was stopped and started afresh, so that its memory and its connections are gone.
    pub(super) fn is_stopped(&self) -> bool {
        self.strategy == "stop"
    }
}

fn takes_away(span: &Span) -> bool {
    !span.undo && matches!(span.name.as_str(), "freeze" | "dump" | "stop")
}

fn is_of_restore(span: &Span) -> bool {
    !span.undo && matches!(span.name.as_str(), "verify" | "create" | "claim" | "start")
}

/// A start brings it back whether it was asked for or is part of the way back; a freeze or a dump when it is undone.
fn brings_back(span: &Span) -> bool {
    match span.name.as_str() {
        "start" | "go-on" | "thaw" => true,
        "freeze" | "dump" => span.undo,
        _ => false,
    }
}

/// A bar for each span.
pub(super) fn bars(spans: &[Span], operation: Stretch) -> Vec<Bar<'_>> {
    let bars = spans.iter().zip(stretches_of(spans, operation));
    bars.map(|(span, stretch)| Bar {
        stretch,
        look: look(span),
        name: &span.name,
        took_us: span.took_us(),
        open: span.ended.is_none(),
    })
    .collect()
}

/// From when to when each span went; one without an end goes on until the next begins, the last until now.
fn stretches_of(spans: &[Span], operation: Stretch) -> Vec<Stretch> {
    let next = spans.iter().skip(1).map(|span| span.began.as_microsecond()).chain([operation.to]);
    let stretch = |(span, next): (&Span, i64)| {
        Stretch::new(span.began.as_microsecond(), span.ended.map_or(next, |ended| ended.as_microsecond()))
    };
    spans.iter().zip(next).map(stretch).collect()
}

fn look(span: &Span) -> Look {
    match span.name.as_str() {
        _ if span.undo => Look::Undo,
        "hold" => Look::Hold,
        "freeze" => Look::Freeze,
        "dump" => Look::Dump,
        "copy" => Look::Copy,
        "seal" => Look::Seal,
        "claim" => Look::Claim,
        "stop" => Look::Stop,
        "verify" => Look::Verify,
        "start" => Look::Start,
        _ => Look::Other,
    }
}

/// What of a stretch no bar covers, and whether it is the end of the stretch, after the last bar. The moment between
/// the end of one phase and the begin of the next is no wait.
fn gaps(bars: &[Bar<'_>], within: Stretch) -> Vec<(Stretch, bool)> {
    let mut covered: Vec<Stretch> = bars.iter().filter_map(|bar| bar.stretch.overlap(within)).collect();
    covered.sort_by_key(|stretch| stretch.from);
    let mut gaps = Vec::new();
    let mut reached = within.from;
    let moment = within.length() / 100;
    for stretch in covered {
        if stretch.from.abs_diff(reached) > moment && stretch.from > reached {
            gaps.push((Stretch::new(reached, stretch.from), false));
        }
        reached = reached.max(stretch.to);
    }
    if reached < within.to {
        gaps.push((Stretch::new(reached, within.to), true));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{container, spans};

    const OPERATION: Stretch = Stretch { from: 0, to: 100 };

    fn course(phases: &[(&str, i64, Option<i64>)]) -> ContainerCourse {
        ContainerCourse { spans: spans(phases), ..container("web") }
    }

    fn shown(course: &ContainerCourse) -> Vec<(&str, Look, i64, i64, bool)> {
        let bars = course.bars(OPERATION).into_iter();
        bars.map(|bar| (bar.name, bar.look, bar.stretch.from, bar.stretch.to, bar.open)).collect()
    }

    #[test]
    fn a_gap_while_frozen_is_a_wait() {
        let web = course(&[
            ("hold", 10, Some(12)),
            ("freeze", 12, Some(20)),
            ("claim", 20, Some(21)),
            ("stop", 21, Some(30)),
            ("claim", 60, Some(61)),
            ("start", 61, Some(70)),
        ]);
        let expected = [
            ("hold", Look::Hold, 10, 12, false),
            ("freeze", Look::Freeze, 12, 20, false),
            ("claim", Look::Claim, 20, 21, false),
            ("stop", Look::Stop, 21, 30, false),
            ("waits frozen", Look::Wait, 30, 60, false),
            ("claim", Look::Reclaim, 60, 61, false),
            ("start", Look::Start, 61, 70, false),
        ];
        assert_eq!(shown(&web), expected);
        assert_eq!(web.away(OPERATION), [Away { stretch: Stretch::new(12, 70), over: true }]);
        assert_eq!(web.held_us(OPERATION), Some(60));
    }

    #[test]
    fn the_moment_between_two_phases_is_no_wait() {
        let web = course(&[("freeze", 0, Some(300)), ("dump", 301, Some(600)), ("start", 600, Some(900))]);
        assert!(web.bars(OPERATION).iter().all(|bar| bar.look != Look::Wait));
    }

    #[test]
    fn what_did_not_come_back_waits_until_now() {
        let web = course(&[("freeze", 10, Some(20)), ("stop", 20, Some(30))]);
        assert_eq!(shown(&web)[2], ("waits frozen", Look::Wait, 30, 100, true));
        assert!(web.is_still_away(OPERATION));
        let failed = course(&[("freeze", 10, Some(20)), ("start", 20, None)]);
        assert!(failed.is_still_away(OPERATION), "a start without an end brings nothing back");
    }

    #[test]
    fn undoing_the_freeze_brings_it_back() {
        let mut web = course(&[("freeze", 10, Some(20)), ("dump", 20, None), ("freeze", 40, Some(45))]);
        web.spans[2].undo = true;
        assert_eq!(web.away(OPERATION), [Away { stretch: Stretch::new(10, 45), over: true }]);
    }

    #[test]
    fn what_begins_with_a_restore_was_frozen_before() {
        let web = course(&[("verify", 10, Some(20)), ("start", 20, Some(30))]);
        assert_eq!(web.away(OPERATION), [Away { stretch: Stretch::new(0, 30), over: true }]);
        assert_eq!(shown(&web)[0], ("waits frozen", Look::Wait, 0, 10, false));
        assert_eq!(web.held_us(OPERATION), None);
    }

    #[test]
    fn what_was_not_touched_was_not_away() {
        assert_eq!(course(&[]).away(OPERATION), []);
        assert_eq!(course(&[]).touched(OPERATION), None);
        assert!(!course(&[("pre-copy", 1, Some(9))]).was_away(OPERATION));
    }
}
