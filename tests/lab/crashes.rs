//! A fault at every step: the container runs, or one printed command brings it back, with its memory and its clients.

use super::clients::Watch;
use super::lab::{FAILPOINTS, SID, hosts};

#[test]
fn i1_i2_i5_every_fault_at_every_step_leaves_the_container_running_or_restorable() {
    let _turn = hosts();
    let container = SID.start("victim", "--restart always -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let checkpoint = SID.steps_of("checkpoint victim");
    let restore = SID.steps_of("restore victim");
    assert!(checkpoint.len() > 5 && restore.len() > 2, "{checkpoint:?} {restore:?}");
    SID.heed_failpoints();
    let rules = SID.sh("iptables-save | grep -c TRANSSHIP; true");
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    let operations = [("checkpoint", checkpoint), ("restore", restore)];
    for (operation, steps) in &operations {
        for step in steps {
            for (place, action) in [("before", "kill"), ("after", "kill"), ("before", "error"), ("after", "error")] {
                SID.sh(&format!("echo '{operation}/{step}/{place} {action}' > {FAILPOINTS}"));
                SID.try_sh("transship checkpoint victim && transship restore victim");
                SID.sh(&format!("[ ! -s {FAILPOINTS} ]"));
                // A helper that was killed is started again by its supervisor, and listens when all is brought to an end.
                SID.sh("until transship status; do :; done");
                let running = SID.sh("docker inspect -f '{{.State.Running}}' victim") == "true";
                if !running {
                    SID.sh("transship restore victim");
                }
                assert_eq!(container.born(7000), born, "{operation}/{step}/{place} {action}");
            }
        }
    }
    watch.end();
    SID.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' victim) = always ]");
    assert!(!SID.sh("transship status").contains("needs-person"), "what was restored needs nobody any more");
    assert_eq!(SID.sh("iptables-save | grep -c TRANSSHIP; true"), rules, "I5: no rule is left");
    assert_eq!(
        SID.sh("ls /var/lib/transship/claims /var/lib/transship/staging /run/transship/dump | grep -v : | wc -w"),
        "0"
    );
    SID.forget_failpoints();
}

/// CRIU has the container's sockets in repair mode by then, in which they answer their program with an error: its open
/// connections may be lost (docs/architecture.md). The container itself is not.
#[test]
fn i1_i5_a_criu_that_is_killed_in_mid_dump_leaves_the_container_running() {
    let _turn = hosts();
    let container = SID.start("shot", "--restart always -p 7000:7000 programs", "/tools/holder 7000 256");
    let born = container.born(7000);
    let rules = SID.sh("iptables-save | grep -c TRANSSHIP; true");
    // The first page image is there as soon as CRIU is at work on the memory.
    let kill = "(until p=$(ls /var/lib/transship/staging/*/images/pages-1.img 2>/dev/null); do :; done; \
                for c in /proc/[0-9]*/comm; do [ $(cat $c 2>/dev/null)x != criux ] || kill -9 $(echo $c | tr -dc 0-9); done) & ";
    let shot = SID.try_sh(&format!("{kill} transship checkpoint shot; code=$?; wait; exit $code"));
    assert_eq!(shot.status.code(), Some(1), "CRIU was killed, and what was done is undone");
    assert_eq!(SID.sh("docker inspect -f '{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}' shot"), "true always");
    assert_eq!(container.born(7000), born);
    assert_eq!(SID.sh("iptables-save | grep -c TRANSSHIP; true"), rules, "I5: no rule is left");
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    container.cycle();
    assert_eq!(container.born(7000), born);
    watch.end();
}
