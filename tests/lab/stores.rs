//! Backups, new containers from checkpoints, and checkpoints that travel as files.

use super::clients::Watch;
use super::lab::{SID, TRIXIE, hosts};

#[test]
fn a_backup_leaves_the_container_running_and_can_be_restored_beside_it() {
    let _turn = hosts();
    let migrated = "--label transship.migration=of-the-original";
    let original = SID.start("original", &format!("{migrated} -p 7000:7000 programs"), "/tools/tree 7000");
    let born = original.born(7000);
    SID.sh("docker exec original sh -c 'echo kept > /kept; rm /etc/issue'");
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    SID.sh("transship checkpoint --leave-running --name backup original");
    assert_eq!(original.born(7000), born);
    watch.end();
    SID.sh("docker exec original rm /kept && docker stop -t 1 original");
    SID.sh("transship restore backup --name copy");
    let copy = super::lab::Container { host: &SID, name: "copy" };
    assert_eq!(copy.born(7000), born, "the memory is the original's");
    assert_eq!(SID.sh("docker exec copy cat /kept"), "kept", "the files are those of the backup");
    assert!(!SID.try_sh("docker exec copy ls /etc/issue").status.success(), "what was deleted stays deleted");
    let labels = SID.sh("docker inspect -f '{{json .Config.Labels}}' copy");
    assert!(labels.contains("restored-from") && !labels.contains("migration"), "only the original has come: {labels}");
    SID.sh("transship rm backup");
}

#[test]
fn an_export_is_imported_and_restored_on_another_host() {
    let _turn = hosts();
    let original = SID.start("traveller", "programs", "/tools/holder 7000 16");
    let born = original.born(7000);
    SID.sh("docker exec traveller sh -c 'echo there > /luggage'");
    SID.sh("transship checkpoint --name trip traveller && rm -f /root/trip && transship export trip /root/trip");
    SID.sh("docker save programs -o /root/image");
    for file in ["/root/trip", "/root/image"] {
        let lab = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab");
        TRIXIE.sh("mkdir -p /root");
        let pipe = format!("{lab} exec sid cat {file} | {lab} exec trixie sh -c 'cat > {file}'");
        assert!(std::process::Command::new("sh").args(["-c", &pipe]).status().expect("sh").success());
    }
    TRIXIE.sh("docker load -q -i /root/image && transship import /root/trip && transship restore trip --name arrived");
    let arrived = super::lab::Container { host: &TRIXIE, name: "arrived" };
    assert_eq!(arrived.born(7000), born);
    assert_eq!(TRIXIE.sh("docker exec arrived cat /luggage"), "there");
    TRIXIE.sh("transship rm trip; rm /root/trip /root/image");
    SID.sh("transship rm --force trip; rm /root/trip /root/image");
}

#[test]
fn the_only_copy_of_a_frozen_container_is_not_deleted_by_the_way() {
    let _turn = hosts();
    let container = SID.start("precious", "programs", "/tools/holder 7000 8");
    container.check(7000);
    SID.sh("transship checkpoint precious");
    let id = SID.sh(
        "transship --json ls 2>/dev/null | sed 's/.*\"id\":\"\\([0-9a-f]*\\)\",\"image\".*frozen.*/\\1/' | head -1",
    );
    assert_eq!(SID.try_sh(&format!("transship rm {id}")).status.code(), Some(3));
    SID.sh("transship gc");
    SID.sh("transship restore precious");
}
