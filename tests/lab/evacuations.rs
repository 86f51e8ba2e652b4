//! A host that is emptied and gets back what has left it.

use super::clients::Watch;
use super::lab::{BOTH, Container, FAILPOINTS, Host, SID, TRIXIE, UPGRADED, paired_hosts, upgraded_host};
use super::migrations::{leftovers, whereabouts};

/// Two that share a network and a volume, and one by itself, with the ports of their programs.
const LEAVING: [(&str, u16); 3] = [("steady", 7000), ("beside", 7001), ("alone", 7002)];

fn start_all() -> Vec<String> {
    let pair = "--network front -p 7000:7000 -p 7001:7001 -v shared:/data";
    let options = [pair, "--network container:steady -v shared:/data", "--network front -p 7002:7002"];
    for ((name, port), options) in LEAVING.into_iter().zip(options) {
        SID.sh(&format!("docker run -d --name {name} {options} programs /tools/holder {port} 8"));
    }
    born(SID)
}

fn born(host: Host) -> Vec<String> {
    let ask = |(name, port): (&'static str, u16)| {
        let container = Container { host: &host, name };
        let born = container.born(port);
        std::mem::forget(container);
        born
    };
    LEAVING.map(ask).to_vec()
}

fn running(host: Host) -> String {
    host.sh("docker ps --format '{{.Names}}' | sort | xargs")
}

fn remove_all() {
    SID.sh("docker rm -f beside steady alone");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

#[test]
fn i1_i7_a_host_is_emptied_and_gets_back_exactly_what_has_left() {
    let _turn = paired_hosts();
    let before = start_all();
    let pinned = SID.start("pinned", "--network host programs", "/tools/holder 7005 1");
    let native = TRIXIE.start("native", "-p 7006:7006 programs", "/tools/holder 7006 1");
    let others = (pinned.born(7005), native.born(7006));
    let planned = SID.sh("transship evacuate --to trixie --dry-run");
    assert!(planned.contains("steady") && planned.contains("pinned stays") && planned.contains("network"), "{planned}");
    assert_eq!(running(SID), "alone beside pinned steady");
    let watches = LEAVING.map(|(_, port)| Watch::start(&format!("{}:{port}", SID.address())));
    SID.sh("transship evacuate --to trixie");
    assert_eq!((running(SID).as_str(), running(TRIXIE).as_str()), ("pinned", "alone beside native steady"));
    assert_eq!(born(TRIXIE), before);
    TRIXIE.sh("transship peer allow sid --return no");
    let refused = SID.try_sh("transship return");
    TRIXIE.sh("transship peer allow sid --return yes");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("peer allow"), "{refused:?}");
    SID.sh("transship return --from trixie");
    assert_eq!((running(SID).as_str(), running(TRIXIE).as_str()), ("alone beside pinned steady", "native"));
    assert_eq!(born(SID), before);
    assert_eq!((pinned.born(7005), native.born(7006)), others);
    assert_eq!(SID.try_sh("transship return").status.code(), Some(3), "nothing is away any more");
    watches.into_iter().for_each(Watch::end);
    remove_all();
}

/// Until nobody is at work on anything.
fn settled(host: Host) {
    host.sh("until transship status >/dev/null 2>&1; do sleep 0.1; done");
    host.comes_to_rest(180);
}

#[test]
fn i1_i3_an_evacuation_and_a_return_go_on_where_a_helper_was_killed_in_the_middle() {
    let _turn = paired_hosts();
    let before = start_all();
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    SID.sh(&format!("echo 'migrate/commit/after kill' > {FAILPOINTS}"));
    SID.try_sh("transship evacuate --to trixie");
    SID.sh(&format!("[ ! -s {FAILPOINTS} ]"));
    settled(SID);
    LEAVING.iter().for_each(|(name, _)| assert_eq!(whereabouts(name), TRIXIE, "{name}"));
    assert_eq!(born(TRIXIE), before);
    // Its source's helper dies, and has taken the migration back; it is asked once more.
    TRIXIE.sh(&format!("echo 'migrate/ship/before kill' > {FAILPOINTS}"));
    SID.try_sh("transship return");
    TRIXIE.sh(&format!("[ ! -s {FAILPOINTS} ]"));
    BOTH.into_iter().for_each(settled);
    LEAVING.iter().for_each(|(name, _)| assert_eq!(whereabouts(name), SID, "{name}"));
    assert_eq!(born(SID), before);
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    remove_all();
}

/// The number of an operation of this kind that is under way.
fn under_way(host: Host, kind: &str) -> String {
    host.sh(&format!("transship status | sed -n 's/^operation \\([0-9]*\\): {kind} .*/\\1/p'"))
}

