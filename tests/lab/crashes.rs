//! A fault at every step: the container runs, or one printed command brings it back, with its memory and its clients.

use super::clients::Watch;
use super::lab::{Container, FAILPOINTS, Host, SID, hosts};

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
                SID.sh("until transship status; do sleep 0.1; done");
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
    // What was restored needs nobody any more.
    SID.within_seconds(10, "! transship status | grep -q needs-person");
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

impl Host {
    /// How the newest operation has ended, and what it answered.
    fn last_end(&self) -> (String, serde_json::Value) {
        let history: serde_json::Value = serde_json::from_str(
            &self.sh("until told=$(transship --json history --limit 1); do sleep 0.1; done; echo \"$told\""),
        )
        .expect("JSON");
        let last = &history["operations"][0];
        (last["phase"].as_str().expect("a phase").to_owned(), last["result"].clone())
    }

    /// One operation fails at this place, once.
    fn fail_at(&self, place: &str, action: &str) {
        self.sh(&format!("cat > {FAILPOINTS} <<'END'\n{place} {action}\nEND"));
    }

    fn runs(&self, name: &str) -> bool {
        self.sh(&format!("docker inspect -f '{{{{.State.Running}}}}' {name} 2>/dev/null; true")) == "true"
    }

    fn assert_no_claim_is_left(&self) {
        self.within_seconds(10, "[ -z \"$(ls /var/lib/transship/claims)\" ]");
    }
}

/// What a dead helper had let go runs; what it had not is as it was. The journal says which.
#[test]
fn i5_i8_a_restore_that_is_cut_short_is_told_as_what_became_of_it() {
    let _turn = hosts();
    let original = SID.start("original", "--restart always programs", "/tools/holder 7000 8");
    let born = original.born(7000);
    SID.sh("transship checkpoint --leave-running --name backup original");
    SID.heed_failpoints();

    // Beside it.
    let copy = std::mem::ManuallyDrop::new(Container { host: &SID, name: "copy" });
    for step in ["verify", "create", "claim", "start"] {
        for (place, action) in [("before", "kill"), ("after", "kill"), ("before", "error"), ("after", "error")] {
            let when = format!("restore/{step}/{place} {action}");
            SID.fail_at(&format!("restore/{step}/{place}"), action);
            let restored = SID.try_sh("transship restore backup --name copy");
            let (phase, _) = SID.last_end();
            let is_past_its_commit = (step, place) == ("start", "after");
            assert_eq!(SID.runs("copy"), is_past_its_commit, "{when}");
            if is_past_its_commit {
                assert_eq!(copy.born(7000), born, "{when}");
                SID.within_seconds(10, "! transship status | grep -q ^operation");
                assert_eq!(SID.last_end().0, "done", "{when}");
            } else {
                assert_eq!((phase.as_str(), restored.status.success()), ("undone", false), "{when}");
                assert!(!SID.try_sh("docker inspect copy").status.success(), "I5: {when}");
            }
            SID.assert_no_claim_is_left();
            SID.try_sh("docker rm -f copy");
        }
    }

    // In place, of a backup: whoever starts it afterwards wants it afresh.
    SID.sh("docker stop -t 1 original");
    for (step, place) in [("verify", "after"), ("claim", "after"), ("start", "before")] {
        SID.fail_at(&format!("restore/{step}/{place}"), "kill");
        assert!(!SID.try_sh("transship restore backup").status.success());
        assert_eq!(SID.last_end().0, "undone", "{step}/{place}");
        SID.assert_no_claim_is_left();
    }
    SID.fail_at("restore/start/after", "kill");
    SID.try_sh("transship restore backup");
    assert_eq!(SID.last_end().0, "done");
    assert_eq!(original.born(7000), born);
    SID.sh("transship rm backup");
    SID.forget_failpoints();
}

