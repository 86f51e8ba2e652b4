//! The oldest engine that is in use: Docker 20.10 of Debian 12, with a containerd, runc, iptables and libc of its age.

use super::clients::Watch;
use super::lab::{Container, Host, SID, paired_hosts};
use super::migrations::migrate;
use super::upgrades::{NEW, assert_nothing_is_left};
use std::mem::ManuallyDrop;

const OLDEST: Host = Host("oldest");

fn engine() -> String {
    OLDEST.sh("docker version --format '{{.Server.Version}}'")
}

#[test]
fn i1_i2_i6_nobody_notices_a_freeze_a_journey_and_an_upgrade_on_the_oldest_engine() {
    let _turn = paired_hosts();
    OLDEST.anew("bookworm");
    OLDEST.sh("docker network create --subnet 10.60.0.0/24 front");
    assert!(engine().starts_with("20.10"), "{}", engine());
    let tree = OLDEST.start("tree", "--restart always -p 7000:7000 programs", "/tools/tree 7000");
    let holder =
        OLDEST.start("holder", "--restart always --network front -p 7001:7001 programs", "/tools/holder 7001 8");
    let born = || (tree.born(7000), holder.born(7001));
    let before = born();
    let watches = [7000, 7001].map(|port| Watch::start(&format!("{}:{port}", OLDEST.address())));

    OLDEST.sh("transship checkpoint tree holder && transship restore tree && docker start holder");
    assert_eq!(born(), before, "frozen and restored");

    migrate(OLDEST, "holder", SID);
    let there = ManuallyDrop::new(Container { host: &SID, name: "holder" });
    assert_eq!(there.born(7001), before.1, "on a newer engine");
    migrate(SID, "holder", OLDEST);
    assert_eq!(born(), before, "back from a newer engine");
    OLDEST.end_forwards();

    let answer = OLDEST.sh(&format!("transship --json upgrade --to {NEW} 2>/dev/null"));
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer");
    assert!(engine().starts_with(NEW), "{}", engine());
    assert_eq!(born(), before, "after the upgrade");
    assert_nothing_is_left(OLDEST, "after the upgrade");
    // 20.10's package brought the command line as well.
    OLDEST.sh("docker --version");

    OLDEST.sh(&format!("transship rollback {}", answer["operation"]));
    assert!(engine().starts_with("20.10"), "{}", engine());
    assert_eq!(born(), before, "after the way back");
    assert_nothing_is_left(OLDEST, "after the way back");
    watches.into_iter().for_each(Watch::end);
    drop((tree, holder));
    OLDEST.down();
}
