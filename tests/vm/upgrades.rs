//! The engine's packages change under running containers, with systemd and a socket that starts Docker.

use super::clients::Watch;
use super::host::FAILPOINTS;
use super::machines::{LONE, few_clients, machine, older_machine, start_holder, unhurried_clients};
use super::results::tried;

const OLDEST: &str = "20.10.24";
const OLD: &str = "26.1.5";
const NEW: &str = "28.5.2";

/// Two containers, one of them in a network of its own, go through the upgrade and back under clients.
fn goes_there_and_back(old: &str, new: &str) {
    let tree = LONE.start("tree", "--restart always -p 7000:7000 programs", "/tools/tree 7000");
    LONE.sh("docker network create --subnet 172.31.0.0/24 shop");
    let shop =
        LONE.start("shop", "--restart unless-stopped --network shop -p 7001:7001 programs", "/tools/holder 7001 32");
    let born = (tree.born(7000), shop.born(7001));
    assert!(LONE.engine().starts_with(old));
    let watches = [7000, 7001].map(|port| unhurried_clients(LONE, port));
    let mut listener = LONE.begin("exec docker events");
    LONE.sh(&format!("transship upgrade --to {new}"));
    assert!(LONE.engine().starts_with(new), "it is the server that counts: {}", LONE.engine());
    listener.wait().expect("a client that dockerd has left");
    // So dockerd says that it has waited 5 s in vain for a client.
    let waited = LONE.sh("journalctl --unit docker | grep 'Error shutting down http server' || :");
    assert_eq!(waited, "", "dockerd has waited for a client while containers were away");
    assert_eq!((tree.born(7000), shop.born(7001)), born);
    LONE.assert_nothing_is_left();

    let last = LONE.sh("transship --json history | grep -o '\"id\":[0-9]*' | head -n 1 | cut -d : -f 2");
    LONE.sh(&format!("transship rollback {last}"));
    assert!(LONE.engine().starts_with(old));
    assert_eq!((tree.born(7000), shop.born(7001)), born);
    watches.into_iter().for_each(Watch::end);
    LONE.assert_nothing_is_left();
}

#[test]
fn i1_i2_nobody_notices_an_upgrade_nor_the_way_back() {
    let _turn = machine();
    let _tried = tried("`upgrade` to Docker 28.5 under clients, and `rollback`", &[LONE]);
    goes_there_and_back(OLD, NEW);
}

#[test]
fn i1_i2_nobody_notices_an_upgrade_of_the_oldest_engine_nor_the_way_back() {
    let _turn = older_machine();
    let _tried = tried("freeze and restore, `upgrade` to Docker 26.1 under clients, and `rollback`", &[LONE]);
    let holder = LONE.start("holder", "-p 7002:7002 programs", "/tools/holder 7002 16");
    let born = holder.born(7002);
    holder.cycle();
    assert_eq!(holder.born(7002), born);
    goes_there_and_back(OLDEST, OLD);
    assert_eq!(holder.born(7002), born);
}

/// The new engine's package stops in the middle of its configuration.
const BREAK: &str = "set -e; cd /srv/packages; list=dists/sid/main/binary-amd64/Packages; \
    package=$(sed -n 's/^Filename: \\(.*docker[.]io_.*\\)/\\1/p' $list); \
    dpkg-deb -R $package /root/broken; sed -i '1a [ \"$1\" != configure ] || exit 7' /root/broken/DEBIAN/postinst; \
    dpkg-deb -Znone -b /root/broken $package >&2; rm -r /root/broken; \
    sum=$(sha256sum $package | cut -d ' ' -f 1); size=$(stat -c %s $package); \
    sed -i \"/^Package: docker[.]io$/,/^$/ { s/^Size:.*/Size: $size/; s/^SHA256:.*/SHA256: $sum/; /^MD5sum:/d }\" $list; \
    sum=$(sha256sum $list | cut -d ' ' -f 1); size=$(stat -c %s $list); \
    sed -i \"s/^ [0-9a-f]* [0-9]* main/ $sum $size main/\" dists/sid/Release; \
    apt-get update >&2";

#[test]
fn i2_i5_a_package_that_cannot_be_configured_takes_the_upgrade_back_and_nobody_notices() {
    let _turn = machine();
    let _tried = tried("`upgrade` to a package that fails to configure is taken back under clients", &[LONE]);
    LONE.sh(BREAK);
    let (holder, born) = start_holder(&LONE, "--restart always");
    let watch = unhurried_clients(LONE, 7000);
    let failed = LONE.try_sh(&format!("transship upgrade --to {NEW}"));
    let told = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "failed and undone: {told}");
    assert!(told.contains("the new packages cannot be installed"), "{told}");
    assert!(LONE.engine().starts_with(OLD) && LONE.sh("docker --version").contains(OLD));
    assert_eq!(holder.born(7000), born);
    watch.end();
    LONE.assert_nothing_is_left();
}

/// dockerd does not start; and its unit is not given another chance for an hour, which on quick machines is as good as a minute.
const NO_ENGINE: &str = "mkdir -p /etc/systemd/system/docker.service.d; \
    printf '[Unit]\\nStartLimitIntervalSec=1h\\n' > /etc/systemd/system/docker.service.d/limit.conf; systemctl daemon-reload; \
    printf 'rm /usr/sbin/dockerd; ln -s /bin/false /usr/sbin/dockerd\\n' > /root/fault";

#[test]
fn i2_i5_an_engine_whose_unit_fails_takes_the_upgrade_back_and_nobody_notices() {
    let _turn = machine();
    let _tried = tried("`upgrade` to an engine whose unit fails is taken back under clients", &[LONE]);
    LONE.sh(NO_ENGINE);
    let (holder, born) = start_holder(&LONE, "--restart always");
    LONE.heed_failpoints();
    LONE.sh(&format!("echo 'upgrade/install/after exec . /root/fault' > {FAILPOINTS}"));
    let watch = few_clients(LONE);
    let failed = LONE.try_sh(&format!("transship upgrade --to {NEW}"));
    let told = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "failed and undone: {told}");
    assert!(told.contains("dockerd does not come up"), "{told}");
    assert!(LONE.engine().starts_with(OLD) && LONE.sh("docker --version").contains(OLD));
    assert_eq!(holder.born(7000), born);
    watch.end();
    LONE.assert_nothing_is_left();
}
