//! What a monitor is told.

use super::lab::{SID, hosts};

#[test]
fn a_monitor_on_the_host_counts_what_was_done_and_what_failed_and_nobody_elsewhere_can_ask() {
    let _turn = hosts();
    SID.sh("mkdir -p /etc/transship; echo '{ \"metrics_port\": 9423 }' > /etc/transship/transship.json");
    SID.heed_failpoints();
    let container = SID.start("counted", "programs", "/tools/holder 7000 8");
    container.cycle();
    SID.sh(&format!("echo 'checkpoint/dump/after error' > {}", super::lab::FAILPOINTS));
    assert_eq!(SID.try_sh("transship checkpoint counted").status.code(), Some(1));
    let port = "exec 3<>/dev/tcp/127.0.0.1/9423; printf 'GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n' >&3; cat <&3";
    let scraped = SID.sh(&format!("bash -c \"{port}\""));
    for told in [scraped.as_str(), &SID.sh("transship metrics")] {
        for line in [
            "transship_operations_total{kind=\"checkpoint\",outcome=\"done\"} 1",
            "transship_operations_total{kind=\"checkpoint\",outcome=\"undone\"} 1",
            "transship_failures_total{kind=\"checkpoint\",step=\"dump\"} 1",
            "transship_downtime_seconds_count{kind=\"checkpoint\",phase=\"dump\"} 2",
            "transship_downtime_seconds_count{kind=\"restore\",phase=\"total\"} 1",
            "transship_operations_waiting 0",
            "transship_frozen_containers 0",
        ] {
            assert!(told.lines().any(|one| one.trim_end() == line), "{line}\nis not in\n{told}");
        }
    }
    assert!(scraped.starts_with("HTTP/1.1 200"), "{scraped}");
    let address = SID.address();
    let elsewhere = SID.try_sh(&format!("bash -c 'exec 3<>/dev/tcp/{address}/9423'"));
    assert!(!elsewhere.status.success(), "it listens on {address} as well");
    SID.sh("rm /etc/transship/transship.json");
    SID.forget_failpoints();
}
