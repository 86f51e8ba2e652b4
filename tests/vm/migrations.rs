//! Containers that move between machines with different kernels, libcs and engines.

use super::host::{Container, Host, run};
use super::machines::{BOTH, SID, TRIXIE, few_clients, pair, start_holder};
use super::results::tried;
use std::mem::ManuallyDrop;

fn is_running(host: Host, name: &str) -> bool {
    host.sh(&format!("docker inspect -f '{{{{.State.Running}}}}' {name} 2>/dev/null; true")) == "true"
}

/// From TRIXIE to SID and back, in one mode.
fn travels_there_and_back(mode: &str) {
    assert_ne!(TRIXIE.sh("uname -r"), SID.sh("uname -r"));
    assert_ne!(TRIXIE.engine(), SID.engine());
    let options = "--restart always --memory 512m --user 1000:1000 --network front -p 7000:7000 programs";
    let holder = TRIXIE.start("holder", options, "/tools/holder 7000 24 100");
    let born = holder.born(7000);
    let watch = few_clients(TRIXIE);
    for (from, to) in [(TRIXIE, SID), (SID, TRIXIE)] {
        from.sh(&format!("transship migrate holder --to {} --mode {mode}", to.0));
        assert!(is_running(to, "holder") && !is_running(from, "holder"), "I1: it runs on {} alone", to.0);
        let there = ManuallyDrop::new(Container { host: &to, name: "holder" });
        assert_eq!(there.born(7000), born, "{mode} to {}", to.0);
    }
    watch.end();
    assert_eq!(SID.sh("docker ps -aq"), "", "the source has removed what it had");
    drop(holder);
    for host in BOTH {
        host.end_forwards();
        host.assert_nothing_is_left();
    }
}

#[test]
fn i1_i5_i6_a_container_travels_between_kernels_and_engines_and_back_under_its_clients_by_pre_copy() {
    let _turn = pair();
    let _tried = tried("`migrate` there and back under clients, pre-copy", &BOTH);
    travels_there_and_back("pre-copy");
}

#[test]
fn i1_i5_i6_a_container_travels_between_kernels_and_engines_and_back_under_its_clients_by_stop_and_copy() {
    let _turn = pair();
    let _tried = tried("`migrate` there and back under clients, stop-and-copy", &BOTH);
    travels_there_and_back("stop-and-copy");
}

/// Not all hosts of a place get a new helper on one day.
#[test]
fn i1_i5_i6_a_container_travels_to_a_host_whose_helper_is_an_earlier_one_and_back_under_its_clients() {
    let _turn = pair();
    let _tried = tried("`migrate` there and back under clients, between this helper and an earlier one", &BOTH);
    run(&["earlier", SID.0]);
    let helper = "sha256sum < /usr/sbin/transshipd";
    assert_ne!(TRIXIE.sh(helper), SID.sh(helper));
    travels_there_and_back("pre-copy");
}

#[test]
fn i2_a_processor_that_lacks_what_programs_may_use_is_refused_before_anything_is_touched() {
    let _turn = pair();
    let _tried = tried("`migrate` to a lesser processor is refused", &BOTH);
    SID.sh("sync");
    SID.cut_and_boot_as("Nehalem");
    let (holder, born) = start_holder(&TRIXIE, "");
    for verb in ["check holder", "migrate holder"] {
        let refused = TRIXIE.try_sh(&format!("transship {verb} --to sid"));
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        let told = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains("the processor there lacks"), "{told}");
    }
    assert_eq!(holder.born(7000), born);
}

fn running(host: Host) -> String {
    host.sh("docker ps --format '{{.Names}}' | sort | xargs")
}

#[test]
fn i1_i3_a_host_that_gets_another_kernel_and_engine_is_emptied_for_it_and_gets_back_what_has_left() {
    let _turn = pair();
    let _tried = tried("`evacuate`, another kernel, `return`; `upgrade --strategy evacuate` under clients", &BOTH);
    let first =
        TRIXIE.start("first", "--restart always --network front -p 7000:7000 programs", "/tools/holder 7000 16");
    let second = TRIXIE.start("second", "-p 7001:7001 programs", "/tools/holder 7001 16");
    let born = (first.born(7000), second.born(7001));
    let kernel = TRIXIE.sh("uname -r");
    TRIXIE.sh("transship evacuate --to sid");
    assert_eq!((running(TRIXIE).as_str(), running(SID).as_str()), ("", "first second"));
    run(&["halt", TRIXIE.0]);
    run(&["boot", TRIXIE.0, "--next-kernel"]);
    assert_ne!(TRIXIE.sh("uname -r"), kernel);
    TRIXIE.sh("transship return");
    assert_eq!((running(TRIXIE).as_str(), running(SID).as_str()), ("first second", ""));
    assert_eq!((first.born(7000), second.born(7001)), born);

    let watch = few_clients(TRIXIE);
    TRIXIE.sh("transship upgrade --to 28.5 --strategy evacuate --evacuate-to sid");
    assert!(TRIXIE.engine().starts_with("28.5"), "it is the server that counts: {}", TRIXIE.engine());
    assert_eq!((running(TRIXIE).as_str(), running(SID).as_str()), ("first second", ""));
    assert_eq!((first.born(7000), second.born(7001)), born);
    watch.end();
    drop((first, second));
    for host in BOTH {
        host.end_forwards();
        host.assert_nothing_is_left();
    }
}
