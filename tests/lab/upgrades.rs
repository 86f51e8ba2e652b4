//! The engine's packages change under running containers, forth and back, and with everything that can go wrong.

use super::clients::{Load, Watch};
use super::lab::{Container, FAILPOINTS, Host, UPGRADED, hosts, upgraded_host};

const OLD: &str = "26.1.5";
pub const NEW: &str = "28.5.2";

fn engine() -> String {
    UPGRADED.sh("docker version --format '{{.Server.Version}}'")
}

/// Nothing of an upgrade is left, whichever way it ended (I5).
pub fn assert_nothing_is_left(host: Host, when: &str) {
    println!("{when}: nothing may be left");
    let seconds = 10 * crate::slowness();
    host.sh(&format!(
        "timeout {seconds} sh -c 'while left=$(iptables-save | grep TRANSSHIP); do echo \"$left\" > /root/left; done' \\
         || {{ cat /root/left; transship status; tail -n 60 /var/log/transshipd.log; exit 1; }} >&2"
    ));
    // Checkpoints are compressed there for a while, after all is over.
    host.within_seconds(60, "! ls -d /var/lib/transship/staging/* 2>/dev/null");
    for gone in ["/usr/sbin/policy-rc.d", "/var/lib/transship/claims/*"] {
        assert!(!host.try_sh(&format!("ls -d {gone}")).status.success(), "{gone} is left");
    }
    assert_eq!(host.sh("docker ps -aq --filter label=transship.placeholder | wc -l"), "0");
    assert_eq!(host.sh("dpkg --audit"), "", "no package is half way");
}

struct Fleet {
    containers: Vec<(Container<'static>, u16)>,
    born: Vec<String>,
}

impl Fleet {
    /// A few of our own programs, on the default bridge and behind published ports.
    fn start(count: u16) -> Self {
        let names = ["one", "two", "three", "four"];
        let start = |(index, name): (u16, &'static str)| {
            let options = format!("--restart always -p {0}:{0} programs", 7000 + index);
            (UPGRADED.start(name, &options, &format!("/tools/holder {} 8", 7000 + index)), 7000 + index)
        };
        let containers: Vec<_> = (0..count).zip(names).map(start).collect();
        let born = containers.iter().map(|(container, port)| container.born(*port)).collect();
        Self { containers, born }
    }

    fn watches(&self) -> Vec<Watch> {
        let address = UPGRADED.address();
        self.containers.iter().map(|(_, port)| Watch::start(&format!("{address}:{port}"))).collect()
    }

