//! The package: installed, removed and purged.

use super::clients::Watch;
use super::host::run;
use super::machines::{TRIXIE, machine, start_holder};
use super::results::tried;

/// Files of the host outside of what changes by itself, and units that are enabled.
fn traces() -> String {
    TRIXIE.sh("find / -xdev -iname '*transship*' -not -path '/var/lib/docker/*' -not -path '/root/*' \
         -not -path '/var/log/journal/*' | sort; getent group transship; getent passwd transship-port; iptables-save | grep -i transship; \
         dpkg -l | grep transship; systemctl list-unit-files --no-legend | grep transship; true")
}

#[test]
fn i7_what_the_package_brought_is_gone_after_a_purge_and_containers_go_on() {
    let _turn = machine();
    let _tried = tried("the package: purged and installed again beside a running container", &[TRIXIE]);
    let (other, born) = start_holder("");
    TRIXIE.sh("apt-get purge -y transship");
    assert_eq!(traces(), "");
    assert_eq!(other.born(7000), born, "the container has not noticed");
    TRIXIE.sh("docker run --rm programs true");
    run(&["up", "trixie"]);
    TRIXIE.sh("zcat /usr/share/man/man1/transship-upgrade.1.gz | grep -q 'may.*stop' && zcat /usr/share/man/man8/transshipd.8.gz >/dev/null");
    TRIXIE.sh("bash -c '. /usr/share/bash-completion/completions/transship && complete -p transship'");
    assert_eq!(other.born(7000), born, "nor has it noticed the installation");
    other.cycle();
    assert_eq!(other.born(7000), born);
    TRIXIE.assert_nothing_is_left();
}

#[test]
fn a_package_is_not_removed_while_containers_are_frozen() {
    let _turn = machine();
    let _tried = tried("the package: not removed while containers are frozen", &[TRIXIE]);
    let (frozen, born) = start_holder("");
    TRIXIE.sh("transship checkpoint holder");
    let refused = TRIXIE.try_sh("apt-get remove -y transship");
    assert!(!refused.status.success());
    TRIXIE.sh("transship restore holder");
    assert_eq!(frozen.born(7000), born);
    TRIXIE.sh("dpkg --configure -a");
    TRIXIE.assert_nothing_is_left();
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
    let _tried = tried("the package: a newer one installed while containers run and one is frozen", &[TRIXIE]);
    TRIXIE.sh(LATER);
    let runs = TRIXIE.start("runs", "-p 7000:7000 programs", "/tools/holder 7000 16");
    let frozen = TRIXIE.start("frozen", "--restart always -p 7001:7001 programs", "/tools/holder 7001 16");
    let born = (runs.born(7000), frozen.born(7001));
    let watches = [7000, 7001].map(|port| Watch::start(&format!("{}:{port}", TRIXIE.address())));
    TRIXIE.sh("transship checkpoint frozen");
    let helper = "systemctl show -p MainPID --value transshipd";
    let before = TRIXIE.sh(helper);
    TRIXIE.sh("dpkg -i /root/later.deb");
    assert!(TRIXIE.sh("dpkg-query -W -f '${Version}' transship").ends_with("+later"));
    assert_ne!(TRIXIE.sh(helper), before, "it is the new one that runs");
    assert_eq!(TRIXIE.sh("docker inspect -f '{{.State.Running}}' frozen"), "false", "nothing has started it");
    TRIXIE.sh("transship restore frozen");
    runs.cycle();
    assert_eq!((runs.born(7000), frozen.born(7001)), born);
    watches.into_iter().for_each(Watch::end);
    TRIXIE.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' frozen) = always ]");
    TRIXIE.assert_nothing_is_left();
}
