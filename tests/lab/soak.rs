//! Migrations again and again, and at moments that nobody chose. A short run of each belongs to the suite; `scripts/test
//! soak` has the long ones.

use super::chance::Chance;
use super::clients::{Load, Watch};
use super::groups::{PAIR, born, start_pair};
use super::lab::{BOTH, Container, Host, SID, THIRD, TRIXIE, paired_hosts, third_host};
use super::migrations::{leftovers, migrate, settle, whereabouts};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many, where `scripts/test soak` does not say how many more.
fn times(short: u32) -> u32 {
    std::env::var("TRANSSHIP_SOAK_TIMES").ok().map_or(short, |times| times.parse().expect("a number"))
}

/// What there is on a host, counted. Docker sweeps /run/docker/netns in its own time: what is there is not counted.
fn census(host: Host) -> BTreeMap<String, u64> {
    let counted = host.sh("count() { echo \"$1 $(cat | wc -l)\"; }; \
         iptables-save | grep ^-A | count iptables; ip6tables-save | grep ^-A | count ip6tables; \
         nft list ruleset 2>/dev/null | grep -v '^#' | count nft; \
         ip route show table all | count routes; ip rule | count rules; ip link | grep -c mtu | sed 's/^/links /'; \
         ls /run/netns 2>/dev/null | count netns; \
         find /sys/fs/cgroup -type d | count cgroups; grep -v ' /proc' /proc/mounts | count mounts; \
         ps -e --no-headers -o comm | grep -Ev '^(ps|sh|grep|wc|cat|bash)$' | count processes; \
         docker ps -aq | count containers; docker images -aq | count images; docker volume ls -q | count volumes; \
         docker network ls -q | count networks; transship --json ls | grep -o '\"id\"' | count checkpoints; \
         for d in claims staging tmp checkpoints; do ls /var/lib/transship/$d | count $d; done; \
         find /run/transship -mindepth 1 | count runtime; ls /var/lib/docker/overlay2 | count layers; \
         ls /var/lib/docker/containers | count docker-containers; ls /tmp | count tmp-files");
    let entry =
        |line: &str| line.split_once(' ').map(|(what, count)| (what.to_owned(), count.parse().expect("a count")));
    counted.lines().filter_map(entry).collect()
}

/// A client, a program that checks its memory, and everything that there is on both hosts before and after.
fn round_trips(times: u32) {
    let _turn = paired_hosts();
    let start =
        || SID.start("round", "--network front -p 7000:7000 -v round:/data programs", "/tools/holder 7000 16 200");
    // What the first journey makes for good, such as Docker's chains, is there before it is counted.
    let container = start();
    container.check(7000);
    there_and_back("round");
    drop(container);
    let clean = || {
        BOTH.map(|host| {
            host.sh("docker volume rm round >/dev/null 2>&1; transship forward rm round >/dev/null 2>&1; true")
        })
    };
    clean();
    let before = BOTH.map(census);
    let container = start();
    let born = container.born(7000);
    let watch = Watch::start(&format!("{}:7000", SID.address()));
    for trip in 0..times {
        there_and_back("round");
        assert_eq!(container.born(7000), born, "after {trip} round trips before");
    }
    watch.end();
    drop(container);
    clean();
    for (host, before) in BOTH.into_iter().zip(before) {
        host.comes_to_rest(20);
        assert_eq!(census(host), before, "I5: {} after {times} round trips", host.0);
    }
}

fn there_and_back(name: &str) {
    migrate(SID, name, TRIXIE);
    migrate(TRIXIE, name, SID);
}

#[test]
fn i4_i5_round_trips_leave_every_byte_every_connection_and_nothing_else() {
    round_trips(times(3));
}

/// A container that is moved to and fro while something happens to it; a client stays with it all the time.
struct Mover {
    born: String,
    at: Host,
}

impl Mover {
    fn start() -> Self {
        let container = SID.start("mover", "--network front -p 7000:7000 programs", "/tools/holder 7000 8 50");
        let born = container.born(7000);
        std::mem::forget(container);
        Self { born, at: SID }
    }

    /// Begins to migrate it to the other host, lets `trouble` happen, and looks that one copy runs in the end and no more
    /// did meanwhile.
    fn through(&mut self, what: &str, trouble: impl FnOnce()) {
        let (source, destination) = (self.at, if self.at == SID { TRIXIE } else { SID });
        eprintln!("{} -> {}: {what}", source.0, destination.0);
        let mut migrating = source.begin(&format!("transship migrate mover --to {}", destination.0));
        trouble();
        let ended = migrating.wait().expect("the migration ends");
        settle(source, destination);
        self.at = whereabouts("mover");
        eprintln!("  {ended}, runs on {}", self.at.0);
        // It may be restored once more by a helper that was killed; then it runs in a moment.
        let container = Container { host: &self.at, name: "mover" };
        assert_eq!(container.born(7000), self.born, "{what}");
        std::mem::forget(container);
        // Where it went nowhere the other one has to be free of it.
        let other = if self.at == SID { TRIXIE } else { SID };
        other.within_seconds(90, "[ -z \"$(docker ps -aq)\" ]");
    }

