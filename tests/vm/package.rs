//! The package: installed, removed and purged.

use super::host::run;
use super::machines::{TRIXIE, machine};
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
    let other = TRIXIE.start("other", "-p 7000:7000 programs", "/tools/holder 7000 16");
    let born = other.born(7000);
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
    let frozen = TRIXIE.start("frozen", "-p 7000:7000 programs", "/tools/holder 7000 16");
    let born = frozen.born(7000);
    TRIXIE.sh("transship checkpoint frozen");
    let refused = TRIXIE.try_sh("apt-get remove -y transship");
    assert!(!refused.status.success());
    TRIXIE.sh("transship restore frozen");
    assert_eq!(frozen.born(7000), born);
    TRIXIE.sh("dpkg --configure -a");
    TRIXIE.assert_nothing_is_left();
}
