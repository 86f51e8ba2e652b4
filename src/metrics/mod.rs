//! Figures for a monitor: what has ended, for how long containers were away, how much was moved.
//!
//! Plain data in ([`Ended`], [`Now`]), text of the OpenMetrics format out, which Prometheus reads. Counts begin at zero
//! with each start of the helper, as is the custom. No label names a container, a peer or a person: there are as many
//! series as there are kinds of operations and steps, however many containers there are.

mod labels;

use labels::{Build, Failure, Moved, OfKind, Operation, Phase};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How [`Metrics::text`] is announced to who asks by HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// In seconds: from a step that only changes a file to gigabytes over a slow link.
const BUCKETS: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];

/// The phase that stands for all of them.
const TOTAL: &str = "total";

/// An operation that has come to an end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ended {
    /// Such as `migrate`.
    pub kind: String,
    /// `done`, `undone` or `needs-person`.
    pub outcome: String,
    /// How long it took from its begin to its end.
    pub took: Duration,
    /// The step that failed, where one did.
    pub failed_in: Option<String>,
    /// What was done while its containers stood still, and for how long each.
    pub phases: Vec<(String, Duration)>,
    /// How long containers were away in all, one by one.
    pub away: Vec<Duration>,
    /// Bytes, by what became of them: `dumped`, `sent`.
    pub bytes: Vec<(&'static str, u64)>,
}

/// What is the case at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Now {
    /// Operations that are under way, by their kind.
    pub under_way: BTreeMap<String, u64>,
    /// Operations that wait for a person.
    pub waiting: u64,
    /// Containers that are frozen, those not counted that have moved.
    pub frozen: u64,
    /// Checkpoints in the store.
    pub checkpoints: u64,
    /// What they take on disk.
    pub store_bytes: u64,
}

/// All figures.
#[derive(Debug)]
pub struct Metrics {
    /// Locked while it is told: those of the moment are put in before.
    registry: Mutex<Registry>,
    operations: Family<Operation, Counter>,
    failures: Family<Failure, Counter>,
    durations: Family<OfKind, Histogram, fn() -> Histogram>,
    downtimes: Family<Phase, Histogram, fn() -> Histogram>,
    bytes: Family<Moved, Counter>,
    under_way: Family<OfKind, Gauge>,
    waiting: Gauge,
    frozen: Gauge,
    checkpoints: Gauge,
    store_bytes: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("transship")),
            operations: Family::default(),
            failures: Family::default(),
            durations: Family::new_with_constructor(histogram),
            downtimes: Family::new_with_constructor(histogram),
            bytes: Family::default(),
            under_way: Family::default(),
            waiting: Gauge::default(),
            frozen: Gauge::default(),
            checkpoints: Gauge::default(),
            store_bytes: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let build = Info::new(Build { version: env!("CARGO_PKG_VERSION").to_owned() });
        registry.register("build", "The helper's version", build);
        registry.register("operations", "Operations that have ended", self.operations.clone());
        registry.register("failures", "Operations that have failed, by the step that did", self.failures.clone());
        let help = "From an operation's begin to its end";
        registry.register_with_unit("operation_duration", help, Unit::Seconds, self.durations.clone());
        let help = "For how long containers stood still, by phase";
        registry.register_with_unit("downtime", help, Unit::Seconds, self.downtimes.clone());
        registry.register_with_unit("moved", "Bytes dumped or sent", Unit::Bytes, self.bytes.clone());
        registry.register("operations_under_way", "Operations that have not ended", self.under_way.clone());
        registry.register("operations_waiting", "Operations that wait for a person", self.waiting.clone());
        registry.register("frozen_containers", "Containers that are frozen here", self.frozen.clone());
        registry.register("checkpoints", "Checkpoints in the store", self.checkpoints.clone());
        registry.register_with_unit("store", "What checkpoints take on disk", Unit::Bytes, self.store_bytes.clone());
    }

    /// Counts what has ended.
    pub fn count(&self, ended: &Ended) {
        let kind = || ended.kind.clone();
        self.operations.get_or_create(&Operation { kind: kind(), outcome: ended.outcome.clone() }).inc();
        self.durations.get_or_create(&OfKind { kind: kind() }).observe(ended.took.as_secs_f64());
        if let Some(step) = &ended.failed_in {
            self.failures.get_or_create(&Failure { kind: kind(), step: step.clone() }).inc();
        }
        let total = ended.away.iter().map(|away| (TOTAL, away));
        for (phase, took) in ended.phases.iter().map(|(phase, took)| (phase.as_str(), took)).chain(total) {
            let phase = Phase { kind: kind(), phase: phase.to_owned() };
            self.downtimes.get_or_create(&phase).observe(took.as_secs_f64());
        }
        for (what, bytes) in &ended.bytes {
            self.bytes.get_or_create(&Moved { kind: kind(), what: (*what).to_owned() }).inc_by(*bytes);
        }
    }

    /// All figures as text, with those of this moment.
    pub fn text(&self, now: &Now) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // A kind that is not under way any more is not told as it was last.
        self.under_way.clear();
        for (kind, count) in &now.under_way {
            self.under_way.get_or_create(&OfKind { kind: kind.clone() }).set(signed(*count));
        }
        self.waiting.set(signed(now.waiting));
        self.frozen.set(signed(now.frozen));
        self.checkpoints.set(signed(now.checkpoints));
        self.store_bytes.set(signed(now.store_bytes));
        let mut text = String::new();
        // Text that is written into a string has nowhere to fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved() -> Ended {
        Ended {
            kind: "migrate".into(),
            outcome: "done".into(),
            took: Duration::from_secs(3),
            failed_in: None,
            phases: vec![("dump".into(), Duration::from_millis(30))],
            away: vec![Duration::from_millis(300)],
            bytes: vec![("sent", 7)],
        }
    }

    #[test]
    fn what_has_ended_is_counted() {
        let metrics = Metrics::default();
        metrics.count(&moved());
        metrics.count(&moved());
        let failed = Ended { outcome: "undone".into(), failed_in: Some("dump".into()), ..moved() };
        metrics.count(&Ended { phases: Vec::new(), away: Vec::new(), bytes: Vec::new(), ..failed });
        let text = metrics.text(&Now::default());
        for line in [
            r#"transship_operations_total{kind="migrate",outcome="done"} 2"#,
            r#"transship_operations_total{kind="migrate",outcome="undone"} 1"#,
            r#"transship_failures_total{kind="migrate",step="dump"} 1"#,
            r#"transship_downtime_seconds_bucket{le="0.05",kind="migrate",phase="dump"} 2"#,
            r#"transship_downtime_seconds_bucket{le="0.025",kind="migrate",phase="dump"} 0"#,
            r#"transship_downtime_seconds_count{kind="migrate",phase="total"} 2"#,
            r#"transship_operation_duration_seconds_sum{kind="migrate"} 9.0"#,
            r#"transship_moved_bytes_total{kind="migrate",what="sent"} 14"#,
            "transship_operations_waiting 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\nis not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_under_way_no_longer_is_not_told_as_it_was() {
        let metrics = Metrics::default();
        let under_way = BTreeMap::from([("migrate".to_owned(), 2)]);
        let text = metrics.text(&Now { under_way, store_bytes: 5, ..Now::default() });
        assert!(text.contains("transship_operations_under_way{kind=\"migrate\"} 2\n"), "{text}");
        assert!(text.contains("transship_store_bytes 5\n"), "{text}");
        assert!(!metrics.text(&Now::default()).contains("under_way{"));
    }
}
