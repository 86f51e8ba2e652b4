//! I4 and I8: what is damaged is named, and nothing is started.

use super::lab::{SID, hosts};

/// Freezes a container; the directory of its checkpoint.
fn frozen(name: &str) -> String {
    let answer = SID.sh(&format!("transship --json checkpoint {name} 2>/dev/null"));
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer");
    let directory =
        format!("/var/lib/transship/checkpoints/{}", answer["checkpoints"][0]["id"].as_str().expect("an id"));
    // Compression has to be done with the files before they are damaged.
    SID.sh(&format!("until [ ! -d {directory}/images ]; do sleep 0.1; done"));
    directory
}

/// Damages a checkpoint by a shell command in its directory, and puts it right again.
fn refused_with(damage: &str, word: &str) {
    let _turn = hosts();
    let container = SID.start("hurt", "programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let directory = frozen("hurt");
    SID.sh(&format!("rm -rf /root/whole; cp -a {directory} /root/whole && cd {directory} && {damage}"));
    let refused = SID.try_sh("transship restore hurt");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_ne!(refused.status.code(), Some(0), "{text}");
    assert!(text.contains(word), "{text}");
    assert_eq!(SID.sh("docker inspect -f '{{.State.Running}}' hurt"), "false");
    assert!(!SID.try_sh("docker start hurt").status.success(), "nor does docker start it afresh");
    SID.sh(&format!("cp -a /root/whole/. {directory}/ && rm -r /root/whole && transship restore hurt"));
    assert_eq!(container.born(7000), born);
}

#[test]
fn i4_a_flipped_bit_in_the_images_is_found() {
    refused_with("printf x | dd of=images.tar.zst bs=1 seek=5000 conv=notrunc 2>/dev/null", "damaged");
}

#[test]
fn i4_a_truncated_archive_is_found() {
    refused_with("truncate -s 4000 images.tar.zst", "damaged");
}

#[test]
fn i4_a_changed_manifest_is_found() {
    refused_with("sed -i s/holder/HOLDER/ manifest.json", "manifest");
}

/// Its port is taken: it cannot be restored, nor started afresh, as was allowed.
#[test]
fn i8_a_cold_start_that_comes_to_nothing_leaves_it_frozen() {
    let _turn = hosts();
    let container = SID.start("blocked", "-p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.sh("transship checkpoint blocked");
    let other = SID.start("other", "-p 7000:7000 programs", "/tools/holder 7000 8");
    assert_eq!(SID.try_sh("transship restore blocked --cold-start-on-failure").status.code(), Some(1));
    drop(other);
    SID.sh("docker start blocked");
    assert_eq!(container.born(7000), born);
}

#[test]
fn i5_who_is_started_afresh_as_was_allowed_has_its_restart_policy_back() {
    let _turn = hosts();
    let container = SID.start("renewed", "--restart always programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let directory = frozen("renewed");
    SID.sh(&format!("truncate -s 4000 {directory}/images.tar.zst"));
    SID.sh("transship restore renewed --cold-start-on-failure");
    assert_ne!(container.born(7000), born);
    SID.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' renewed) = always ]");
    SID.sh("transship rm renewed");
}

/// The others would stand still until the one that is away lets them go.
#[test]
fn i8_of_those_that_were_frozen_as_one_none_is_started_afresh() {
    let _turn = hosts();
    let owner = SID.start("owner", "programs", "/tools/holder 7000 8");
    let joiner = SID.start("joiner", "--network container:owner programs", "/tools/holder 7001 8");
    let born = (owner.born(7000), joiner.born(7001));
    SID.sh("transship checkpoint owner joiner");
    let refused = SID.try_sh("transship restore owner --cold-start-on-failure");
    assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(SID.sh("docker ps -q"), "");
    SID.sh("transship restore owner");
    assert_eq!((owner.born(7000), joiner.born(7001)), born);
}
