//! What becomes of frozen containers when the machine boots.

use super::host::run;
use super::machines::{TRIXIE, machine, start_holder};
use super::results::tried;

#[test]
fn i3_i8_a_frozen_container_stays_frozen_over_a_power_cut_and_comes_back_whole() {
    let _turn = machine();
    let _tried = tried("a power cut with a frozen container, `restore`", &[TRIXIE]);
    let (holder, born) = start_holder("--restart always");
    TRIXIE.sh("transship checkpoint holder");
    TRIXIE.cut_and_boot();
    assert_eq!(TRIXIE.sh("docker inspect -f '{{.State.Running}}' holder"), "false", "nothing has started it");
    TRIXIE.sh("transship restore holder");
    assert_eq!(holder.born(7000), born);
    TRIXIE.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' holder) = always ]");
    TRIXIE.assert_nothing_is_left();
}

#[test]
fn i4_i8_a_frozen_container_outlives_a_shutdown_for_another_kernel_and_docker_start_brings_it_back() {
    let _turn = machine();
    let _tried = tried("a shutdown with a frozen container, another kernel, `docker start`", &[TRIXIE]);
    let (holder, born) = start_holder("");
    TRIXIE.sh("transship checkpoint holder");
    let kernel = TRIXIE.sh("uname -r");
    run(&["halt", TRIXIE.0]);
    run(&["boot", TRIXIE.0, "--next-kernel"]);
    assert_ne!(TRIXIE.sh("uname -r"), kernel);
    TRIXIE.sh("docker start holder");
    assert_eq!(holder.born(7000), born);
    TRIXIE.assert_nothing_is_left();
}