    fn assert_same(&self, when: &str) {
        for ((container, port), born) in self.containers.iter().zip(&self.born) {
            assert_eq!(&container.born(*port), born, "{when}");
            let policy = format!(
                "[ $(docker inspect -f '{{{{.HostConfig.RestartPolicy.Name}}}}' {}) = always ]",
                container.name
            );
            UPGRADED.within_seconds(10, &policy);
        }
    }
}

#[test]
fn i1_i2_i6_nobody_notices_an_upgrade_nor_the_way_back() {
    let _turn = hosts();
    upgraded_host();
    let web = UPGRADED.start("web", "-p 8080:80 nginx", "nginx -g 'daemon off;'");
    let db = UPGRADED.start("db", "-p 6379:6379 redis", "redis-server --protected-mode no --bind 0.0.0.0 --save ''");
    UPGRADED.sh("docker network create --subnet 172.31.0.0/24 shop");
    let shop = UPGRADED.start("shop", "--network shop programs", "/tools/holder 7009 8");
    UPGRADED.sh("until docker exec db redis-cli ping && docker exec web test -s /run/nginx.pid; do sleep 0.1; done");
    let fleet = Fleet::start(3);
    let born = shop.born(7009);
    assert!(engine().starts_with(OLD));
    let planned = UPGRADED.sh(&format!("transship upgrade --to {NEW} --dry-run"));
    assert!(planned.contains("nothing was touched") && planned.contains("docker.io"), "{planned}");

    let address = UPGRADED.address();
    let url = format!("http://{address}:8080/");
    let kept = Load::ab("-k -n 20000 -c 10", &url);
    let new = Load::ab("-n 5000 -c 5", &url);
    let redis = Load::redis(&address, "-c 10 -n 200000");
    let watches = fleet.watches();
    let mut listener = UPGRADED.begin("exec docker events");
    let began = UPGRADED.sh("until docker ps -q >/dev/null; do sleep 0.1; done; wc -c < /var/log/docker.log");
    let answer = UPGRADED.sh(&format!("transship --json upgrade --to {NEW} 2>/dev/null"));
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer");
    assert!(engine().starts_with(NEW));
    listener.wait().expect("a client that dockerd has left");
    // So dockerd says that it has waited 5 s in vain for a client: for the listener, or for a connection of ours.
    let waited =
        UPGRADED.sh(&format!("tail -c +{began} /var/log/docker.log | grep 'Error shutting down http server' || :"));
    assert_eq!(waited, "", "dockerd has waited for clients while containers were away");
    fleet.assert_same("after the upgrade");
    assert_nothing_is_left(UPGRADED, "after the upgrade");
    let report = UPGRADED.sh(&format!("transship report {}", answer["operation"]));
    assert!(report.contains("nothing was lost"), "{report}");

    // The old packages are on disk: who offered them may have moved on.
    UPGRADED.sh(&format!(
        "mv /srv/packages /srv/away; transship rollback {}; code=$?; mv /srv/away /srv/packages; exit $code",
        answer["operation"]
    ));
    assert!(engine().starts_with(OLD));
    fleet.assert_same("after the way back");
    assert_eq!(shop.born(7009), born);
    assert_nothing_is_left(UPGRADED, "after the way back");
    watches.into_iter().for_each(Watch::end);
    [kept, new, redis].into_iter().for_each(Load::end);
    drop((web, db, shop));
    UPGRADED.sh("docker network rm shop");
}

/// Back to the old engine, where the last operation left the new one.
fn back_to_the_old_engine() {
    if engine().starts_with(NEW) {
        let last = "transship --json history --limit 40 | tr '{' '\\n' | sed -n 's/.*\"id\":\\([0-9]*\\),\"kind\":\"upgrade\".*\"phase\":\"done\".*/\\1/p' | head -1";
        UPGRADED.sh(&format!("transship rollback $({last})"));
    }
    assert!(engine().starts_with(OLD));
}

/// Runs the command that the helper prints where an upgrade needs a person.
fn carry_on_as_told() {
    let status = UPGRADED.sh("transship status");
    if let Some((_, command)) = status.split_once("try again: ") {
        UPGRADED.sh(command.lines().next().expect("a command"));
    }
}

/// Whoever dies, whatever fails: it ends upgraded or rolled back, and everybody runs with the memory they had.
#[test]
fn i1_i2_i3_i5_every_fault_at_every_step_of_an_upgrade_ends_well() {
    let _turn = hosts();
    upgraded_host();
    let fleet = Fleet::start(2);
    let steps = UPGRADED.steps_of(&format!("upgrade --to {NEW}"));
    assert!(steps.len() > 6, "{steps:?}");
    back_to_the_old_engine();
    UPGRADED.heed_failpoints();
    let watches = fleet.watches();
    for step in &steps {
        for (place, action) in [("before", "kill"), ("after", "error")] {
            let fault = format!("upgrade/{step}/{place} {action}");
            UPGRADED.sh(&format!("echo '{fault}' > {FAILPOINTS}"));
            UPGRADED.try_sh(&format!("transship upgrade --to {NEW}"));
            UPGRADED.sh(&format!("[ ! -s {FAILPOINTS} ]"));
            UPGRADED.within_seconds(
                120,
                "transship status && ! transship status | grep '^operation' | grep -vq needs-person",
            );
            carry_on_as_told();
            fleet.assert_same(&fault);
            assert_nothing_is_left(UPGRADED, &fault);
            back_to_the_old_engine();
        }
    }
    watches.into_iter().for_each(Watch::end);
    UPGRADED.forget_failpoints();
}

/// The failpoint's program runs in the host at that moment; the upgrade has to be undone by itself.
fn rolled_back_when(point: &str, program: &str) -> String {
    let _turn = hosts();
    upgraded_host();
    assert_rolled_back_when(point, program)
}

/// On the host as it is.
fn assert_rolled_back_when(point: &str, program: &str) -> String {
    let fleet = Fleet::start(2);
    UPGRADED.heed_failpoints();
    let watches = fleet.watches();
    UPGRADED.sh(&format!(
        "cat > /root/fault <<'FAULT'\n{program}\nFAULT\necho '{point} exec . /root/fault' > {FAILPOINTS}"
    ));
    let undone = UPGRADED.try_sh(&format!("transship upgrade --to {NEW}"));
    let text = String::from_utf8_lossy(&undone.stderr).into_owned();
    assert_eq!(undone.status.code(), Some(1), "failed, and everything undone: {text}");
    assert!(engine().starts_with(OLD));
    fleet.assert_same(program);
    assert_nothing_is_left(UPGRADED, program);
    watches.into_iter().for_each(Watch::end);
    UPGRADED.sh("rm /root/fault");
    UPGRADED.forget_failpoints();
    text
}

/// The power goes while everybody is frozen, or while nobody is back under the new engine: they come back with the host.
#[test]
fn i1_i3_frozen_containers_come_back_when_the_host_does() {
    let _turn = hosts();
    upgraded_host();
    let fleet = Fleet::start(2);
    UPGRADED.heed_failpoints();
    for point in ["upgrade/freeze/after", "upgrade/restart/after"] {
        UPGRADED.sh(&format!(
            "rm -f /root/reached; echo '{point} exec touch /root/reached; exec sleep 600' > {FAILPOINTS}"
        ));
        let mut upgrade = UPGRADED.begin(&format!("transship upgrade --to {NEW}"));
        UPGRADED.within_seconds(60, "[ -e /root/reached ]");
        UPGRADED.reboot();
        upgrade.wait().expect("its end");
        UPGRADED.comes_to_rest(120);
        assert!(engine().starts_with(NEW), "it went on");
        fleet.assert_same(point);
        assert_nothing_is_left(UPGRADED, point);
        back_to_the_old_engine();
    }
    UPGRADED.sh("rm /root/reached");
    UPGRADED.forget_failpoints();
}

/// No byte is left in the store while containers are frozen: it ends upgraded or rolled back, with nothing lost.
#[test]
fn i2_a_full_disk_costs_nobody_anything() {
    let store = "/var/lib/transship";
    let _turn = hosts();
    upgraded_host();
    UPGRADED.sh(&format!(
        "service transshipd stop; mount --bind {store} /mnt; \
         mount -t tmpfs -o size=700m,mode=700 tmpfs {store}; for f in /mnt/*; do \
         case $f in */checkpoints | */upgrades | */staging) ;; *) cp -a $f {store} ;; esac; done; service transshipd start"
    ));
    let fill = format!("dd if=/dev/zero of={store}/filler bs=64k count=16384");
    let text = assert_rolled_back_when("checkpoint/dump/before", &fill);
    assert!(text.to_lowercase().contains("no space left"), "{text}");
    UPGRADED.sh(&format!(
        "rm {store}/filler; service transshipd stop; umount {store}; umount /mnt; service transshipd start"
    ));
}

#[test]
fn i2_an_engine_that_does_not_come_up_is_rolled_back() {
    let text = rolled_back_when("upgrade/install/after", "rm /usr/sbin/dockerd; ln -s /bin/false /usr/sbin/dockerd");
    assert!(text.contains("dockerd does not come up"), "{text}");
}

#[test]
fn i2_a_package_manager_that_is_killed_is_rolled_back() {
    let kill = "(until p=$(for c in /proc/[0-9]*/comm; do [ \"$(cat $c 2>/dev/null)\" != dpkg ] || echo $c; done) && [ -n \"$p\" ]; \
                do :; done; for c in $p; do kill -9 $(echo $c | tr -dc 0-9); done) >/dev/null 2>&1 &";
    let text = rolled_back_when("upgrade/install/before", kill);
    assert!(text.contains("cannot be installed"), "{text}");
}

/// A session that was opened since the plan keeps one of them from being frozen; the other is not even held for it.
#[test]
fn i2_nobody_is_away_where_it_shows_beforehand_that_one_cannot_be_frozen() {
    let session = "docker exec -d two /tools/holder 7099 1; \
                   until docker exec two /tools/watch 127.0.0.1:7099 --ask check; do sleep 0.1; done >/dev/null 2>&1";
    let text = rolled_back_when("upgrade/freeze/before", session);
    assert!(text.contains("two cannot be frozen here"), "{text}");
    let answer = |command: &str| -> serde_json::Value {
        serde_json::from_str(&UPGRADED.sh(&format!("transship --json {command}"))).expect("an answer")
    };
    let last = answer("history --limit 1");
    let report = answer(&format!("report {}", last["operations"][0]["id"]));
    let containers = report["report"]["containers"].as_array().expect("containers");
    let mut spans = containers.iter().flat_map(|container| container["spans"].as_array().expect("spans"));
    assert!(containers.len() == 2 && spans.all(|span| span["name"] != "hold"), "{report:#}");
}

#[test]
fn i7_what_was_not_there_when_it_was_planned_is_not_ended_by_it() {
    let text =
        rolled_back_when("upgrade/prepare/after", "docker run -d --name stranger --rm programs /tools/holder 7010 8");
    assert!(text.contains("stranger would end with dockerd"), "{text}");
    let stranger = Container { host: &UPGRADED, name: "stranger" };
    stranger.check(7010);
}

#[test]
fn what_cannot_go_through_it_is_refused_before_anything_is_touched() {
    let _turn = hosts();
    upgraded_host();
    let _stays = UPGRADED.start("stays", "--network host programs", "/tools/holder 7000 8");
    let refused = |words: &str| {
        let output = UPGRADED.try_sh(&format!("transship upgrade {words}"));
        assert_eq!(output.status.code(), Some(3), "{words}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&format!("--to {NEW}")).contains("stays"));
    assert!(refused("--to 99").contains("there is no version 99"));
    assert!(refused("--to 1.0").contains("there is no version 1.0"));
    let planned = UPGRADED.sh(&format!("transship upgrade --to {NEW} --may-stop stays --dry-run"));
    assert!(planned.contains("stop") && planned.contains("are lost"), "{planned}");
    UPGRADED.sh("apt-mark hold runc");
    assert!(refused(&format!("--to {NEW} --may-stop stays")).contains("hold"));
    UPGRADED.sh("apt-mark unhold runc");
    assert!(engine().starts_with(OLD));
}

/// A swarm takes its tasks back itself; a container of the operator's own beside them is frozen.
/// The host's packages come from a mirror, which a container is, until this is dropped.
struct Mirror;

impl Mirror {
    fn start() -> Self {
        UPGRADED.sh("cp -a /etc/apt/sources.list /root/sources.list");
        Self::serve("/srv/packages");
        UPGRADED.sh("sed -i 's,file:/srv/packages,http://127.0.0.1:8081,' /etc/apt/sources.list; apt-get -qq update");
        Self
    }

    fn serve(directory: &str) {
        UPGRADED.sh(&format!(
            "docker rm -f mirror 2>/dev/null; docker run -d --name mirror --network host --label transship.strategy=stop \
             -v {directory}:{directory}:ro programs busybox httpd -f -p 8081 -h {directory}"
        ));
        UPGRADED.within_seconds(20, "curl -s -o /dev/null http://127.0.0.1:8081/");
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        UPGRADED.try_sh("docker rm -f mirror; mv /root/sources.list /etc/apt/sources.list; apt-get -qq update");
    }
}

/// Asks for an upgrade that is refused: what is told of it, and how many upgrades the journal has of it.
fn refused(options: &str) -> (String, usize) {
    let count = || UPGRADED.sh("transship --json history").matches("\"kind\":\"upgrade\"").count();
    let before = count();
    let output = UPGRADED.try_sh(&format!("transship upgrade --to 28.5 {options} 2>&1"));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{options}: {told}");
    (told, count() - before)
}

#[test]
fn an_upgrade_whose_mirror_cannot_be_reached_is_refused_with_nothing_touched() {
    let _turn = hosts();
    upgraded_host();
    let fleet = Fleet::start(1);
    let packages = || UPGRADED.sh("ls /var/lib/transship/upgrades 2>/dev/null; true");
    let kept = packages();
    let mirror = Mirror::start();
    UPGRADED.sh("transship upgrade --to 28.5 --dry-run");
    UPGRADED.sh("docker rm -f mirror");
    for options in ["--dry-run", ""] {
        let (told, begun) = refused(options);
        assert!(told.contains("http://127.0.0.1:8081/ cannot be reached") && begun == 0, "{options}: {begun} {told}");
    }
    // It answers, and has the packages no more.
    UPGRADED.sh("rm -rf /root/emptied; mkdir /root/emptied; cp -a /srv/packages/dists /root/emptied/");
    Mirror::serve("/root/emptied");
    let (told, begun) = refused("");
    assert!(told.contains("cannot be fetched, and nothing was touched") && begun == 1, "{begun} {told}");
    drop(mirror);
    fleet.assert_same("after upgrades that were refused");
    assert!(engine().starts_with(OLD));
    assert_nothing_is_left(UPGRADED, "after upgrades that were refused");
    assert_eq!(packages(), kept);
}

#[test]
fn a_swarms_node_is_drained_and_active_again_whichever_way_it_ends() {
    let _turn = hosts();
    upgraded_host();
    UPGRADED.sh("docker swarm init --advertise-addr eth0 && \
             docker service create --quiet --detach --name task programs /tools/holder 7000 1");
    UPGRADED.within_seconds(30, "docker ps --filter name=task -q | grep -q .");
    let alone = UPGRADED.start("alone", "-p 7001:7001 programs", "/tools/holder 7001 8");
    let born = alone.born(7001);
    let upgraded = UPGRADED.sh(&format!("transship upgrade --to {NEW} 2>&1"));
    assert_eq!(alone.born(7001), born);
    assert!(upgraded.contains("drain"), "{upgraded}");
    back_to_the_old_engine();
    assert_eq!(alone.born(7001), born);
    let active = "[ $(docker node inspect self -f '{{.Spec.Availability}}') = active ]";
    UPGRADED.within_seconds(10, active);
    UPGRADED.within_seconds(30, "docker ps --filter name=task -q | grep -q .");
    UPGRADED.sh("docker swarm leave --force");
}

/// A hook takes the host out of a load balancer first; one that fails keeps the upgrade from beginning.
#[test]
fn hooks_run_before_and_after_with_the_plan_on_standard_input() {
    let _turn = hosts();
    upgraded_host();
    let _one = Fleet::start(1);
    let hooks = "/etc/transship/hooks.d";
    UPGRADED.sh(&format!(
        "mkdir -p {hooks}; for h in before after; do printf '#!/bin/sh\\ncat >> /root/told; echo >> /root/told\\n' > {hooks}/$h-upgrade-lb; \
         chmod 755 {hooks}/$h-upgrade-lb; done; printf '#!/bin/sh\\necho busy >&2; exit 1\\n' > {hooks}/before-upgrade-zz; chmod 755 {hooks}/*"
    ));
    let failed = UPGRADED.try_sh(&format!("transship upgrade --to {NEW}"));
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("busy"));
    let told = UPGRADED.sh("cat /root/told");
    let moments: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let moments: Vec<_> = moments.iter().map(|told| (told["moment"].as_str(), told["outcome"].as_str())).collect();
    assert_eq!(moments, [(Some("before-upgrade"), Some("planned")), (Some("after-upgrade"), Some("rolled-back"))]);
    assert!(engine().starts_with(OLD));
    UPGRADED.sh(&format!("rm -r {hooks} /root/told"));
}