/// Has it cancelled, and lets what stands at a failpoint go on once that was heard.
fn cancel(host: Host, kind: &str, heard_at: Host, heard: &str) -> String {
    heard_at.sh(": > /var/log/transshipd.log");
    let mut cancelling = host.begin(&format!("transship cancel {} > /root/cancelled 2>&1", under_way(host, kind)));
    heard_at.within_seconds(10, &format!("grep -q '{heard}' /var/log/transshipd.log"));
    heard_at.sh("touch /root/go");
    assert_eq!(cancelling.wait().expect("transship ends").code(), Some(0), "{}", host.sh("cat /root/cancelled"));
    host.sh("cat /root/cancelled")
}

/// A failpoint at which the helper stands until `/root/go` is there.
fn stands_before(step: &str) -> String {
    let mark = format!("/root/at-{}", step.replace('/', "-"));
    format!("{step}/before exec touch {mark}; until [ -e /root/go ]; do sleep 0.1; done")
}

#[test]
fn i1_i2_an_evacuation_and_a_return_that_are_cancelled_keep_what_has_moved_and_go_on_when_asked_again() {
    let _turn = paired_hosts();
    let before = start_all();
    let later = SID.start("later", "--network front -p 7003:7003 programs", "/tools/holder 7003 1");
    let last = later.born(7003);
    std::mem::forget(later);
    // Nothing has committed: sending takes minutes at this rate.
    let interrupted = SID.try_sh("timeout -s INT 5 transship evacuate --to trixie --rate 65536 2>&1");
    assert_eq!(interrupted.status.code(), Some(124), "{interrupted:?}");
    assert!(String::from_utf8_lossy(&interrupted.stdout).contains("nothing has moved"), "{interrupted:?}");
    assert_eq!(running(SID), "alone beside later steady");
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    // Of the two that are under way one has not committed, the other has; the third is not begun.
    let stands = [stands_before("migrate/ship"), stands_before("migrate/release")].join("\n");
    SID.sh(&format!("rm -f /root/go /root/at-*; cat > {FAILPOINTS} <<'END'\n{stands}\nEND"));
    let mut evacuating = SID.begin("transship evacuate --to trixie > /root/told 2>&1");
    SID.within_seconds(60, "[ -e /root/at-migrate-ship ] && [ -e /root/at-migrate-release ]");
    let told = cancel(SID, "evacuate", SID, "a person has cancelled it");
    assert!(told.contains("has moved") && told.contains("later"), "{told}");
    assert_eq!(evacuating.wait().expect("it ends").code(), Some(1), "{}", SID.sh("cat /root/told"));
    assert!(SID.sh("cat /root/told").contains("it was cancelled"), "{}", SID.sh("cat /root/told"));
    assert_eq!(whereabouts("later"), SID);
    let away = LEAVING.iter().filter(|(name, _)| whereabouts(name) == TRIXIE).count();
    assert!((1..LEAVING.len()).contains(&away), "{away}");
    SID.sh("transship evacuate --to trixie");
    assert_eq!((running(SID), running(TRIXIE)), (String::new(), "alone beside later steady".to_owned()));
    TRIXIE.sh(&format!("rm -f /root/go /root/at-*; echo '{}' > {FAILPOINTS}", stands_before("migrate/ship")));
    let mut returning = SID.begin("transship return > /root/told 2>&1");
    TRIXIE.within_seconds(60, "[ -e /root/at-migrate-ship ]");
    let told = cancel(SID, "return", TRIXIE, "what it wanted back is to stay here");
    assert_eq!(returning.wait().expect("it ends").code(), Some(1), "{}", SID.sh("cat /root/told"));
    assert!(told.contains("runs where it was"), "{told}");
    let back = LEAVING.iter().map(|(name, _)| whereabouts(name)).filter(|host| *host == SID).count();
    assert!(back < LEAVING.len() || whereabouts("later") == TRIXIE, "{back}");
    SID.sh("transship return");
    assert_eq!((running(SID), running(TRIXIE)), ("alone beside later steady".to_owned(), String::new()));
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    let later = Container { host: &SID, name: "later" };
    assert_eq!((born(SID), later.born(7003)), (before, last));
    drop(later);
    remove_all();
}