/// It may have run, so that its files and its clients are ahead of its checkpoint: which of the two is wanted, a person says.
#[test]
fn i8_what_was_let_go_and_went_down_with_its_host_is_left_to_a_person() {
    let _turn = hosts();
    let container = SID.start("victim", "programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.sh("transship checkpoint victim");
    SID.heed_failpoints();
    SID.fail_at("restore/start/after", "exec touch /root/let-go; sleep infinity");
    let mut restore = SID.begin("transship restore victim");
    SID.within_seconds(20, "[ -e /root/let-go ]");
    SID.reboot();
    restore.wait().expect("it ends");
    let (phase, result) = SID.last_end();
    assert_eq!(phase, "needs-person", "{result}");
    let remedy = result["failure"]["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("transship restore") && remedy.contains("docker start victim"), "{remedy}");
    assert!(!SID.runs("victim"), "I8: it is not started afresh");
    SID.sh("transship restore victim");
    assert_eq!(container.born(7000), born);
    SID.within_seconds(10, "! transship status | grep -q ^operation");
    SID.sh("rm /root/let-go");
    SID.forget_failpoints();
}

/// It has run, and what it did is nowhere else.
#[test]
fn i8_a_new_container_that_was_let_go_and_has_ended_is_not_removed() {
    let _turn = hosts();
    let original = SID.start("original", "programs", "/tools/holder 7000 8");
    SID.sh("transship checkpoint --leave-running --name backup original");
    SID.heed_failpoints();
    SID.fail_at("restore/start/after", "error docker kill copy");
    assert_eq!(SID.try_sh("transship restore backup --name copy").status.code(), Some(4));
    let copy = Container { host: &SID, name: "copy" };
    SID.assert_no_claim_is_left();
    let resume = "transship resume $(transship status | sed -n 's/^operation \\([0-9]*\\).*/\\1/p')";
    assert_eq!(SID.try_sh(resume).status.code(), Some(4));
    assert!(SID.try_sh("docker inspect copy").status.success());
    drop(copy);
    SID.sh(resume);
    assert_eq!(SID.last_end().0, "done");
    SID.sh("transship rm backup");
    SID.forget_failpoints();
    drop(original);
}

/// Whoever has it running meanwhile has nothing restored into it, and nothing ended.
#[test]
fn i8_what_somebody_starts_while_its_checkpoint_is_verified_goes_on() {
    let _turn = hosts();
    let container = SID.start("hasty", "programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.sh("transship checkpoint hasty");
    SID.heed_failpoints();
    SID.fail_at("restore/claim/before", "exec docker start hasty");
    let refused = SID.try_sh("transship restore hasty");
    assert!(!refused.status.success());
    assert_eq!(container.born(7000), born, "{}", String::from_utf8_lossy(&refused.stderr));
    SID.assert_no_claim_is_left();
    SID.forget_failpoints();
}

/// The helper is dead, and nobody else has frozen it.
#[test]
fn i7_what_an_operator_has_paused_meanwhile_stays_so_when_a_freeze_is_undone() {
    let _turn = hosts();
    let container = SID.start("paused", "programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.heed_failpoints();
    SID.fail_at("checkpoint/hold/after", "exec docker pause paused; kill -9 $PPID");
    assert!(!SID.try_sh("transship checkpoint paused").status.success());
    assert_eq!(SID.last_end().0, "undone");
    let frozen = SID.sh(
        "pid=$(docker inspect -f '{{.State.Pid}}' paused); group=$(sed -n 's/.*:freezer://p;s/^0:://p' /proc/$pid/cgroup | head -n 1); \
         cat /sys/fs/cgroup/freezer$group/freezer.state /sys/fs/cgroup$group/cgroup.freeze 2>/dev/null | head -n 1",
    );
    assert!(matches!(frozen.as_str(), "FROZEN" | "1"), "{frozen}");
    SID.sh("docker unpause paused");
    assert_eq!(container.born(7000), born);
    SID.forget_failpoints();
}