    fn end(self) {
        self.at.sh("docker rm -f mover");
        BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "I5: {}", host.0));
    }
}

/// Nothing is waited for here: the moment is what is tried.
fn after(delay: Duration) {
    std::thread::sleep(delay);
}

/// The longest that a migration in the lab takes, about.
const MIGRATION: Duration = Duration::from_millis(2500);

#[test]
fn i1_i3_a_cable_that_is_pulled_at_any_moment_leaves_exactly_one_copy_running() {
    let _turn = paired_hosts();
    let mut chance = Chance::told();
    let mut mover = Mover::start();
    for _ in 0..times(3) {
        let (delay, away) = (chance.below(MIGRATION), chance.below(Duration::from_secs(4)));
        let host = chance.pick(&BOTH);
        mover.through(&format!("{}'s cable is pulled after {delay:?} for {away:?}", host.0), || {
            after(delay);
            super::host::run(&["unplug", host.0]);
            after(away);
            super::host::run(&["plug", host.0]);
        });
    }
    mover.end();
}

/// What is killed, and the command that finds it: the helper without its supervisor, which starts it again.
const VICTIMS: [(&str, &str); 4] = [
    ("the helper", "ps -o pid= --ppid $(cat /run/transship/transshipd.pid)"),
    ("CRIU", "pidof criu"),
    ("runc", "pidof runc"),
    ("dockerd", "pidof dockerd"),
];

#[test]
#[ignore = "long: scripts/test soak"]
fn i1_i3_whatever_is_killed_at_any_moment_exactly_one_copy_runs_in_the_end() {
    let _turn = paired_hosts();
    // Otherwise a dockerd that comes back ends what runs, moved or not.
    BOTH.into_iter().for_each(|host| set_live_restore(host, true));
    let mut chance = Chance::told();
    let mut mover = Mover::start();
    let minutes = std::env::var("TRANSSHIP_SOAK_MINUTES").map_or(3, |minutes| minutes.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    while Instant::now() < end {
        let (delay, host, (victim, find)) = (chance.below(MIGRATION), chance.pick(&BOTH), chance.pick(&VICTIMS));
        mover.through(&format!("{victim} on {} is killed after {delay:?}", host.0), || {
            after(delay);
            host.try_sh(&format!("pids=$({find}) && kill -9 $pids"));
            if victim == "dockerd" {
                host.sh("until docker info >/dev/null 2>&1; do service docker start >/dev/null 2>&1; done");
            }
        });
    }
    mover.end();
    BOTH.into_iter().for_each(|host| set_live_restore(host, false));
}

fn set_live_restore(host: Host, on: bool) {
    host.sh(&format!(
        "echo '{{ \"live-restore\": {on} }}' > /etc/docker/daemon.json; kill -HUP $(pidof dockerd); \
         until [ \"$(docker info --format '{{{{.LiveRestoreEnabled}}}}')\" = {on} ]; do sleep 0.1; done; \
         [ {on} = true ] || rm /etc/docker/daemon.json"
    ));
}

#[test]
#[ignore = "long: scripts/test soak"]
fn i1_i5_i6_web_server_database_and_group_go_round_three_hosts_under_their_clients() {
    let _turn = paired_hosts();
    third_host();
    let address = SID.address();
    SID.sh("docker run -d --name db --restart always --network front -p 6379:6379 -v data:/data redis \
         redis-server --protected-mode no --bind 0.0.0.0 --dir /data --appendonly yes");
    SID.sh("docker run -d --name web --network front -p 8080:80 nginx nginx -g 'daemon off;'");
    let pair = start_pair();
    SID.within_seconds(10, "docker exec db redis-cli set kept forever && docker exec web true");
    let queries = Load::redis(&address, "-c 20 -n 100000");
    let requests = Load::ab("-k -c 10 -n 50000", &format!("http://{address}:8080/"));
    let fresh = Load::ab("-c 5 -n 5000", &format!("http://{address}:8080/"));
    let watches = PAIR.map(|(_, port)| Watch::start(&format!("{address}:{port}")));
    let (owner, _) = PAIR[0];
    for (from, to) in [(SID, TRIXIE), (TRIXIE, THIRD), (THIRD, SID)] {
        ["db", "web", owner].iter().for_each(|name| migrate(from, name, to));
        assert_eq!(born(to), pair, "on {}", to.0);
    }
    watches.into_iter().for_each(Watch::end);
    [queries, requests, fresh].into_iter().for_each(Load::end);
    assert_eq!(SID.sh("docker exec db redis-cli get kept"), "forever");
    for host in [TRIXIE, THIRD] {
        assert_eq!(host.sh("docker ps -aq; docker volume ls -q"), "", "{} has removed what it had", host.0);
    }
    SID.sh("docker ps -aq | xargs docker rm -f");
    [SID, TRIXIE, THIRD].into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
    THIRD.down();
}
