//! Connections of a container that moves, of every kind that can be led after it.

use super::clients::{Server, Watch};
use super::lab::{BOTH, Container, FAILPOINTS, Host, SID, TRIXIE, paired_hosts};

fn migrate(from: Host, name: &str, to: Host) {
    from.sh(&format!("transship migrate {name} --to {}", to.0));
}

/// The container, wherever it runs, until it is removed there.
fn at<'a>(host: &'a Host, name: &'a str) -> Container<'a> {
    Container { host, name }
}

#[test]
fn i6_whom_a_container_has_called_does_not_notice_that_it_moves() {
    let _turn = paired_hosts();
    let _far = Server::start(7100);
    let far = SID.sh("getent hosts client | cut -d ' ' -f 1");
    let command = format!("/tools/watch {far}:7100 --control 7002");
    let caller = SID.start("calls", "--network front programs", &command);
    caller.check(7002);
    std::mem::forget(caller);
    for (from, to) in [(SID, TRIXIE), (TRIXIE, SID), (SID, TRIXIE)] {
        migrate(from, "calls", to);
        to.within_seconds(20, "docker exec calls /tools/watch 127.0.0.1:7002 --ask check | grep -q ^ok");
    }
    at(&TRIXIE, "calls").assert_nothing_noticed(7002);
    assert!(SID.sh("transship forward ls").contains("calls"), "what comes back is led after it");
}

/// Nobody asks meanwhile which there are.
#[test]
fn i5_a_way_for_open_connections_alone_ends_when_the_last_of_them_has() {
    let _turn = paired_hosts();
    let _far = Server::start(7100);
    let far = SID.sh("getent hosts client | cut -d ' ' -f 1");
    let is_led = "iptables-save | grep -q TRANSSHIP-f";
    // The kernel would remember for two minutes that they were closed. Which end has called is not seen there any more.
    let forget = "for end in --sport --dport; do conntrack -D -p tcp $end 7100 >/dev/null 2>&1; done; true";
    let end_connections = || TRIXIE.sh("docker rm -f calls") + &SID.sh(forget);
    let command = format!("/tools/watch {far}:7100 --control 7002");
    for stops_helper in [false, true] {
        let caller = SID.start("calls", "--network front programs", &command);
        caller.check(7002);
        std::mem::forget(caller);
        migrate(SID, "calls", TRIXIE);
        if stops_helper {
            SID.sh("service transshipd stop");
            end_connections();
            SID.sh(&format!("{is_led} && service transshipd start"));
        } else {
            // It is looked at after ten seconds, and used.
            let stays = SID.try_sh(&format!("timeout 15 sh -c 'while {is_led}; do sleep 0.1; done'"));
            assert_eq!(stays.status.code(), Some(124), "its connections are open: {stays:?}");
            at(&TRIXIE, "calls").assert_nothing_noticed(7002);
            end_connections();
        }
        SID.within_seconds(60, &format!("! {is_led} && ! ls /var/lib/transship/handovers | grep -q forward"));
    }
}

