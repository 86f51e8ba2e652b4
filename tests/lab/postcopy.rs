//! Containers that run at their destination before their memory is there.

use super::clients::Watch;
use super::lab::{BOTH, Container, FAILPOINTS, Host, SID, TRIXIE, paired_hosts};
use super::migrations::{leftovers, migration_on, settle, whereabouts};

/// Pagers, their guards and their files that a host still has.
fn pagers(host: Host) -> String {
    host.sh("ls /run/transship/pager 2>/dev/null; ps -eo args | grep '[p]ager /run/transship'; true")
}

fn nothing_is_left() {
    for host in BOTH {
        assert_eq!((leftovers(host).as_str(), pagers(host).as_str()), ("0", ""), "{}", host.0);
    }
}

/// Begins to migrate a container from SID so slowly that its memory follows for a while; returns when it runs there.
fn follows_slowly(name: &str) -> std::process::Child {
    let command = format!("transship migrate {name} --to trixie --mode post-copy --rate 5M");
    let migrating = SID.begin(&format!("{command} >/root/migrating 2>&1"));
    let runs = format!("[ \"$(docker inspect -f \"{{{{.State.Running}}}}\" {name} 2>/dev/null)\" = true ]");
    let waited = TRIXIE.try_sh(&format!("timeout 60 sh -c 'until {runs}; do sleep 0.1; done'"));
    assert!(
        waited.status.success(),
        "it does not come to run there:\n{}",
        SID.sh("cat /root/migrating; transship status")
    );
    migrating
}

#[test]
fn i1_i4_i5_a_gigabyte_follows_its_container_under_its_clients() {
    let _turn = paired_hosts();
    let container = SID.start("big", "--network front -p 7000:7000 programs", "/tools/holder 7000 1024 2000");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    SID.sh("transship migrate big --to trixie --mode post-copy");
    let there = Container { host: &TRIXIE, name: "big" };
    assert_eq!(there.born(7000), born, "and every page is as it was, or as it was rewritten since");
    watch.end();
    assert_eq!(SID.sh("docker ps -aq"), "", "the source has removed what it had");
    nothing_is_left();
}

#[test]
fn i1_i4_a_container_whose_memory_is_cut_off_stands_still_and_goes_on_when_the_link_is_back() {
    let _turn = paired_hosts();
    let container = SID.start("cutoff", "--network front -p 7000:7000 programs", "/tools/holder 7000 64 2000");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    let mut migrating = follows_slowly("cutoff");
    SID.sh("iptables -I INPUT -p tcp --dport 7423 -j DROP; iptables -I OUTPUT -p tcp --sport 7423 -j DROP");
    // The helpers may die meanwhile, and are started again by their supervisors.
    for host in BOTH {
        host.sh("kill -9 $(pgrep -P $(cat /run/transship/transshipd.pid))");
        host.within_seconds(30, "transship status >/dev/null 2>&1");
    }
    SID.sh("iptables -D INPUT -p tcp --dport 7423 -j DROP; iptables -D OUTPUT -p tcp --sport 7423 -j DROP");
    let _ = migrating.wait();
    settle(SID, TRIXIE);
    let there = Container { host: &TRIXIE, name: "cutoff" };
    assert_eq!(there.born(7000), born);
    watch.end();
    nothing_is_left();
}

#[test]
fn i3_i4_what_loses_its_memory_on_the_way_is_ended_and_can_be_taken_back_from_its_source() {
    let _turn = paired_hosts();
    let container = SID.start("lostpage", "--network front -p 7000:7000 programs", "/tools/holder 7000 64 2000");
    let born = container.born(7000);
    let mut migrating = follows_slowly("lostpage");
    // The first is the pager, the second its guard.
    TRIXIE.sh("kill -9 $(pgrep -f '[p]ager /run/transship' | sort -n | head -1)");
    assert_eq!(migrating.wait().expect("the migration ends").code(), Some(4));
    assert_eq!(TRIXIE.sh("docker ps -q"), "", "it does not go on with empty pages");
    let number = migration_on(SID);
    let refused = SID.try_sh(&format!("transship decide {number} thaw"));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("taken back in time"), "{refused:?}");
    SID.sh(&format!("transship decide {number} thaw --force"));
    assert_eq!(container.born(7000), born);
    settle(SID, TRIXIE);
    nothing_is_left();
}

#[test]
fn i1_i2_i3_i5_every_fault_at_every_step_of_post_copy_leaves_exactly_one_copy_running() {
    let _turn = paired_hosts();
    let container = SID.start("follower", "--network front -p 7000:7000 programs", "/tools/holder 7000 24 500");
    let born = container.born(7000);
    let there = SID.steps_of("migrate follower --to trixie --mode post-copy");
    assert!(there.contains(&"follow".to_owned()), "{there:?}");
    std::mem::forget(container);
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    // What is as in any migration is tried with those.
    let own = ["dump", "ship", "restore", "commit", "release", "follow", "stop"]
        .map(|step| (true, format!("migrate/{step}")));
    let arrival = ["start", "await", "release", "follow", "settle"].map(|step| (false, format!("arrive/{step}")));
    for (is_source, step) in own.into_iter().chain(arrival) {
        for (place, action) in [("before", "kill"), ("after", "kill"), ("after", "error")] {
            let source = whereabouts("follower");
            let destination = if source == SID { TRIXIE } else { SID };
            let fault = format!("{step}/{place} {action}");
            let failing = if is_source { source } else { destination };
            failing.sh(&format!("echo '{fault}' > {FAILPOINTS}"));
            source.try_sh(&format!("transship migrate follower --to {} --mode post-copy", destination.0));
            failing.sh(&format!("[ ! -s {FAILPOINTS} ]"));
            settle(source, destination);
            let here = whereabouts("follower");
            let container = Container { host: &here, name: "follower" };
            assert_eq!(container.born(7000), born, "{fault}");
            std::mem::forget(container);
        }
    }
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    whereabouts("follower").sh("docker rm -f follower");
    nothing_is_left();
}
