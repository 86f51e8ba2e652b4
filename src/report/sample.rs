//! Reports as they come from a host, for tests.

use super::{Cause, ContainerCourse, Outcome, PackageChange, Report, Span};
use jiff::{SignedDuration, Timestamp};

/// One of each outcome, and the odd ones.
pub(crate) fn all() -> Vec<Report> {
    vec![upgrade(), undone(), needs_person(), under_way(), crowded(), empty()]
}

/// Docker upgraded under ten containers.
pub(crate) fn upgrade() -> Report {
    Report {
        operation: 12,
        kind: "upgrade".into(),
        subject: "Docker 26.1.5 -> 28.5.2".into(),
        host: "alpha".into(),
        asked_by: "root (uid 0)".into(),
        outcome: Outcome::Done,
        began: at(0),
        ended: Some(at(31_240)),
        as_of: at(31_300),
        utc_offset_s: Some(7_200),
        failure: None,
        packages: packages(),
        steps: steps(&[
            ("plan", 410),
            ("fetch", 6_230),
            ("canary", 6_940),
            ("install", 24_110),
            ("set-aside", 24_190),
            ("pre-copy", 24_900),
            ("freeze", 26_480),
            ("restart", 27_790),
            ("restore", 28_420),
            ("verify", 31_020),
            ("clean-up", 31_240),
        ]),
        containers: NAMES.iter().enumerate().map(|(index, name)| frozen(name, index as i64)).collect(),
        warnings: vec![
            "registry has no health check: it was taken to be well once its processes ran".into(),
            "/etc/docker/daemon.json has \"live-restore\": true, which 28.5 does not promise across 26.1".into(),
        ],
    }
}

/// The new engine did not come up.
pub(crate) fn undone() -> Report {
    let mut report = upgrade();
    report.outcome = Outcome::Undone;
    report.ended = Some(at(64_870));
    report.as_of = at(64_900);
    report.failure = Some(Cause {
        what: "dockerd 28.5.2 did not answer within 30 s after its start".into(),
        why: vec![
            "systemd: docker.service: Main process exited, code=exited, status=1/FAILURE".into(),
            "unable to configure the Docker daemon with file /etc/docker/daemon.json: the following directives \
             don't match any configuration option: userland-proxy-pth"
                .into(),
        ],
        remedy: Some(
            "Mend /etc/docker/daemon.json (dockerd --validate), then upgrade again. Docker 26.1.5 runs as before."
                .into(),
        ),
        details: vec!["time=\"2026-05-03T03:12:35Z\" level=info msg=\"Starting up\"".into()],
    });
    report.steps.truncate(7);
    report.steps.extend(spans(&[
        ("restart", 26_480, Some(56_510)),
        ("restart", 56_510, Some(56_540)),
        ("install", 56_540, Some(61_900)),
        ("freeze", 61_900, Some(64_650)),
        ("pre-copy", 64_650, Some(64_800)),
        ("set-aside", 64_800, Some(64_870)),
    ]));
    report.steps[8..].iter_mut().for_each(|step| step.undo = true);
    for (index, container) in report.containers.iter_mut().enumerate() {
        let back = 62_600 + 150 * index as i64;
        container.spans.truncate(7);
        container.spans.extend(spans(&[
            ("verify", back, Some(back + 90)),
            ("claim", back + 90, Some(back + 92)),
            ("start", back + 92, Some(back + 480)),
        ]));
        container.away_us = u64::try_from(at(back + 480).duration_since(container.spans[1].began).as_micros()).ok();
        container.parked = container.parked.map(|parked| parked * 11);
    }
    report.warnings.clear();
    report
}

/// Two containers did not come back.
pub(crate) fn needs_person() -> Report {
    let mut report = upgrade();
    report.outcome = Outcome::NeedsPerson;
    report.ended = Some(at(52_100));
    report.as_of = at(52_100);
    report.utc_offset_s = None;
    report.failure = Some(Cause {
        what: "2 of 10 containers could not be restored: postgres, redis".into(),
        why: vec!["runc restore failed".into(), "criu failed: type RESTORE errno 28".into(), "No space left".into()],
        remedy: Some("Free at least 3 GiB in /var/lib/docker, then: transship resume 12".into()),
        details: vec![
            "(00.104822)      1: Error (criu/files-reg.c:2126): File /var/lib/x has bad size 0 (expect 8192)".into(),
            "(00.105177) Error (criu/cr-restore.c:2536): Restoring FAILED.".into(),
        ],
    });
    report.steps[8].ended = None;
    report.steps.truncate(9);
    for container in &mut report.containers[..2] {
        container.spans.truncate(8);
        container.away_us = None;
        container.note = Some("frozen; its checkpoint is whole".into());
    }
    report
}

/// The engine restarts just now.
pub(crate) fn under_way() -> Report {
    let mut report = upgrade();
    report.outcome = Outcome::UnderWay;
    report.ended = None;
    report.as_of = at(27_200);
    report.steps.truncate(8);
    report.steps[7].ended = None;
    report.warnings.clear();
    for container in &mut report.containers {
        container.spans.truncate(7);
        (container.away_us, container.parked, container.dropped) = (None, None, None);
    }
    report
}