/// Docker 26 lets others reach a published port by the container's own address.
#[test]
fn i6_who_has_come_to_a_containers_own_address_by_way_of_its_host_does_not_notice_that_it_moves() {
    let _turn = paired_hosts();
    let container =
        TRIXIE.start("direct", "--network front --ip 10.60.0.77 -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    super::clients::on_segment(&["ip", "route", "replace", "10.60.0.0/24", "via", &TRIXIE.address()]);
    let watch = Watch::start_with("10.60.0.77:7000", &["--no-new"]);
    std::mem::forget(container);
    migrate(TRIXIE, "direct", SID);
    let container = at(&SID, "direct");
    assert_eq!(container.born(7000), born);
    watch.end();
    super::clients::on_segment(&["ip", "route", "del", "10.60.0.0/24"]);
    BOTH.into_iter().for_each(|host| assert!(!host.sh("transship status").contains("operation"), "{}", host.0));
}

/// How many connections of a container live on, and how many are lost, with the reasons.
fn outlook(name: &str) -> (u64, u64, String) {
    let told = SID.sh(&format!("transship --json check {name} --no-canary --to trixie 2>/dev/null"));
    let answer: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let container = &answer["containers"][0];
    assert_eq!(container["able"], true, "{told}");
    let kinds = container["connections"].as_array().expect("connections").iter();
    kinds.fold((0, 0, String::new()), |(live, lost, why), kind| {
        let count = kind["count"].as_u64().expect("a number");
        match kind["lives"] == true {
            true => (live + count, lost, why),
            false => (live, lost + count, why + kind["reason"].as_str().expect("a reason")),
        }
    })
}

#[test]
fn what_would_be_lost_on_the_way_is_said_beforehand() {
    let _turn = paired_hosts();
    let container = SID.start("told", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    container.check(7000);
    assert_eq!(outlook("told"), (0, 0, String::new()));
    let visitor = Watch::start_with(&format!("{}:7000", SID.address()), &["--no-new"]);
    let (visiting, lost, _) = outlook("told");
    assert!(visiting > 0 && lost == 0);
    let address = SID.sh("docker inspect -f '{{.NetworkSettings.Networks.front.IPAddress}}' told");
    let command = format!("/tools/watch {address}:7000 --no-new --control 7002");
    let neighbour = SID.start("beside", "--network front programs", &command);
    neighbour.check(7002);
    // Through the userland proxy.
    let local = SID.start("local", "--network host programs", "/tools/watch 127.0.0.1:7000 --no-new --control 7003");
    local.check(7003);
    let (live, lost, why) = outlook("told");
    assert_eq!((live, lost), (visiting, 2 * visiting), "{why}");
    assert!(why.contains("beside the container") && why.contains("userland proxy"), "{why}");
    drop(local);
    let told = SID.sh("transship migrate told --to trixie 2>&1");
    assert!(told.contains("will be lost: the other end is beside"), "{told}");
    visitor.end();
    TRIXIE.sh("docker rm -f told");
}

#[test]
fn i2_a_host_that_lacks_what_it_takes_says_so_before_anything_is_sent() {
    let _turn = paired_hosts();
    let container = SID.start("wanted", "--network front --ip 10.60.0.88 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let other = TRIXIE.start("taken", "--network front --ip 10.60.0.88 programs", "/tools/holder 7000 8");
    other.check(7000);
    let refused = SID.try_sh("transship migrate wanted --to trixie --dry-run");
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(told.contains("10.60.0.88") && told.contains("taken has there"), "{told}");
    assert_eq!(container.born(7000), born);
}

#[test]
fn an_image_is_sent_without_the_layers_that_are_there() {
    let _turn = paired_hosts();
    let base = SID.start("base", "programs", "/tools/holder 7000 8");
    SID.sh("docker exec base sh -c 'echo on top > /top' && docker commit base layered");
    drop(base);
    let container = SID.start("layers", "--network front -p 7000:7000 layered", "/tools/holder 7000 8");
    let born = container.born(7000);
    let told = SID.sh("transship migrate layers --to trixie 2>&1");
    assert!(told.contains("layered: 1 of its 2 layers are there"), "{told}");
    std::mem::forget(container);
    let container = at(&TRIXIE, "layers");
    assert_eq!(container.born(7000), born);
    assert_eq!(TRIXIE.sh("docker exec layers cat /top"), "on top");
    drop(container);
    SID.sh("docker rmi layered");
    TRIXIE.sh("docker image prune -f");
}

#[test]
fn what_a_container_has_written_is_told_where_it_has_gone() {
    let _turn = paired_hosts();
    let count = "sh -c 'n=0; while true; do n=$((n+1)); echo $n; sleep 0.01; done'";
    let options = "--log-opt max-size=2k --log-opt max-file=50";
    let container = SID.start("writes", &format!("{options} --network front programs"), count);
    SID.within_seconds(20, "[ $(docker logs writes | wc -l) -gt 100 ]");
    migrate(SID, "writes", TRIXIE);
    std::mem::forget(container);
    let before = TRIXIE.sh("docker logs writes | wc -l");
    TRIXIE.within_seconds(20, &format!("[ $(docker logs writes | wc -l) -gt $(({before} + 100)) ]"));
    TRIXIE.sh("docker stop -t 0 writes");
    let lines = TRIXIE.sh("docker logs writes");
    let numbers: Vec<u64> = lines.lines().map(|line| line.parse().expect("a number")).collect();
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!((numbers[0], gap), (1, None), "every line, in its place");
    TRIXIE.sh("docker rm -f writes");
}

#[test]
fn what_cannot_live_on_is_closed_at_both_ends_where_that_was_asked_for() {
    let _turn = paired_hosts();
    let container = SID.start("closes", "--network front programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let address = SID.sh("docker inspect -f '{{.NetworkSettings.Networks.front.IPAddress}}' closes");
    let command = format!("/tools/watch {address}:7000 --no-new --patience 300 --control 7002");
    let neighbour = SID.start("stays", "--network front programs", &command);
    neighbour.check(7002);
    let open = |host: Host, name: &str| {
        host.sh(&format!(
            "nsenter -t $(docker inspect -f '{{{{.State.Pid}}}}' {name}) -n cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 01 '; true"
        ))
    };
    assert_ne!(open(SID, "closes"), "0");
    SID.sh("transship migrate closes --to trixie --tcp close");
    std::mem::forget(container);
    let container = at(&TRIXIE, "closes");
    assert_eq!(open(TRIXIE, "closes"), "0", "they are closed where it runs");
    let report = SID.sh("docker exec stays /tools/watch 127.0.0.1:7002 --ask report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let noticed = ["lost", "reset"].map(|how| report[how].as_u64().unwrap_or_default());
    assert!(noticed.iter().sum::<u64>() > 0, "{report:#}");
    assert_eq!(container.born(7000), born);
}

#[test]
fn i7_what_is_mounted_of_the_host_comes_along_as_was_said_and_nothing_is_written_over() {
    let _turn = paired_hosts();
    for host in BOTH {
        host.sh("rm -rf /srv/own /srv/same; mkdir -p /srv/same; echo here > /srv/same/which");
    }
    SID.sh("mkdir -p /srv/own/deep; echo kept > /srv/own/deep/file");
    let mounts = "-v /srv/own:/own -v /srv/same:/same:ro";
    let container = SID.start("mounts", &format!("{mounts} --network front programs"), "/tools/holder 7000 8");
    let born = container.born(7000);
    let refused = SID.try_sh("transship migrate mounts --to trixie");
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--bind copy=/srv/own"), "{refused:?}");
    TRIXIE.sh("mkdir /srv/own; echo theirs > /srv/own/file");
    let refused = SID.try_sh("transship migrate mounts --to trixie --bind copy --bind shared=/srv/same");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is /srv/own there already"), "{refused:?}");
    TRIXIE.sh("grep -q theirs /srv/own/file && rm -r /srv/own");
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!("echo 'arrive/make/after error' > {FAILPOINTS}"));
    assert_eq!(
        SID.try_sh("transship migrate mounts --to trixie --bind copy --bind shared=/srv/same").status.code(),
        Some(1)
    );
    TRIXIE.forget_failpoints();
    TRIXIE.sh("[ ! -e /srv/own ] && [ -e /srv/same/which ]");
    SID.sh("transship migrate mounts --to trixie --bind copy --bind shared=/srv/same");
    std::mem::forget(container);
    let container = at(&TRIXIE, "mounts");
    assert_eq!(container.born(7000), born);
    assert_eq!(TRIXIE.sh("docker exec mounts cat /own/deep/file /same/which"), "kept\nhere");
    assert_eq!(SID.sh("cat /srv/own/deep/file"), "kept", "what is the host's own stays");
    drop(container);
    TRIXIE.sh("rm -r /srv/own");
}
