//! What becomes of frozen containers when the machine boots.

use super::host::run;
use super::machines::{LONE, machine, start_holder};
use super::results::tried;

#[test]
fn i3_i8_a_frozen_container_stays_frozen_over_a_power_cut_and_comes_back_whole() {
    let _turn = machine();
    let _tried = tried("a power cut with a frozen container, `restore`", &[LONE]);
    let (holder, born) = start_holder(&LONE, "--restart always");
    LONE.sh("transship checkpoint holder");
    LONE.cut_and_boot();
    assert_eq!(LONE.sh("docker inspect -f '{{.State.Running}}' holder"), "false", "nothing has started it");
    LONE.sh("transship restore holder");
    assert_eq!(holder.born(7000), born);
    LONE.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' holder) = always ]");
    LONE.assert_nothing_is_left();
}

#[test]
fn i4_i8_a_frozen_container_outlives_a_shutdown_for_another_kernel_and_docker_start_brings_it_back() {
    let _turn = machine();
    let _tried = tried("a shutdown with a frozen container, another kernel, `docker start`", &[LONE]);
    let (holder, born) = start_holder(&LONE, "");
    LONE.sh("transship checkpoint holder");
    let kernel = LONE.sh("uname -r");
    run(&["halt", LONE.0]);
    run(&["boot", LONE.0, "--next-kernel"]);
    assert_ne!(LONE.sh("uname -r"), kernel);
    LONE.sh("docker start holder");
    assert_eq!(holder.born(7000), born);
    LONE.assert_nothing_is_left();
}