#[test]
fn i2_an_evacuation_that_was_cancelled_does_not_go_on_where_its_helper_dies_over_that() {
    let _turn = paired_hosts();
    let before = start_all();
    let later = SID.start("later", "--network front -p 7003:7003 programs", "/tools/holder 7003 1");
    SID.heed_failpoints();
    // Both that are under way stand still, and the third is not begun.
    let dies = format!("{}; kill -9 $PPID", stands_before("migrate/ship"));
    SID.sh(&format!(
        "rm -f /root/go /root/at-*; : > /var/log/transshipd.log; printf '%s\\n' '{dies}' '{dies}' > {FAILPOINTS}"
    ));
    let mut evacuating = SID.begin("transship evacuate --to trixie");
    SID.within_seconds(60, &format!("[ -e /root/at-migrate-ship ] && [ ! -s {FAILPOINTS} ]"));
    let mut cancelling = SID.begin(&format!("transship cancel {}", under_way(SID, "evacuate")));
    SID.within_seconds(10, "grep -q 'a person has cancelled it' /var/log/transshipd.log");
    SID.sh("touch /root/go");
    assert!(!evacuating.wait().expect("it ends").success() && !cancelling.wait().expect("it ends").success());
    settled(SID);
    assert_eq!((running(SID).as_str(), running(TRIXIE).as_str()), ("alone beside later steady", ""));
    let history: serde_json::Value = serde_json::from_str(&SID.sh("transship --json history")).expect("JSON");
    let operations = history["operations"].as_array().expect("a list").iter();
    let last = operations.filter(|operation| operation["kind"] == "evacuate").max_by_key(|one| one["id"].as_i64());
    let cancelled = &last.expect("an evacuation")["result"]["cancelled"];
    assert_eq!(cancelled["stays"].as_array().map(Vec::len), Some(4), "{history:#}");
    SID.forget_failpoints();
    later.check(7003);
    assert_eq!(born(SID), before);
    drop(later);
    remove_all();
}

