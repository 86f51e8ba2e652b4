//! Containers whose memory travels while they run.

use super::clients::Watch;
use super::lab::{BOTH, Container, FAILPOINTS, Host, SID, TRIXIE, paired_hosts};
use super::migrations::{leftovers, settle, whereabouts};
use serde_json::Value;
use std::mem::ManuallyDrop;

const MIGRATE: &str = "transship --json migrate writer --mode pre-copy --to";

/// What was told of a migration's rounds, and its answer.
fn moved(from: Host, command: &str) -> (Vec<Value>, Value) {
    let lines = from.sh(&format!("{command} 2>&1"));
    let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let rounds = lines.iter().filter(|line| line["type"] == "round").cloned().collect();
    (rounds, lines.last().expect("an answer")["containers"][0].clone())
}

#[test]
fn i1_i4_a_program_that_rewrites_its_memory_travels_in_rounds_under_its_clients() {
    let _turn = paired_hosts();
    let container = SID.start("writer", "--network front -p 7000:7000 programs", "/tools/holder 7000 96 1000");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    for (from, to) in [(SID, TRIXIE), (TRIXIE, SID)] {
        let (rounds, answer) = moved(from, &format!("{MIGRATE} {}", to.0));
        assert!(rounds.len() >= 2, "{rounds:?}");
        let sent = |round: usize| rounds[round]["sent_bytes"].as_u64().expect("bytes");
        assert!(sent(0) >= 96 << 20, "{rounds:?}");
        assert!(sent(1) < sent(0) / 4, "what did not change is not sent again: {rounds:?}");
        assert!(rounds[1]["dirty_bytes_per_s"].as_u64() > Some(0), "{rounds:?}");
        assert!(rounds[1]["expected_downtime_us"].as_u64() > Some(0), "{rounds:?}");
        let all = answer["sent_bytes"].as_u64().expect("bytes");
        assert!(all < sent(0) / 2, "its memory went twice: {answer} after {rounds:?}");
        let there = ManuallyDrop::new(Container { host: &to, name: "writer" });
        assert_eq!(there.born(7000), born);
    }
    watch.end();
    for host in BOTH {
        assert_eq!(leftovers(host), "0", "{}", host.0);
        assert_eq!(host.sh("ls /var/lib/transship/tmp"), "", "{}", host.0);
    }
}

#[test]
fn i2_a_goal_that_cannot_be_met_leaves_the_container_where_it_runs_unless_it_is_to_go_on() {
    let _turn = paired_hosts();
    let container = SID.start("writer", "--network front -p 7000:7000 programs", "/tools/holder 7000 32 500");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    let missed = SID.try_sh(&format!("{MIGRATE} trixie --downtime 1ms"));
    assert_eq!(missed.status.code(), Some(1), "{missed:?}");
    let told = String::from_utf8_lossy(&missed.stderr);
    assert!(told.contains("and not 1 ms") && !told.contains("\"freeze\""), "it is never frozen: {told}");
    assert_eq!(container.born(7000), born);
    TRIXIE.within_seconds(60, "[ -z \"$(docker ps -aq)\" ]");
    SID.sh(&format!("{MIGRATE} trixie --downtime 1ms --if-missed go-on"));
    let there = Container { host: &TRIXIE, name: "writer" };
    assert_eq!(there.born(7000), born);
    watch.end();
}

#[test]
fn i1_i2_i3_every_fault_while_memory_travels_leaves_exactly_one_copy_running() {
    let _turn = paired_hosts();
    let container = SID.start("writer", "--network front -p 7000:7000 programs", "/tools/holder 7000 24 500");
    let born = container.born(7000);
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    let places = ["migrate/rounds/before", "migrate/rounds/after", "migrate/dump/after", "migrate/ship/before"];
    let there = ["arrive/receive/before", "arrive/receive/after", "arrive/await/before"];
    for place in places.iter().chain(&there) {
        for action in ["kill", "error"] {
            let source = whereabouts("writer");
            let destination = if source == SID { TRIXIE } else { SID };
            let failing = if place.starts_with("migrate") { source } else { destination };
            failing.sh(&format!("echo '{place} {action}' > {FAILPOINTS}"));
            source.try_sh(&format!("{MIGRATE} {}", destination.0));
            failing.sh(&format!("[ ! -s {FAILPOINTS} ]"));
            settle(source, destination);
            let here = whereabouts("writer");
            let container = ManuallyDrop::new(Container { host: &here, name: "writer" });
            assert_eq!(container.born(7000), born, "{place} {action}");
        }
    }
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    whereabouts("writer").sh("docker rm -f writer");
    for host in BOTH {
        assert_eq!(leftovers(host), "0", "{}", host.0);
        assert_eq!(host.sh("ls /var/lib/transship/tmp"), "", "{}", host.0);
    }
}
