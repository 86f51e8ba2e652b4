//! Numbers as a person reads them, and what they come to in all.

use super::Report;
use super::axis::Stretch;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// In place of a figure that is not known.
pub(super) const UNKNOWN: &str = "–";

/// What all containers come to. A figure that is known of none of them is not known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// The longest.
    pub held_us: Option<u64>,
    /// The longest.
    pub away_us: Option<u64>,
    /// The sum.
    pub memory_bytes: Option<u64>,
    /// The sum.
    pub parked: Option<u64>,
    /// The sum.
    pub dropped: Option<u64>,
}

impl Totals {
    pub fn of(report: &Report) -> Self {
        let operation = report.stretch();
        let containers = report.containers.iter();
        Self {
            held_us: containers.clone().filter_map(|container| container.held_us(operation)).max(),
            away_us: containers.clone().filter_map(|container| container.away_us).max(),
            memory_bytes: sum(containers.clone().map(|container| container.memory_bytes)),
            parked: sum(containers.clone().map(|container| container.parked)),
            dropped: sum(containers.map(|container| container.dropped)),
        }
    }
}

fn sum(figures: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    figures.flatten().reduce(u64::saturating_add)
}

/// How many containers were away at once, as a staircase: from when to when, how many.
pub(super) fn away_at_once(stretches: &[Stretch]) -> Vec<(Stretch, usize)> {
    let mut edges: Vec<(i64, isize)> = stretches.iter().flat_map(|away| [(away.from, 1), (away.to, -1)]).collect();
    edges.sort_unstable();
    let mut away = 0;
    let mut stairs = Vec::new();
    for pair in edges.windows(2) {
        away += pair[0].1;
        if away > 0 && pair[0].0 < pair[1].0 {
            stairs.push((Stretch::new(pair[0].0, pair[1].0), away.unsigned_abs()));
        }
    }
    stairs
}

/// Microseconds with three digits, or in two units.
pub(super) fn duration(microseconds: u64) -> String {
    let seconds = |round_to: u64| microseconds.saturating_add(round_to / 2) / round_to * round_to / 1_000_000;
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..9_995 => format!("{:.2} ms", microseconds as f64 / 1e3),
        9_995..99_950 => format!("{:.1} ms", microseconds as f64 / 1e3),
        99_950..999_500 => format!("{:.0} ms", microseconds as f64 / 1e3),
        999_500..9_995_000 => format!("{:.2} s", microseconds as f64 / 1e6),
        9_995_000..59_950_000 => format!("{:.1} s", microseconds as f64 / 1e6),
        59_950_000..3_599_500_000 => two_units(seconds(1_000_000), 60, "min", "s"),
        3_599_500_000..86_370_000_000 => two_units(seconds(60_000_000) / 60, 60, "h", "min"),
        _ => two_units(seconds(3_600_000_000) / 3_600, 24, "d", "h"),
    }
}

fn two_units(count: u64, small_in_large: u64, large: &str, small: &str) -> String {
    match (count / small_in_large, count % small_in_large) {
        (count, 0) => format!("{count} {large}"),
        (count, rest) => format!("{count} {large} {rest} {small}"),
    }
}

/// Bytes with three digits.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 999.5 {
        value /= 1024.0;
        unit = units.next();
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", unit.unwrap_or(&UNITS[5]))
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let apart = |(index, digit): (usize, char)| {
        let comma = index > 0 && (digits.len() - index).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(apart).collect()
}

/// A figure, or the sign that there is none.
pub(super) fn or_unknown(figure: Option<u64>, show: impl Fn(u64) -> String) -> String {
    figure.map_or_else(|| UNKNOWN.into(), show)
}

/// A time in UTC, and on the host's wall where that differs.
pub(super) fn time(at: Timestamp, utc_offset_s: Option<i32>) -> String {
    let utc = at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let offset = utc_offset_s.filter(|seconds| *seconds != 0).and_then(|seconds| Offset::from_seconds(seconds).ok());
    let Some(wall) = offset.map(|offset| at.to_zoned(TimeZone::fixed(offset))) else { return utc.to_string() };
    let same_day = wall.date() == at.to_zoned(TimeZone::UTC).date();
    format!("{utc} ({})", wall.strftime(if same_day { "%H:%M:%S %:z" } else { "%Y-%m-%d %H:%M:%S %:z" }))
}

/// `1 container`, `2 containers`.
pub(super) fn counted(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", count(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn durations_have_three_digits_or_two_units() {
        let shown =
            [0, 999, 1_500, 640_400, 999_499, 999_500, 3_412_000, 31_240_000, 59_949_999, 59_950_000].map(duration);
        let expected =
            ["0 µs", "999 µs", "1.50 ms", "640 ms", "999 ms", "1.00 s", "3.41 s", "31.2 s", "59.9 s", "1 min"];
        assert_eq!(shown, expected);
        assert_eq!(duration(125_000_000), "2 min 5 s");
        assert_eq!(duration(3_599_500_000), "1 h");
        assert_eq!(duration(90_000_000_000), "1 d 1 h");
        assert!(duration(u64::MAX).ends_with(" h"));
    }

    #[test]
    fn bytes_have_three_digits() {
        assert_eq!(
            [0, 1023, 1024, 1_048_063, 67_108_864, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "1.00 MiB", "64.0 MiB", "16.0 EiB"]
        );
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_time_is_told_in_utc_and_on_the_wall() {
        let at: Timestamp = "2026-05-03T23:12:07Z".parse().unwrap();
        assert_eq!(time(at, None), "2026-05-03 23:12:07 UTC");
        assert_eq!(time(at, Some(0)), "2026-05-03 23:12:07 UTC");
        assert_eq!(time(at, Some(7200)), "2026-05-03 23:12:07 UTC (2026-05-04 01:12:07 +02:00)");
        assert_eq!(time(at, Some(-7200)), "2026-05-03 23:12:07 UTC (21:12:07 -02:00)");
        assert_eq!(time(at, Some(i32::MAX)), "2026-05-03 23:12:07 UTC");
        time(Timestamp::MAX, Some(93_599));
        time(Timestamp::MIN, Some(-93_599));
    }

    #[test]
    fn totals_are_the_longest_and_the_sums_of_what_is_known() {
        let mut report = sample::upgrade();
        report.containers.truncate(3);
        let figures = [(Some(5), Some(1)), (None, None), (Some(3), Some(u64::MAX))];
        for (container, (away, parked)) in report.containers.iter_mut().zip(figures) {
            (container.away_us, container.parked, container.dropped) = (away, parked, None);
        }
        let totals = Totals::of(&report);
        assert_eq!((totals.away_us, totals.parked, totals.dropped), (Some(5), Some(u64::MAX), None));
        report.containers.clear();
        assert_eq!(Totals::of(&report), Totals::default());
    }

    #[test]
    fn containers_away_at_once_are_counted() {
        let away = [Stretch::new(0, 10), Stretch::new(5, 20), Stretch::new(7, 7), Stretch::new(30, 40)];
        let expected = [(0, 5, 1), (5, 7, 2), (7, 10, 2), (10, 20, 1), (30, 40, 1)];
        assert_eq!(away_at_once(&away), expected.map(|(from, to, count)| (Stretch::new(from, to), count)));
        assert_eq!(away_at_once(&[]), []);
    }
}