/// The helper dies in each of the three parts.
#[test]
fn i1_i3_an_engine_is_upgraded_while_its_containers_are_on_a_peer_whatever_dies() {
    let _turn = paired_hosts();
    upgraded_host();
    UPGRADED.sh("docker network inspect front >/dev/null 2>&1 || docker network create --subnet 10.60.0.0/24 front");
    let container = UPGRADED.start("wanderer", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", UPGRADED.address()));
    UPGRADED.heed_failpoints();
    let faults = ["evacuate/leave/after kill", "upgrade/restart/before kill", "return/bring/before kill"].join("\n");
    UPGRADED.sh(&format!("printf '{faults}\n' > {FAILPOINTS}"));
    UPGRADED.try_sh("transship upgrade --to 28.5 --strategy evacuate --evacuate-to sid");
    settled(UPGRADED);
    UPGRADED.sh(&format!("[ ! -s {FAILPOINTS} ]"));
    UPGRADED.forget_failpoints();
    assert!(UPGRADED.sh("docker version --format '{{.Server.Version}}'").starts_with("28.5"));
    let history: serde_json::Value = serde_json::from_str(&UPGRADED.sh("transship --json history")).expect("JSON");
    let operations = history["operations"].as_array().expect("a list");
    let whole = operations.iter().find(|operation| operation["kind"] == "evacuated-upgrade").expect("the whole");
    let answer = &whole["result"];
    assert_eq!(answer["evacuated"][0]["containers"][0], "wanderer", "{history:#}");
    assert_eq!(answer["containers"].as_array().map(Vec::len), Some(0), "nobody was there: {answer:#}");
    assert_eq!(container.born(7000), born);
    watch.end();
    assert_eq!(running(SID), "");
    drop(container);
    UPGRADED.sh(&format!("docker network rm front; transship rollback {}", answer["operation"]));
}

/// Two that may be elsewhere while their host's engine is upgraded, and what they were born as.
struct Wanderers {
    containers: [Container<'static>; 2],
    born: [String; 2],
}

impl Wanderers {
    fn start() -> Self {
        upgraded_host();
        UPGRADED
            .sh("docker network inspect front >/dev/null 2>&1 || docker network create --subnet 10.60.0.0/24 front");
        let start = |name, port: u16| {
            let options = format!("--network front -p {port}:{port} programs");
            UPGRADED.start(name, &options, &format!("/tools/holder {port} 8"))
        };
        let containers = [start("wanderer", 7000), start("fellow", 7001)];
        let born = [containers[0].born(7000), containers[1].born(7001)];
        UPGRADED.heed_failpoints();
        Self { containers, born }
    }

    /// Begins to upgrade the engine around them, and returns when it stands at what the failpoints say.
    fn upgrade(failpoints: &[String], condition: &str) -> std::process::Child {
        UPGRADED.sh(&format!(
            ": > /var/log/transshipd.log; rm -f /root/go /root/at-*; cat > {FAILPOINTS} <<'END'\n{}\nEND",
            failpoints.join("\n")
        ));
        let upgrade = "transship upgrade --to 28.5 --strategy evacuate --evacuate-to sid > /root/told 2>&1";
        let upgrading = UPGRADED.begin(upgrade);
        UPGRADED.within_seconds(120, condition);
        upgrading
    }

    fn are_back(&self, when: &str) {
        assert_eq!([self.containers[0].born(7000), self.containers[1].born(7001)], self.born, "{when}");
        assert_eq!(running(SID), "", "{when}");
    }
}

fn engine_of(host: Host) -> String {
    host.sh("docker version --format '{{.Server.Version}}'")
}

#[test]
fn i1_i7_an_upgrade_around_an_evacuation_that_is_cancelled_brings_back_what_has_left_until_it_commits() {
    let _turn = paired_hosts();
    let wanderers = Wanderers::start();
    // One has left by then, and the other has not committed; then both have, and the packages are fetched.
    let one_left = "[ -e /root/at-migrate-ship ] && [ \"$(docker ps -q | wc -l)\" = 1 ]";
    for (step, stands) in [("migrate/ship", one_left), ("upgrade/install", "[ -e /root/at-upgrade-install ]")] {
        let mut upgrading = Wanderers::upgrade(&[stands_before(step)], stands);
        cancel(UPGRADED, "evacuated-upgrade", UPGRADED, "a person has cancelled it");
        let told = || UPGRADED.sh("cat /root/told");
        assert_eq!(upgrading.wait().expect("it ends").code(), Some(1), "{step}: {}", told());
        assert!(told().contains("it was cancelled"), "{step}: {}", told());
        wanderers.are_back(step);
        assert!(engine_of(UPGRADED).starts_with("26.1"), "{step}");
    }
    let interrupted = UPGRADED.try_sh(
        "echo 'migrate/ship/before exec kill -INT $(pidof transship); until [ -e /root/go ]; do sleep 0.1; done' > /root/failpoints; \
         rm /root/go; : > /var/log/transshipd.log; \
         (until grep -q 'a person has cancelled it' /var/log/transshipd.log; do sleep 0.1; done; touch /root/go) & \
         transship upgrade --to 28.5 --strategy evacuate --evacuate-to sid 2>&1",
    );
    assert_eq!(interrupted.status.code(), Some(1), "{interrupted:?}");
    wanderers.are_back("interrupted");

    let mut upgrading = Wanderers::upgrade(&[stands_before("upgrade/verify")], "[ -e /root/at-upgrade-verify ]");
    let refused = UPGRADED.try_sh(&format!("transship cancel {}", under_way(UPGRADED, "evacuated-upgrade")));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has committed"), "{refused:?}");
    UPGRADED.sh("touch /root/go");
    assert_eq!(upgrading.wait().expect("it ends").code(), Some(0), "{}", UPGRADED.sh("cat /root/told"));
    wanderers.are_back("upgraded");
    assert!(engine_of(UPGRADED).starts_with("28.5"));
    UPGRADED.forget_failpoints();
    drop(wanderers);
    UPGRADED.down();
}

#[test]
fn i1_i2_an_upgrade_around_an_evacuation_that_was_cancelled_goes_back_where_its_helper_dies_over_that() {
    let _turn = paired_hosts();
    let wanderers = Wanderers::start();
    let dies = format!("{}; kill -9 $PPID", stands_before("migrate/ship"));
    let mut upgrading =
        Wanderers::upgrade(&[dies], "[ -e /root/at-migrate-ship ] && [ \"$(docker ps -q | wc -l)\" = 1 ]");
    let mut cancelling = UPGRADED.begin(&format!("transship cancel {}", under_way(UPGRADED, "evacuated-upgrade")));
    UPGRADED.within_seconds(10, "grep -q 'a person has cancelled it' /var/log/transshipd.log");
    UPGRADED.sh("touch /root/go");
    assert!(!upgrading.wait().expect("it ends").success() && !cancelling.wait().expect("it ends").success());
    settled(UPGRADED);
    wanderers.are_back("the helper had died");
    assert!(engine_of(UPGRADED).starts_with("26.1"));
    let history: serde_json::Value = serde_json::from_str(&UPGRADED.sh("transship --json history")).expect("JSON");
    let operations = history["operations"].as_array().expect("a list");
    let whole = operations.iter().find(|operation| operation["kind"] == "evacuated-upgrade").expect("the whole");
    assert_eq!(whole["phase"], "undone", "{history:#}");
    UPGRADED.forget_failpoints();
}
