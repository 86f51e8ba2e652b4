//! What becomes of frozen containers when the machine boots.

use super::machine::{MACHINE, machine};

#[test]
fn i3_i8_a_frozen_container_stays_frozen_over_a_power_cut_and_comes_back_whole() {
    let _turn = machine();
    let holder = MACHINE.start("holder", "--restart always -p 7000:7000 programs", "/tools/holder 7000 32");
    let born = holder.born(7000);
    MACHINE.sh("transship checkpoint holder");
    MACHINE.cut_and_boot();
    assert_eq!(MACHINE.sh("docker inspect -f '{{.State.Running}}' holder"), "false", "nothing has started it");
    MACHINE.sh("transship restore holder");
    assert_eq!(holder.born(7000), born);
    MACHINE.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' holder) = always ]");
    MACHINE.assert_nothing_is_left();
}

#[test]
fn a_frozen_container_outlives_an_orderly_shutdown_and_docker_start_brings_it_back() {
    let _turn = machine();
    let holder = MACHINE.start("holder", "-p 7000:7000 programs", "/tools/holder 7000 32");
    let born = holder.born(7000);
    MACHINE.sh("transship checkpoint holder");
    // The connection ends with the machine, so the command's own result says nothing.
    MACHINE.try_sh("systemctl poweroff");
    MACHINE.cut_and_boot();
    MACHINE.sh("docker start holder");
    assert_eq!(holder.born(7000), born);
    MACHINE.assert_nothing_is_left();
}
