//! The engine's packages change under running containers, with systemd and a socket that starts Docker.

use super::clients::Watch;
use super::machines::{TRIXIE, machine};
use super::results::tried;

const OLD: &str = "26.1.5";
const NEW: &str = "28.5.2";

#[test]
fn i1_i2_nobody_notices_an_upgrade_nor_the_way_back() {
    let _turn = machine();
    let _tried = tried("`upgrade` to Docker 28.5 under clients, and `rollback`", &[TRIXIE]);
    let tree = TRIXIE.start("tree", "--restart always -p 7000:7000 programs", "/tools/tree 7000");
    TRIXIE.sh("docker network inspect shop >/dev/null 2>&1 || docker network create --subnet 172.31.0.0/24 shop");
    let shop =
        TRIXIE.start("shop", "--restart unless-stopped --network shop -p 7001:7001 programs", "/tools/holder 7001 32");
    let born = (tree.born(7000), shop.born(7001));
    assert!(TRIXIE.engine().starts_with(OLD));
    let watches = [7000, 7001].map(|port| Watch::start(&format!("{}:{port}", TRIXIE.address())));
    TRIXIE.sh(&format!("transship upgrade --to {NEW}"));
    assert!(TRIXIE.engine().starts_with(NEW), "it is the server that counts: {}", TRIXIE.engine());
    assert_eq!((tree.born(7000), shop.born(7001)), born);
    TRIXIE.assert_nothing_is_left();

    let last = TRIXIE.sh("transship --json history | grep -o '\"id\":[0-9]*' | head -n 1 | cut -d : -f 2");
    TRIXIE.sh(&format!("transship rollback {last}"));
    assert!(TRIXIE.engine().starts_with(OLD));
    assert_eq!((tree.born(7000), shop.born(7001)), born);
    watches.into_iter().for_each(Watch::end);
    TRIXIE.assert_nothing_is_left();
}
