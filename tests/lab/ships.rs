//! Checkpoints that go to a peer and come from one.

use super::chance::Chance;
use super::lab::{BOTH, Container, FAILPOINTS, Host, SID, TRIXIE, paired_hosts};
use super::migrations::{leftovers, whereabouts};
use serde_json::Value;
use std::time::Duration;

/// A container with so many MiB of memory and a backup of it under a name.
fn backed_up<'a>(host: &'a Host, name: &'a str, mebibytes: u32) -> Container<'a> {
    let container = host.start(name, "programs", &format!("/tools/holder 7000 {mebibytes}"));
    container.check(7000);
    host.sh(&format!("transship checkpoint --leave-running --name {name}-1 {name}"));
    container
}

fn json(host: Host, command: &str) -> Value {
    serde_json::from_str(&host.sh(&format!("transship --json {command} 2>/dev/null"))).expect("JSON")
}

/// What the last fetch of a host says that had to travel, of how much.
fn last_fetch(host: Host) -> (u64, u64) {
    let history = json(host, "history --limit 20");
    let operations = history["operations"].as_array().expect("a list").iter();
    let last = operations.filter(|one| one["kind"] == "fetch").max_by_key(|one| one["id"].as_i64()).expect("a fetch");
    let number = |key: &str| last["result"][key].as_u64().unwrap_or_else(|| panic!("{key} in {last}"));
    (number("sent_bytes"), number("bytes"))
}

fn ids(host: Host) -> Vec<String> {
    let listed = json(host, "ls");
    let checkpoints = listed["checkpoints"].as_array().expect("a list").iter();
    checkpoints.map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

/// Waits until a host has nothing left of operations that are over. What was shared is compressed again in the background, and
/// its raw files go by way of the same directory.
fn wait_until_nothing_is_left(host: Host) {
    let left = "ls -A /var/lib/transship/staging /var/lib/transship/tmp | grep -v :";
    host.within_seconds(60, &format!("[ -z \"$({left})\" ]"));
}

#[test]
fn a_second_push_of_the_same_container_sends_only_what_differs_and_restores_there() {
    let _turn = paired_hosts();
    let original = backed_up(&SID, "original", 64);
    let born = original.born(7000);
    TRIXIE.sh("docker image inspect programs >/dev/null");
    // What another scenario has left there has pages that are the same.
    ids(TRIXIE).iter().for_each(|id| drop(TRIXIE.sh(&format!("transship rm --force {id}"))));
    SID.sh("transship push original-1 --to trixie");
    let (sent, all) = last_fetch(TRIXIE);
    assert!(all > 64 << 20 && sent > all / 2, "{sent} of {all}");
    SID.sh("transship checkpoint --leave-running --name original-2 original && transship push original-2 --to trixie");
    let (sent, all) = last_fetch(TRIXIE);
    assert!(sent < all / 10, "{sent} of {all} bytes");
    // What is here in whole is not sent again.
    SID.sh("transship push original-2 --to trixie");
    TRIXIE.sh("transship restore original-2 --name arrived");
    let arrived = Container { host: &TRIXIE, name: "arrived" };
    assert_eq!(arrived.born(7000), born);
    BOTH.into_iter().for_each(wait_until_nothing_is_left);
}

#[test]
fn a_peer_fetches_what_is_shared_with_it_and_nothing_else() {
    let _turn = paired_hosts();
    let _secret = backed_up(&SID, "secret", 8);
    let _gift = backed_up(&SID, "gift", 8);
    assert_eq!(json(TRIXIE, "ls --from sid")["checkpoints"].as_array().map(Vec::len), Some(0));
    SID.sh("transship share gift-1 --with trixie");
    let listed = json(TRIXIE, "ls --from sid");
    assert_eq!(listed["checkpoints"].as_array().map(Vec::len), Some(1), "{listed}");
    let secret = ids(SID).into_iter().find(|id| *id != listed["checkpoints"][0]["id"]).expect("another one");
    for not_shared in ["secret-1", &secret] {
        assert_eq!(TRIXIE.try_sh(&format!("transship pull {not_shared} --from sid")).status.code(), Some(3));
    }
    TRIXIE.sh("transship pull gift-1 --from sid && transship restore gift-1 --name gift");
    Container { host: &TRIXIE, name: "gift" }.check(7000);
    SID.sh("transship share gift-1 --with trixie --end");
    TRIXIE.sh("transship rm gift-1");
    assert_eq!(TRIXIE.try_sh("transship pull gift-1 --from sid").status.code(), Some(3));
}

#[test]
fn a_peer_that_may_not_store_checkpoints_here_stores_none() {
    let _turn = paired_hosts();
    let _container = backed_up(&SID, "unwanted", 8);
    TRIXIE.sh("transship peer allow sid --checkpoints no");
    let refused = SID.try_sh("transship push unwanted-1 --to trixie");
    TRIXIE.sh("transship peer allow sid --checkpoints yes");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("takes no checkpoints"), "{refused:?}");
    assert_eq!(ids(TRIXIE), [""; 0]);
    assert_eq!(
        json(TRIXIE, "ls --from sid")["checkpoints"].as_array().map(Vec::len),
        Some(0),
        "it is not shared any more"
    );
}

