//! Operations that a person cancels.

use super::clients::Watch;
use super::lab::{BOTH, Container, FAILPOINTS, SID, TRIXIE, paired_hosts};
use super::migrations::{leftovers, migrate_up_to, migration_on, whereabouts};

/// Begins to migrate, has it cancelled while it stands before a step of the source's, and lets it go on.
fn cancel_before(step: &str, container: &Container<'_>) -> Option<i32> {
    let mut migrating = migrate_up_to(step, container.name);
    let number = migration_on(SID);
    SID.sh(": > /var/log/transshipd.log");
    let mut cancelling = SID.begin(&format!("transship cancel {number}"));
    SID.within_seconds(10, "grep -q 'a person has cancelled it' /var/log/transshipd.log");
    SID.sh("touch /root/go");
    assert_eq!(migrating.wait().expect("the migration ends").code(), Some(1), "{step}");
    SID.forget_failpoints();
    cancelling.wait().expect("transship ends").code()
}

#[test]
fn i2_a_migration_that_is_cancelled_before_its_commit_leaves_the_container_where_it_runs() {
    let _turn = paired_hosts();
    let container = SID.start("kept", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    for step in ["expect", "rounds", "dump", "ship"] {
        assert_eq!(cancel_before(step, &container), Some(0), "{step}");
        assert_eq!(container.born(7000), born, "{step}");
        assert_eq!(whereabouts("kept"), SID, "{step}");
    }
    // Sending takes minutes at this rate.
    let interrupted = SID.try_sh("timeout -s INT 5 transship migrate kept --to trixie --rate 65536 2>&1");
    assert_eq!(interrupted.status.code(), Some(124), "{interrupted:?}");
    assert_eq!(whereabouts("kept"), SID);
    assert_eq!(container.born(7000), born);
    watch.end();
    TRIXIE.within_seconds(60, "[ -z \"$(docker ps -aq)\" ]");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

#[test]
fn i2_a_container_runs_on_at_once_when_it_is_cancelled_while_its_destination_restores_it() {
    let _turn = paired_hosts();
    let container = SID.start("kept", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!(
        "rm -f /root/there /root/go; \
         echo 'arrive/start/before exec touch /root/there; until [ -e /root/go ]; do sleep 0.1; done' > {FAILPOINTS}"
    ));
    let mut migrating = SID.begin("transship migrate kept --to trixie");
    TRIXIE.within_seconds(60, "[ -e /root/there ]");
    let mut cancelling = SID.begin(&format!("transship cancel {}", migration_on(SID)));
    // The destination is still at it.
    assert_eq!(container.born(7000), born);
    TRIXIE.sh("touch /root/go");
    assert_eq!(migrating.wait().expect("the migration ends").code(), Some(1));
    assert_eq!(cancelling.wait().expect("transship ends").code(), Some(0));
    TRIXIE.forget_failpoints();
    TRIXIE.within_seconds(60, "[ -z \"$(docker ps -aq)\" ]");
}

#[test]
fn i3_what_has_committed_is_not_cancelled() {
    let _turn = paired_hosts();
    let container = SID.start("gone", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let mut migrating = migrate_up_to("forward", "gone");
    let refused = SID.try_sh(&format!("transship cancel {}", migration_on(SID)));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has committed"), "{refused:?}");
    SID.sh("touch /root/go");
    assert!(migrating.wait().expect("the migration ends").success());
    SID.forget_failpoints();
    let there = Container { host: &TRIXIE, name: "gone" };
    assert_eq!(there.born(7000), born);
}
