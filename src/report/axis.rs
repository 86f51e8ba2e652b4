//! Stretches of time, and the round marks along one.

/// A stretch of time, in microseconds since 1970; it never ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub from: i64,
    pub to: i64,
}

impl Stretch {
    /// From one time to another; where the clock was set back in between it has no length.
    pub fn new(from: i64, to: i64) -> Self {
        Self { from, to: to.max(from) }
    }

    /// The shortest stretch that has both in it.
    pub fn cover(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }

    /// What both have in common, be it a single instant.
    pub fn overlap(self, other: Self) -> Option<Self> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        (from <= to).then_some(Self { from, to })
    }

    pub fn length(self) -> u64 {
        self.to.abs_diff(self.from)
    }

    /// Where a time lies: 0 at the begin, 1 at the end.
    pub fn share(self, at: i64) -> f64 {
        let past = at.saturating_sub(self.from) as f64;
        (past / self.length().max(1) as f64).clamp(0.0, 1.0)
    }
}

/// A mark on the axis.
#[derive(Debug, PartialEq)]
pub(super) struct Tick {
    /// Where: 0 at the begin, 1 at the end.
    pub share: f64,
    pub label: String,
}

const MILLISECOND: u64 = 1_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// More marks than this would run into each other on a telephone.
const MOST_TICKS: u64 = 6;

/// Marks from zero on at round distances along something that is this long.
pub(super) fn ticks(length_us: u64) -> Vec<Tick> {
    let distance = distance(length_us);
    let marks = (0..=length_us / distance).map(|number| number * distance);
    let share = |at: u64| at as f64 / length_us.max(1) as f64;
    marks.map(|at| Tick { share: share(at), label: label(at, distance) }).collect()
}

/// The smallest round distance that needs no more marks than [`MOST_TICKS`].
fn distance(length_us: u64) -> u64 {
    let decades = |unit: u64| (0..).map_while(move |power| unit.checked_mul(10u64.checked_pow(power)?));
    let round =
        |unit: u64| decades(unit).flat_map(|decade| [decade, decade.saturating_mul(2), decade.saturating_mul(5)]);
    let minutes = [1, 2, 5, 10, 15, 30].map(|count| count * MINUTE);
    let hours = [1, 2, 3, 6, 12].map(|count| count * HOUR);
    round(1)
        .take_while(|distance| *distance <= 20 * SECOND)
        .chain([30 * SECOND])
        .chain(minutes)
        .chain(hours)
        .chain(round(DAY))
        .find(|distance| length_us / distance <= MOST_TICKS)
        .unwrap_or(u64::MAX)
}

/// All marks of an axis have the same unit, the one that suits their distance.
fn label(at: u64, distance: u64) -> String {
    match distance {
        0..MILLISECOND => format!("{at} µs"),
        MILLISECOND..100_000 => format!("{} ms", at / MILLISECOND),
        100_000..SECOND => format!("{}.{} s", at / SECOND, at % SECOND / 100_000),
        SECOND..MINUTE => format!("{} s", at / SECOND),
        MINUTE..HOUR => format!("{} min", at / MINUTE),
        HOUR..DAY => format!("{} h", at / HOUR),
        _ => format!("{} d", at / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(length_us: u64) -> Vec<String> {
        ticks(length_us).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(31 * SECOND), ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]);
        assert_eq!(labels(3_700_000), ["0 s", "1 s", "2 s", "3 s"]);
        assert_eq!(labels(1_100_000), ["0.0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1.0 s"]);
        assert_eq!(labels(90_000), ["0 ms", "20 ms", "40 ms", "60 ms", "80 ms"]);
        assert_eq!(labels(40 * MINUTE), ["0 min", "10 min", "20 min", "30 min", "40 min"]);
        assert_eq!(labels(0), ["0 µs"]);
    }

    #[test]
    fn a_stretch_never_ends_before_it_begins() {
        assert_eq!(Stretch::new(5, 3), Stretch { from: 5, to: 5 });
        assert_eq!(Stretch::new(5, 3).share(7), 1.0);
        assert_eq!(Stretch::new(0, 4).overlap(Stretch::new(5, 6)), None);
    }

    proptest! {
        #[test]
        fn there_are_always_a_few_ticks_and_all_lie_on_the_axis(length in 0..=u64::MAX) {
            let ticks = ticks(length);
            prop_assert!(!ticks.is_empty() && ticks.len() as u64 <= MOST_TICKS + 1);
            prop_assert!(ticks.iter().all(|tick| (0.0..=1.0).contains(&tick.share)));
        }
    }
}