fn other(host: Host) -> Host {
    if host == SID { TRIXIE } else { SID }
}

/// The port carries the connections; the helper starts another one.
pub fn break_connections(host: Host) {
    signal_port(host, "KILL");
}

/// Sends a signal to the port.
pub fn signal_port(host: Host, signal: &str) {
    host.sh(&format!(
        "for p in /proc/[0-9]*; do ! tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q 'port [-]-helper' || \
         kill -{signal} ${{p#/proc/}}; done"
    ));
}

#[test]
fn a_migration_whose_connections_break_goes_on_from_where_it_stood() {
    let _turn = paired_hosts();
    let original = SID.start("torn", "--network front programs", "/tools/holder 7000 64");
    let born = original.born(7000);
    let mut migrating = SID.begin("transship migrate torn --to trixie --mode stop-and-copy --rate 60M --compress off");
    TRIXIE.within_seconds(60, "[ \"$(du -sm /var/lib/transship/tmp | cut -f 1)\" -gt 5 ]");
    break_connections(SID);
    assert!(migrating.wait().expect("the migration ends").success());
    let there = Container { host: &TRIXIE, name: "torn" };
    assert_eq!(there.born(7000), born);
}

/// Ends every connection to a peer, which both ports notice and survive.
pub const RESET: &str = "ss -K state established '( sport = :7423 or dport = :7423 )' >/dev/null";