/// A hundred containers, names that are markup, and clocks that were set.
pub(crate) fn crowded() -> Report {
    let mut report = upgrade();
    let names = ["<b>\"x\"&", "<script>alert('x')</script>", "\u{1b}[31mred\u{202e}", "x".repeat(200).leak()];
    report.subject = "Docker <26.1.5> -> 28.5.2 & \"more\"".into();
    report.containers = (0..100).map(|index| frozen(&format!("worker-{index:03}"), index)).collect();
    for (container, name) in report.containers.iter_mut().zip(names) {
        container.name = name.into();
        container.note = Some(format!("note of {name}"));
    }
    report.containers[4].spans[2].ended = Some(at(-3_600));
    report.containers[5].spans.clear();
    report.containers[5].strategy = "live-restore".into();
    report.containers[5].away_us = Some(0);
    report.containers[6].strategy = "stop".into();
    report
}

/// An operation that found nothing to do.
pub(crate) fn empty() -> Report {
    let mut report = upgrade();
    report.ended = Some(report.began);
    report.packages.clear();
    report.steps.clear();
    report.containers.clear();
    report.warnings.clear();
    report
}

/// A container to which nothing has happened.
pub(crate) fn container(name: &str) -> ContainerCourse {
    ContainerCourse {
        name: name.into(),
        strategy: "freeze".into(),
        reason: "28.5 cannot take over containers of 26.1, and this one can be frozen".into(),
        spans: Vec::new(),
        away_us: None,
        memory_bytes: None,
        parked: None,
        dropped: None,
        note: None,
    }
}

/// Spans from microseconds since 1970.
pub(crate) fn spans(phases: &[(&str, i64, Option<i64>)]) -> Vec<Span> {
    let early = phases.iter().all(|(_, began, _)| *began < 1_000);
    let time = |time: i64| if early { Timestamp::from_microsecond(time).unwrap() } else { at(time) };
    let span = |(name, began, ended): &(&str, i64, Option<i64>)| Span {
        name: (*name).into(),
        began: time(*began),
        ended: ended.map(time),
        undo: false,
    };
    phases.iter().map(span).collect()
}

const NAMES: [&str; 10] = [
    "postgres",
    "redis",
    "web-1",
    "web-2",
    "api",
    "worker-mail",
    "grafana",
    "prometheus",
    "registry",
    "monitoring-exporter-for-the-old-cluster",
];

fn at(milliseconds: i64) -> Timestamp {
    let began: Timestamp = "2026-05-03T03:12:07Z".parse().unwrap();
    began + SignedDuration::from_millis(milliseconds)
}

/// Steps that follow each other, each until so many milliseconds after the first began.
fn steps(ends: &[(&str, i64)]) -> Vec<Span> {
    let begins = [0].into_iter().chain(ends.iter().map(|(_, end)| *end));
    let step = |((name, end), begin): (&(&str, i64), i64)| Span {
        name: (*name).into(),
        began: at(begin),
        ended: Some(at(*end)),
        undo: false,
    };
    ends.iter().zip(begins).map(step).collect()
}

fn packages() -> Vec<PackageChange> {
    let package = |name: &str, from: Option<&str>, to: Option<&str>| PackageChange {
        name: name.into(),
        from: from.map(Into::into),
        to: to.map(Into::into),
    };
    vec![
        package("docker-ce", Some("5:26.1.5-1~debian.12~bookworm"), Some("5:28.5.2-1~debian.12~bookworm")),
        package("docker-ce-cli", Some("5:26.1.5-1~debian.12~bookworm"), Some("5:28.5.2-1~debian.12~bookworm")),
        package("containerd.io", Some("1.7.27-1"), Some("2.1.4-1~debian.12~bookworm")),
        package("docker-buildx-plugin", None, Some("0.29.1-1~debian.12~bookworm")),
        package("docker-scan-plugin", Some("0.23.0~debian-bookworm"), None),
    ]
}

/// A container that was frozen, a little later and longer the higher its index.
fn frozen(name: &str, index: i64) -> ContainerCourse {
    let hold = 24_910 + 41 * (index % 10);
    let frozen = hold + 90;
    let dumped = frozen + 260 + 97 * (index * 7 % 10);
    let back = 27_790 + 38 * (index * 3 % 10);
    let started = back + 210 + 22 * (index * 7 % 10);
    ContainerCourse {
        spans: spans(&[
            ("hold", hold, Some(frozen)),
            ("freeze", frozen, Some(frozen + 14)),
            ("dump", frozen + 14, Some(dumped)),
            ("copy", dumped, Some(dumped + 52)),
            ("seal", dumped + 52, Some(dumped + 96)),
            ("claim", dumped + 96, Some(dumped + 97)),
            ("stop", dumped + 97, Some(dumped + 160)),
            ("verify", back, Some(back + 85)),
            ("claim", back + 85, Some(back + 86)),
            ("start", back + 86, Some(started)),
        ]),
        away_us: Some((started - frozen) as u64 * 1_000),
        memory_bytes: Some(23_400_000 * (1 + index as u64 * 7 % 10).pow(2)),
        parked: Some(index as u64 * 7 % 10 * 321),
        dropped: Some(0),
        note: (index == 4).then(|| "2 connections waited to be accepted for 0.2 s".into()),
        ..container(name)
    }
}
