//! Migrations whose connection breaks, or whose person steps in, at the moment that matters.

use super::host::Host;
use super::lab::{BOTH, Container, FAILPOINTS, SID, TRIXIE, paired_hosts};
use super::migrations::{leftovers, migration_on, whereabouts};
use super::ships::{RESET, break_connections, signal_port};

/// An image that only one host has, with a layer of so many MiB that do not compress; its id.
fn own_image(host: Host, image: &str, mebibytes: u32) -> String {
    host.sh(&format!(
        "docker run --name {image} programs dd if=/dev/urandom of=/ballast bs=1M count={mebibytes} 2>/dev/null; \
         docker commit {image} {image}; docker rm {image}"
    ));
    host.sh(&format!("docker inspect -f '{{{{.Id}}}}' {image}"))
}

#[test]
fn an_image_whose_connection_breaks_is_sent_anew_and_the_migration_ends_well() {
    let _turn = paired_hosts();
    let image = own_image(SID, "heavy", 48);
    let container = SID.start("torn", "--network front -p 7000:7000 heavy", "/tools/holder 7000 8");
    let born = container.born(7000);
    std::mem::forget(container);
    for cut in [SID, TRIXIE] {
        let mut migrating = SID.begin("transship migrate torn --to trixie --rate 12M --compress off >/root/told 2>&1");
        TRIXIE.within_seconds(60, "[ \"$(du -sm /var/lib/docker/tmp | cut -f 1)\" -gt 8 ]");
        break_connections(cut);
        let ended = migrating.wait().expect("the migration ends");
        let told = SID.sh("cat /root/told");
        assert!(ended.success(), "{told}");
        assert_eq!(told.matches("sending the image").count(), 2, "{told}");
        assert!(told.contains("broke, going on"), "{told}");
        let there = Container { host: &TRIXIE, name: "torn" };
        assert_eq!(there.born(7000), born);
        std::mem::forget(there);
        TRIXIE.sh("transship migrate torn --to sid");
        TRIXIE.sh(&format!("docker rmi {image} >/dev/null"));
    }
    let back = Container { host: &SID, name: "torn" };
    assert_eq!(back.born(7000), born);
    drop(back);
    SID.sh("docker rmi heavy");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

#[test]
fn i5_images_that_were_sent_for_a_migration_that_ends_before_anything_is_made_do_not_stay() {
    let _turn = paired_hosts();
    let (small, large) = (own_image(SID, "small", 1), own_image(SID, "large", 48));
    let owner = SID.start("owner", "--network front -p 7000:7000 small", "/tools/holder 7000 8");
    let born = owner.born(7000);
    let joiner = SID.start("joiner", "--network container:owner large", "/tools/holder 7001 1");
    // The images go one after the other, which of them first is not said.
    let mut migrating = SID.begin("transship migrate owner --to trixie --rate 4M --compress off");
    let ids = "docker images -aq --no-trunc";
    TRIXIE.within_seconds(60, &format!("{ids} | grep -q -e {small} -e {large}"));
    SID.sh(&format!("transship cancel {}", migration_on(SID)));
    assert_eq!(migrating.wait().expect("the migration ends").code(), Some(1));
    TRIXIE.within_seconds(30, &format!("! {ids} | grep -q -e {small} -e {large}"));
    TRIXIE.sh("[ -z \"$(ls /var/lib/transship/handovers/*.brought 2>/dev/null)\" ]");
    assert_eq!(owner.born(7000), born);
    drop(joiner);
    drop(owner);
    SID.sh("docker rmi small large");
}

#[test]
fn what_fails_while_its_connection_breaks_is_told_with_its_cause() {
    let _turn = paired_hosts();
    let container = SID.start("unheard", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    TRIXIE.heed_failpoints();
    // Nobody is let in again before the visit has come to its end.
    let rule = "INPUT -p tcp --dport 7423 -j REJECT --reject-with tcp-reset";
    let until = "while transship status | grep -q arrive; do sleep 0.1; done";
    TRIXIE.sh(&format!(
        "cat > {FAILPOINTS} <<'END'\n\
         arrive/make/before exec iptables -I {rule}; {RESET}; setsid sh -c \"{until}; iptables -D {rule}\" >/dev/null 2>&1 &\n\
         arrive/make/after error\n\
         END"
    ));
    let migrated = SID.try_sh("transship migrate unheard --to trixie");
    TRIXIE.forget_failpoints();
    let told = String::from_utf8_lossy(&migrated.stderr).into_owned();
    assert_eq!(migrated.status.code(), Some(1), "{told}");
    assert!(told.contains("broke, going on") && told.contains("failpoint arrive/make/after"), "{told}");
    assert_eq!(container.born(7000), born);
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

/// The source has asked for it to be restored, and its connection stands without a word until it breaks.
#[test]
fn i1_i3_a_source_that_hears_late_that_its_copy_runs_by_force_gives_it_away() {
    let _turn = paired_hosts();
    let container = SID.start("forced", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    std::mem::forget(container);
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!(
        "rm -f /root/there /root/go; \
         echo 'arrive/await/before exec touch /root/there; until [ -e /root/go ]; do sleep 0.1; done' > {FAILPOINTS}"
    ));
    let mut migrating = SID.begin("transship migrate forced --to trixie");
    TRIXIE.within_seconds(60, "[ -e /root/there ]");
    signal_port(SID, "STOP");
    TRIXIE.sh("touch /root/go");
    let number = migration_on(TRIXIE);
    TRIXIE.within_seconds(60, &format!("transship decide {number} run --force 2>/dev/null"));
    signal_port(SID, "KILL");
    assert!(migrating.wait().expect("the migration ends").success());
    TRIXIE.forget_failpoints();
    assert_eq!(whereabouts("forced"), TRIXIE);
    assert_eq!(Container { host: &TRIXIE, name: "forced" }.born(7000), born);
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}
