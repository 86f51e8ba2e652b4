//! Containers that move between two hosts with different engines, under their clients.

use super::clients::{Load, Watch};
use super::lab::{BOTH, FAILPOINTS, Host, SID, TRIXIE, paired_hosts};
use std::time::{Duration, Instant};

pub fn is_running(host: Host, name: &str) -> bool {
    host.sh(&format!("docker inspect -f '{{{{.State.Running}}}}' {name} 2>/dev/null; true")) == "true"
}

/// What a host has left of migrations that are over, besides what it remembers of them.
pub fn leftovers(host: Host) -> String {
    host.sh("ls /var/lib/transship/claims /var/lib/transship/staging /var/lib/transship/checkpoints | grep -v : | tr -d '\\n'; \
         iptables-save -t raw | grep -c TRANSSHIP; true")
}

#[test]
fn a_container_travels_compressed_and_slowly_as_well() {
    let _turn = paired_hosts();
    let container = SID.start("packed", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.sh("docker exec packed sh -c 'head -c 1000000 /dev/zero > /zeros'");
    SID.sh("transship migrate packed --to trixie --compress best --rate 1M");
    let there = super::lab::Container { host: &TRIXIE, name: "packed" };
    assert_eq!(there.born(7000), born);
    assert_eq!(TRIXIE.sh("docker exec packed wc -c /zeros"), "1000000 /zeros");
}

pub fn migrate(from: Host, name: &str, to: Host) {
    from.sh(&format!("transship migrate {name} --to {}", to.0));
}

#[test]
fn i1_i5_i6_a_database_with_a_volume_and_a_web_server_travel_there_and_back_under_their_clients() {
    let _turn = paired_hosts();
    let address = SID.address();
    SID.sh("docker run -d --name db --restart always --network front -p 6379:6379 -v data:/data redis \
         redis-server --protected-mode no --bind 0.0.0.0 --dir /data --appendonly yes");
    // Docker fills this volume from the image, on either host.
    SID.sh("docker run -d --name web -p 8080:80 -v pages:/var/www nginx nginx -g 'daemon off;'");
    SID.within_seconds(10, "docker exec db redis-cli set kept forever && docker exec web true");
    SID.sh("docker exec web sh -c 'echo written here > /var/www/page'");
    let queries =
        Load::start(&["redis-benchmark", "-h", &address, "-c", "20", "-n", "200000", "-t", "set,get", "-q"], |text| {
            !text.contains("rror") && !text.contains("refused")
        });
    let web = format!("http://{address}:8080/");
    let requests = Load::start(&["ab", "-q", "-k", "-c", "10", "-n", "100000", &web], |text| {
        text.contains("Failed requests:        0")
    });
    for _ in 0..3 {
        ["db", "web"].iter().for_each(|name| migrate(SID, name, TRIXIE));
        ["db", "web"].iter().for_each(|name| migrate(TRIXIE, name, SID));
    }
    queries.end();
    requests.end();
    assert_eq!(SID.sh("docker exec db redis-cli get kept"), "forever");
    assert_eq!(SID.sh("docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' db"), "always");
    assert!(SID.sh("docker exec db ls /data/appendonlydir").contains("aof"), "the volume came along");
    assert_eq!(SID.sh("docker exec web cat /var/www/page"), "written here");
    assert_eq!(TRIXIE.sh("docker ps -aq; docker volume ls -q"), "", "the source has removed what it had");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
    SID.sh("docker rm -f db web");
}

#[test]
fn i2_what_the_destination_does_not_take_stays_where_it_runs() {
    let _turn = paired_hosts();
    let container = SID.start("held", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    TRIXIE.sh("docker run -d --name other -p 7000:7000 --entrypoint sleep programs infinity 2>/dev/null || \
         docker run -d --name other -p 7000:7000 programs /tools/holder 7000 1");
    let refused = SID.try_sh("transship migrate held --to trixie");
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("port 7000"), "{refused:?}");
    TRIXIE.sh("docker rm -f other");
    TRIXIE.sh("transship peer allow sid --containers no");
    let refused = SID.try_sh("transship migrate held --to trixie");
    TRIXIE.sh("transship peer allow sid --containers yes");
    assert_ne!(refused.status.code(), Some(0));
    assert_eq!(container.born(7000), born);
    assert!(TRIXIE.sh("docker ps -aq").is_empty());
}

#[test]
fn i5_an_image_that_was_sent_for_nothing_does_not_stay() {
    let _turn = paired_hosts();
    let container = SID.start("alone", "-p 7000:7000 programs", "/tools/holder 7000 8");
    let image = SID.sh("docker commit alone only-here");
    SID.sh("docker rm -f alone; docker run -d --name alone -p 7000:7000 only-here /tools/holder 7000 8");
    let born = container.born(7000);
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!("echo 'arrive/make/after error' > {FAILPOINTS}"));
    assert_eq!(SID.try_sh("transship migrate alone --to trixie").status.code(), Some(1));
    TRIXIE.forget_failpoints();
    assert_eq!(container.born(7000), born);
    assert!(!TRIXIE.sh("docker images -aq --no-trunc").contains(&image), "it was sent, and is gone");
    SID.sh("docker rm -f alone; docker rmi only-here");
}

