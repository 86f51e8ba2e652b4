//! The package: installed, removed and purged.

use super::clients::Watch;
use super::host::run;
use super::machines::{LONE, machine, start_holder, unhurried_clients};
use super::results::tried;

/// Files of the host outside of what changes by itself, and units that are enabled.
fn traces() -> String {
    LONE.sh("find / -xdev -iname '*transship*' -not -path '/var/lib/docker/*' -not -path '/root/*' \
         -not -path '/var/log/journal/*' | sort; getent group transship; getent passwd transship-port; iptables-save | grep -i transship; \
         dpkg -l | grep transship; systemctl list-unit-files --no-legend | grep transship; true")
}

#[test]
fn i7_what_the_package_brought_is_gone_after_a_purge_and_containers_go_on() {
    let _turn = machine();
    let _tried = tried("the package: purged and installed again beside a running container", &[LONE]);
    let (other, born) = start_holder(&LONE, "");
    LONE.sh("apt-get purge -y transship");
    assert_eq!(traces(), "");
    assert_eq!(other.born(7000), born, "the container has not noticed");
    LONE.sh("docker run --rm programs true");
    run(&["up", LONE.0]);
    LONE.sh("zcat /usr/share/man/man1/transship-upgrade.1.gz | grep -q 'may.*stop' && zcat /usr/share/man/man8/transshipd.8.gz >/dev/null");
    LONE.sh("bash -c '. /usr/share/bash-completion/completions/transship && complete -p transship'");
    assert_eq!(other.born(7000), born, "nor has it noticed the installation");
    other.cycle();
    assert_eq!(other.born(7000), born);
    LONE.assert_nothing_is_left();
}

#[test]
fn a_package_is_not_removed_while_containers_are_frozen() {
    let _turn = machine();
    let _tried = tried("the package: not removed while containers are frozen", &[LONE]);
    let (frozen, born) = start_holder(&LONE, "");
    LONE.sh("transship checkpoint holder");
    let refused = LONE.try_sh("apt-get remove -y transship");
    assert!(!refused.status.success());
    LONE.sh("transship restore holder");
    assert_eq!(frozen.born(7000), born);
    LONE.sh("dpkg --configure -a");
    LONE.assert_nothing_is_left();
}

/// The package that is installed, as a later version of itself, with the maintainer's scripts that it has.
const LATER: &str = "set -e; mkdir -p /root/later/DEBIAN; cd /root/later; \
    dpkg-query -L transship | while read -r path; do [ -d \"$path\" ] || cp -a --parents \"$path\" .; done; \
    for script in postinst prerm postrm; do cp -a /var/lib/dpkg/info/transship.$script DEBIAN/$script; done; \
    dpkg-query -s transship | sed '/^Status:/d; s/^Version: .*/&+later/' > DEBIAN/control; \
    dpkg-deb --root-owner-group -Znone -b . /root/later.deb >&2";

#[test]
fn i1_i3_i7_a_newer_helper_takes_over_what_runs_and_what_is_frozen() {
    let _turn = machine();
    let _tried = tried("the package: a newer one installed while containers run and one is frozen", &[LONE]);
    LONE.sh(LATER);
    let runs = LONE.start("runs", "-p 7000:7000 programs", "/tools/holder 7000 16");
    let frozen = LONE.start("frozen", "--restart always -p 7001:7001 programs", "/tools/holder 7001 16");
    let born = (runs.born(7000), frozen.born(7001));
    let watches = [7000, 7001].map(|port| unhurried_clients(LONE, port));
    LONE.sh("transship checkpoint frozen");
    let helper = "systemctl show -p MainPID --value transshipd";
    let before = LONE.sh(helper);
    LONE.sh("dpkg -i /root/later.deb");
    assert!(LONE.sh("dpkg-query -W -f '${Version}' transship").ends_with("+later"));
    assert_ne!(LONE.sh(helper), before, "it is the new one that runs");
    assert_eq!(LONE.sh("docker inspect -f '{{.State.Running}}' frozen"), "false", "nothing has started it");
    LONE.sh("transship restore frozen");
    runs.cycle();
    assert_eq!((runs.born(7000), frozen.born(7001)), born);
    watches.into_iter().for_each(Watch::end);
    LONE.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' frozen) = always ]");
    LONE.assert_nothing_is_left();
}