#[test]
fn i1_i2_i4_a_migration_whose_connections_break_in_any_step_goes_on_to_its_end() {
    let _turn = paired_hosts();
    let container = SID.start("torn", "--network front -p 7000:7000 programs", "/tools/holder 7000 24 200");
    let born = container.born(7000);
    std::mem::forget(container);
    let mut chance = Chance::told();
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    for mode in ["stop-and-copy", "pre-copy", "post-copy"] {
        let migrate = |to: Host| format!("migrate torn --to {} --mode {mode} --compress off --rate 40M", to.0);
        let source = whereabouts("torn");
        for step in source.steps_of(&migrate(other(source))) {
            let source = whereabouts("torn");
            // Within the step, whatever it is at by then.
            let moment = chance.below(Duration::from_millis(300)).as_secs_f32();
            let trouble = format!("setsid sh -c \"sleep {moment}; {RESET}\" >/dev/null 2>&1 &");
            source.sh(&format!("cat > {FAILPOINTS} <<'END'\nmigrate/{step}/before exec {trouble}\nEND"));
            let migrated = source.try_sh(&format!("transship {}", migrate(other(source))));
            assert!(migrated.status.success(), "{mode}, {step}, after {moment} s: {migrated:?}");
            let there = Container { host: &other(source), name: "torn" };
            assert_eq!(there.born(7000), born, "{mode}, {step}, after {moment} s");
            std::mem::forget(there);
        }
    }
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    whereabouts("torn").sh("docker rm -f torn");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

#[test]
fn i5_a_push_or_pull_that_is_cancelled_leaves_nothing_and_can_be_asked_for_again() {
    let _turn = paired_hosts();
    let _container = backed_up(&SID, "slow", 64);
    SID.sh("transship share slow-1 --with trixie");
    for (host, command) in [(SID, "push slow-1 --to trixie"), (TRIXIE, "pull slow-1 --from sid")] {
        let slow = format!("transship {command} --rate 500k --compress off");
        let mut travelling = host.begin(&format!("{slow} >/root/travelling 2>&1"));
        TRIXIE.within_seconds(60, "transship status | grep -q fetch");
        let kind = command.split(' ').next().expect("a verb").replace("pull", "fetch");
        let number = host.sh(&format!("transship status | sed -n 's/^operation \\([0-9]*\\): {kind} .*/\\1/p'"));
        host.sh(&format!("transship cancel {number}"));
        assert!(!travelling.wait().expect("it ends").success(), "{}", host.sh("cat /root/travelling"));
        TRIXIE.comes_to_rest(60);
        BOTH.into_iter().for_each(wait_until_nothing_is_left);
        assert_eq!(ids(TRIXIE), [""; 0]);
        host.sh(&format!("transship {command} --compress fast && transship --json ls"));
        assert_eq!(ids(TRIXIE), ids(SID));
        TRIXIE.sh("transship rm slow-1");
    }
}

#[test]
fn a_push_whose_connection_breaks_goes_on_from_where_it_stood() {
    let _turn = paired_hosts();
    let original = backed_up(&SID, "cut", 256);
    let born = original.born(7000);
    let mut pushing = SID.begin("transship push cut-1 --to trixie");
    let id = ids(SID).pop().expect("a checkpoint");
    let pages = format!("/var/lib/transship/staging/{id}/images");
    TRIXIE.within_seconds(60, &format!("[ \"$(du -sm {pages} 2>/dev/null | cut -f 1)\" -gt 20 ] 2>/dev/null"));
    break_connections(SID);
    assert!(pushing.wait().expect("the push ends").success());
    let (sent, all) = last_fetch(TRIXIE);
    assert!(sent < all + (32 << 20), "{sent} of {all} bytes: it began anew");
    TRIXIE.sh("transship restore cut-1 --name cut");
    assert_eq!(Container { host: &TRIXIE, name: "cut" }.born(7000), born);
}

#[test]
fn i4_i5_every_fault_at_every_step_leaves_a_whole_checkpoint_or_none() {
    let _turn = paired_hosts();
    let _container = backed_up(&SID, "faulty", 8);
    let id = ids(SID).pop().expect("a checkpoint");
    let steps = SID.steps_of("push faulty-1 --to trixie").into_iter().map(|step| (SID, format!("push/{step}")));
    let fetch = ["plan", "image", "files", "adopt"].into_iter().map(|step| (TRIXIE, format!("fetch/{step}")));
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    for (host, step) in steps.chain(fetch) {
        for fault in ["before kill", "after kill", "before error", "after error"] {
            TRIXIE.sh(&format!("transship rm --force {id} >/dev/null 2>&1; true"));
            host.sh(&format!("echo '{step}/{fault}' > {FAILPOINTS}"));
            SID.try_sh("transship push faulty-1 --to trixie");
            host.sh(&format!("[ ! -s {FAILPOINTS} ]"));
            for host in BOTH {
                host.sh("until transship status >/dev/null 2>&1; do sleep 0.1; done");
                // What has failed past its commit waits for somebody who has it tried again.
                host.sh("transship status | sed -n 's/^operation \\([0-9]*\\):.* needs-person .*/\\1/p' | xargs -r -n 1 transship resume");
                host.comes_to_rest(60);
                wait_until_nothing_is_left(host);
            }
            assert_eq!(
                json(TRIXIE, "ls --from sid")["checkpoints"].as_array().map(Vec::len),
                Some(0),
                "{step}/{fault}"
            );
            SID.sh("transship push faulty-1 --to trixie");
            assert_eq!(ids(TRIXIE), [id.as_str()], "{step}/{fault}");
        }
    }
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    TRIXIE.sh(&format!("transship export {id} /root/whole && rm /root/whole && transship rm {id}"));
}