/// Where it runs; fails the test where that is nowhere, or in two places.
pub fn whereabouts(name: &str) -> Host {
    let here: Vec<Host> = BOTH.into_iter().filter(|host| is_running(*host, name)).collect();
    assert_eq!(here.len(), 1, "I1: {name} runs on {here:?}");
    here[0]
}

#[test]
fn i1_i2_i3_every_fault_at_every_step_leaves_exactly_one_copy_running() {
    let _turn = paired_hosts();
    let container = SID.start("mover", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let there = SID.steps_of("migrate mover --to trixie");
    assert_eq!(whereabouts("mover"), TRIXIE);
    assert!(there.len() > 10, "{there:?}");
    let arrival = ["make", "receive", "place", "claim", "start", "await", "release", "settle"];
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    let on_source = there.iter().map(|step| (true, format!("migrate/{step}")));
    let on_destination = arrival.iter().map(|step| (false, format!("arrive/{step}")));
    for (is_source, step) in on_destination.chain(on_source) {
        for (place, action) in [("before", "kill"), ("after", "kill"), ("before", "error"), ("after", "error")] {
            let source = whereabouts("mover");
            let destination = if source == SID { TRIXIE } else { SID };
            let fault = format!("{step}/{place} {action}");
            let failing = if is_source { source } else { destination };
            failing.sh(&format!("echo '{fault}' > {FAILPOINTS}"));
            source.try_sh(&format!("transship migrate mover --to {}", destination.0));
            failing.sh(&format!("[ ! -s {FAILPOINTS} ]"));
            settle(source, destination);
            let here = whereabouts("mover");
            let container = super::lab::Container { host: &here, name: "mover" };
            assert_eq!(container.born(7000), born, "{fault}");
            std::mem::forget(container);
        }
    }
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    let here = whereabouts("mover");
    here.sh("docker rm -f mover");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

/// Until neither host has anything unfinished; what waits for a person is taken up again.
pub fn settle(source: Host, destination: Host) {
    let end = Instant::now() + Duration::from_secs(60) * crate::slowness();
    loop {
        let open: Vec<_> = [destination, source].into_iter().flat_map(operations).collect();
        if open.is_empty() {
            return;
        }
        for (host, operation) in open.iter().filter(|(_, operation)| operation["phase"] == "needs-person") {
            host.try_sh(&format!("transship resume {}", operation["id"]));
        }
        assert!(Instant::now() < end, "{open:?}");
    }
}

/// Those that are open on a host, as soon as its helper tells.
fn operations(host: Host) -> Vec<(Host, serde_json::Value)> {
    host.sh("until transship status >/dev/null 2>&1; do sleep 0.1; done");
    let status: serde_json::Value = serde_json::from_str(&host.sh("transship --json status")).expect("JSON");
    status["operations"].as_array().expect("a list").iter().map(|operation| (host, operation.clone())).collect()
}

/// The copy waits for its source's word when the power goes. What was not on the disk by then is played by emptying it.
#[test]
fn i1_i4_a_destination_that_loses_its_power_makes_the_copy_ready_again() {
    let _turn = paired_hosts();
    let container = SID.start("cut", "--network front -p 7000:7000 -v cut:/data programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.sh("docker exec cut sh -c 'echo kept > /data/in-volume; echo kept > /in-layer'");
    let mut migrating = migrate_up_to("commit", "cut");
    TRIXIE.sh("for file in $(find /var/lib/docker/overlay2/*/diff /var/lib/docker/volumes/cut -name 'in-*'); do : > $file; done");
    TRIXIE.reboot();
    SID.sh("touch /root/go");
    assert!(migrating.wait().expect("the migration ends").success());
    SID.forget_failpoints();
    let there = super::lab::Container { host: &TRIXIE, name: "cut" };
    assert_eq!(there.born(7000), born);
    assert_eq!(TRIXIE.sh("docker exec cut cat /data/in-volume /in-layer"), "kept\nkept");
    assert!(SID.sh("docker ps -aq").is_empty());
}

/// The number of the migration that waits on a host.
pub fn migration_on(host: Host) -> i64 {
    let status: serde_json::Value = serde_json::from_str(&host.sh("transship --json status")).expect("JSON");
    status["operations"][0]["id"].as_i64().unwrap_or_else(|| panic!("{status:#}"))
}

/// Begins to migrate a container from SID, and returns when the source stands before a step.
pub fn migrate_up_to(step: &str, name: &str) -> std::process::Child {
    SID.heed_failpoints();
    SID.sh(&format!(
        "rm -f /root/there /root/go; \
         echo 'migrate/{step}/before exec touch /root/there; until [ -e /root/go ]; do sleep 0.1; done' > {FAILPOINTS}"
    ));
    let migrating = SID.begin(&format!("transship migrate {name} --to trixie"));
    SID.within_seconds(60, "[ -e /root/there ]");
    migrating
}

#[test]
fn i3_a_container_whose_destination_is_gone_goes_on_by_a_persons_force_and_only_by_that() {
    let _turn = paired_hosts();
    let container = SID.start("kept", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    let mut migrating = migrate_up_to("release", "kept");
    TRIXIE.sh("service transshipd stop");
    SID.sh("touch /root/go");
    let number = migration_on(SID);
    assert!(SID.sh("transship status").contains(&format!("transship decide {number} thaw|end")));
    let refused = SID.try_sh(&format!("transship decide {number} thaw"));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("two run"), "{refused:?}");
    SID.sh(&format!("transship decide {number} thaw --force"));
    assert!(!migrating.wait().expect("the migration ends").success());
    assert_eq!(container.born(7000), born);
    watch.end();
    SID.forget_failpoints();
    // What it has restored asks, and hears that it was kept.
    TRIXIE.sh("service transshipd start");
    TRIXIE.within_seconds(90, "[ -z \"$(docker ps -aq)\" ]");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

#[test]
fn i1_i3_a_copy_that_was_dropped_before_it_ran_goes_on_where_it_came_from_and_clients_wait() {
    let _turn = paired_hosts();
    let container = SID.start("back", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    let mut migrating = migrate_up_to("commit", "back");
    // Other containers are not in the way of one that waits at the gate.
    let other = TRIXIE.start("other", "-p 7001:7000 programs", "/tools/holder 7000 1");
    other.cycle();
    TRIXIE.sh(&format!("transship decide {} drop", migration_on(TRIXIE)));
    SID.sh("touch /root/go");
    // The destination says that it never ran there.
    assert_eq!(migrating.wait().expect("the migration ends").code(), Some(1), "failed and undone");
    SID.forget_failpoints();
    assert!(is_running(SID, "back") && !is_running(TRIXIE, "back"));
    assert_eq!(container.born(7000), born);
    watch.end();
    assert!(!SID.sh("transship status").contains("operation"), "nothing is left to decide");
}

#[test]
fn i3_a_source_that_hears_no_answer_asks_until_it_knows_and_clients_wait() {
    let _turn = paired_hosts();
    let container = SID.start("asked", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!("echo 'arrive/release/before kill' > {FAILPOINTS}"));
    migrate(SID, "asked", TRIXIE);
    watch.end();
    TRIXIE.forget_failpoints();
    let there = super::lab::Container { host: &TRIXIE, name: "asked" };
    assert_eq!(there.born(7000), born);
    assert!(SID.sh("docker ps -aq").is_empty());
}

/// The failpoint plays what is left of a destination that has said so and then dies: its journal is behind its word.
#[test]
fn i1_a_destination_that_has_said_that_its_copy_is_lost_does_not_let_it_run() {
    let _turn = paired_hosts();
    let container = SID.start("lost", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!(
        "echo 'arrive/release/before exec sed -i s/released/lost/ /var/lib/transship/handovers/*.arrival; \
         kill -9 $PPID' > {FAILPOINTS}"
    ));
    assert_eq!(SID.try_sh("transship migrate lost --to trixie").status.code(), Some(4));
    TRIXIE.within_seconds(60, "[ -z \"$(docker ps -aq)\" ]");
    TRIXIE.forget_failpoints();
    let number = migration_on(SID);
    let refused = SID.try_sh(&format!("transship decide {number} thaw"));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("may have run"), "{refused:?}");
    SID.sh(&format!("transship decide {number} thaw --force"));
    assert_eq!(container.born(7000), born);
    BOTH.into_iter().for_each(|host| assert!(!host.sh("transship status").contains("operation"), "{}", host.0));
}

#[test]
fn i3_what_a_person_takes_back_while_it_runs_elsewhere_runs_here_and_the_migration_can_be_closed() {
    let _turn = paired_hosts();
    let container = SID.start("both", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.heed_failpoints();
    SID.sh(&format!("echo 'migrate/release/before error' > {FAILPOINTS}"));
    assert_eq!(SID.try_sh("transship migrate both --to trixie").status.code(), Some(4));
    SID.forget_failpoints();
    // The destination asks whether it has it, and hears that it does.
    TRIXIE.within_seconds(90, "[ \"$(docker inspect -f '{{.State.Running}}' both)\" = true ]");
    let number = migration_on(SID);
    let refused = SID.try_sh(&format!("transship decide {number} thaw"));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("two would run"), "{refused:?}");
    let forced = SID.try_sh(&format!("transship decide {number} thaw --force"));
    assert_eq!(forced.status.code(), Some(4), "{forced:?}");
    assert!(String::from_utf8_lossy(&forced.stderr).contains("stop one of the two"), "{forced:?}");
    assert_eq!(container.born(7000), born);
    TRIXIE.sh("docker rm -f both");
    SID.try_sh(&format!("transship resume {number}"));
    assert!(!SID.sh("transship status").contains("operation"), "nothing is left to decide");
    assert_eq!(container.born(7000), born);
}

#[test]
fn i3_a_person_who_knows_that_it_runs_there_ends_the_copy_here() {
    let _turn = paired_hosts();
    let container = SID.start("ended", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let mut migrating = migrate_up_to("release", "ended");
    TRIXIE.sh("service transshipd stop");
    SID.sh("touch /root/go");
    let number = migration_on(SID);
    let refused = SID.try_sh(&format!("transship decide {number} end"));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("may run nowhere"), "{refused:?}");
    SID.sh(&format!("transship decide {number} end --force"));
    assert!(migrating.wait().expect("the migration ends").success());
    SID.forget_failpoints();
    assert!(!is_running(SID, "ended"));
    assert_eq!(SID.try_sh("docker start ended").status.code(), Some(1), "I1: it was given away");
    // What has come there asks, and hears that it was given to it.
    TRIXIE.sh("service transshipd start");
    TRIXIE.comes_to_rest(90);
    let there = super::lab::Container { host: &TRIXIE, name: "ended" };
    assert_eq!(there.born(7000), born);
}

#[test]
fn i1_i3_a_person_who_knows_that_the_source_is_gone_lets_the_copy_run() {
    let _turn = paired_hosts();
    let container = SID.start("released", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let mut migrating = migrate_up_to("release", "released");
    let number = migration_on(TRIXIE);
    // With its supervisor, so that nothing starts it again.
    SID.sh("kill -9 $(pidof transshipd); touch /root/go");
    assert!(!migrating.wait().expect("the migration ends").success());
    let refused = TRIXIE.try_sh(&format!("transship decide {number} run"));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    TRIXIE.sh(&format!("transship decide {number} run --force"));
    let there = super::lab::Container { host: &TRIXIE, name: "released" };
    assert_eq!(there.born(7000), born);
    // The source comes back, says what it had decided, and hears that it runs.
    SID.sh(&format!("rm -f /etc/default/transshipd {FAILPOINTS}; service transshipd start"));
    SID.comes_to_rest(90);
    assert!(SID.sh("docker ps -aq").is_empty());
    assert_eq!(there.born(7000), born);
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}
