//! Power cuts in the middle of migrations.

use super::host::{Container, FAILPOINTS, Host, run};
use super::machines::{BOTH, SID, TRIXIE, pair, resume};
use super::results::tried;
use std::mem::ManuallyDrop;

/// Begins an operation on TRIXIE that takes this step of its kind, and waits there: for [`go_on`], or for the power cut, after
/// which nothing waits any more. Fails the test where the operation ends before.
fn begin_and_stand_after(step: &str, command: &str) {
    TRIXIE.sh("mkfifo /run/go; ln -s /run/failpoints /root/failpoints");
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!("echo '{step}/after exec touch /run/there; read go < /run/go' > {FAILPOINTS}"));
    TRIXIE.sh(&format!(
        "setsid sh -c 'transship {command} >/run/said 2>&1; touch /run/ended' >/dev/null 2>&1 </dev/null &"
    ));
    TRIXIE.within_seconds(120, "[ -e /run/there ] || [ -e /run/ended ]");
    TRIXIE.sh("[ ! -e /run/ended ] || { cat /run/said; exit 1; }");
}

fn go_on() {
    TRIXIE.sh("echo go > /run/go");
}

/// Returns when nothing is under way any more. Only one thing may wait for a person, who has it go on here: that the copy which a
/// peer was given went with its power.
fn come_to_rest() {
    let under_way = "grep -qE \"\\\"phase\\\": ?\\\"(running|committed|undoing)\\\"\"";
    for host in BOTH {
        host.within_seconds(120, &format!("told=$(transship --json status) && ! echo \"$told\" | {under_way}"));
        let status: serde_json::Value = serde_json::from_str(&host.sh("transship --json status")).expect("JSON");
        for operation in status["operations"].as_array().expect("a list") {
            let what = operation["failure"]["what"].as_str().unwrap_or_default();
            assert!(what.ends_with("says: Dropped"), "{} waits: {operation:#}", host.0);
            host.sh(&format!("transship decide {} thaw", operation["id"]));
        }
    }
}

/// Whether the container runs there with the memory that it was born with; nothing where it does not run.
fn lives(host: &Host, name: &'static str, born: &str) -> Option<bool> {
    let running = host.sh(&format!("docker inspect -f '{{{{.State.Running}}}}' {name} 2>/dev/null; true"));
    let container = ManuallyDrop::new(Container { host, name });
    (running == "true").then(|| container.born(7000) == born)
}

#[test]
fn i1_i3_a_power_cut_of_either_host_after_the_commit_of_a_migration_leaves_one_copy_running() {
    let _turn = pair();
    let _tried = tried("a power cut of either host after the commit of a migration", &BOTH);
    let options = "--restart always --network front -p 7000:7000 programs";
    let mover = ManuallyDrop::new(TRIXIE.start("mover", options, "/tools/holder 7000 16 100"));
    let born = mover.born(7000);
    BOTH.into_iter().for_each(|host| drop(host.sh("sync")));
    begin_and_stand_after("migrate/commit", "migrate mover --to sid --mode pre-copy");
    run(&["save", "moment", TRIXIE.0, SID.0]);
    for cut in [SID, TRIXIE] {
        resume("moment");
        run(&["cut", cut.0]);
        if cut == SID {
            go_on();
        }
        run(&["boot", cut.0]);
        come_to_rest();
        let copies = BOTH.map(|host| lives(&host, "mover", &born));
        assert_eq!(copies.iter().flatten().collect::<Vec<_>>(), [&true], "I1: {} cut: {copies:?}", cut.0);
    }
}
