//! Containers that belong together, and move as one under their clients.

use super::clients::{Load, Watch};
use super::lab::{BOTH, Container, FAILPOINTS, Host, SID, TRIXIE, paired_hosts};
use super::migrations::{leftovers, migrate, settle, whereabouts};

/// Two that share a network, its owner first, and a volume.
pub const PAIR: [(&str, u16); 2] = [("steady", 7000), ("beside", 7001)];

pub fn start_pair() -> [String; 2] {
    let ports = "-p 7000:7000 -p 7001:7001";
    let options =
        [format!("--network front {ports} -v shared:/data"), "--network container:steady -v shared:/data".into()];
    for ((name, port), options) in PAIR.into_iter().zip(options) {
        SID.sh(&format!("docker run -d --name {name} {options} programs /tools/holder {port} 8"));
    }
    born(SID)
}

pub fn born(host: Host) -> [String; 2] {
    PAIR.map(|(name, port)| on(&host, name, |container| container.born(port)))
}

/// Asks a container that is not removed afterwards.
fn on<T>(host: &Host, name: &'static str, ask: impl FnOnce(&Container<'_>) -> T) -> T {
    let container = Container { host, name };
    let answer = ask(&container);
    std::mem::forget(container);
    answer
}

fn remove_pair(host: Host) {
    host.sh("docker rm -f beside steady");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

#[test]
fn i1_i5_two_that_share_a_network_and_a_volume_travel_there_and_back_under_their_clients() {
    let _turn = paired_hosts();
    let before = start_pair();
    SID.sh("docker exec steady sh -c 'echo shared > /data/word'");
    let watches = PAIR.map(|(_, port)| Watch::start(&format!("{}:{port}", SID.address())));
    for (from, to) in [(SID, TRIXIE), (TRIXIE, SID)].into_iter().cycle().take(4) {
        // Whichever is named, the other one goes along.
        migrate(from, "beside", to);
        assert_eq!(born(to), before);
        assert_eq!(to.sh("docker exec beside cat /data/word"), "shared");
        assert_eq!(from.sh("docker ps -aq; docker volume ls -q"), "");
    }
    watches.into_iter().for_each(Watch::end);
    remove_pair(SID);
}

/// The failpoint takes away an image of the one that uses the other's network, when its digest was compared.
#[test]
fn i2_i5_where_one_of_a_group_cannot_be_restored_all_of_it_runs_on_where_it_was() {
    let _turn = paired_hosts();
    let before = start_pair();
    TRIXIE.heed_failpoints();
    TRIXIE.sh(&format!(
        "echo 'arrive/start/before exec cd /var/lib/transship/checkpoints && \
         rm $(grep -l beside */manifest.json | cut -d / -f 1)/images/core-1.img' > {FAILPOINTS}"
    ));
    let failed = SID.try_sh("transship migrate steady --to trixie");
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    TRIXIE.forget_failpoints();
    assert_eq!(born(SID), before);
    assert_eq!(TRIXIE.sh("docker ps -aq; docker volume ls -q; transship status | grep operation; true"), "");
    remove_pair(SID);
}

/// Labels as Docker Compose writes them.
fn compose(service: &str, depends_on: &str) -> String {
    let labels = [("project", "shop"), ("service", service), ("depends_on", depends_on)];
    let labels = labels.map(|(name, value)| format!("--label com.docker.compose.{name}={value}"));
    format!("--network shop --network-alias {service} {}", labels.join(" "))
}

#[test]
fn i1_i7_a_project_moves_whole_and_comes_back_under_load() {
    let _turn = paired_hosts();
    SID.sh("docker network create --label com.docker.compose.project=shop shop");
    SID.sh(&format!(
        "docker run -d --name shop-db-1 {} -p 6379:6379 -v shop_data:/data redis \
         redis-server --protected-mode no --bind 0.0.0.0 --dir /data --appendonly yes",
        compose("db", "")
    ));
    SID.sh(&format!(
        "docker run -d --name shop-web-1 {} -p 8080:80 nginx nginx -g 'daemon off;'",
        compose("web", "db:service_started:false")
    ));
    let stranger = SID.start("stranger", "--network front -p 7000:7000 programs", "/tools/holder 7000 8");
    let born = stranger.born(7000);
    SID.within_seconds(10, "docker exec shop-db-1 redis-cli set kept forever && docker exec shop-web-1 true");
    let address = SID.address();
    let loads =
        [Load::redis(&address, "-c 10 -n 100000"), Load::ab("-k -n 20000 -c 10", &format!("http://{address}:8080/"))];
    for (from, to) in [(SID, TRIXIE), (TRIXIE, SID)] {
        migrate(from, "shop-web-1", to);
        assert_eq!(
            to.sh("docker ps --format '{{.Names}}' --filter label=com.docker.compose.project | sort | xargs"),
            "shop-db-1 shop-web-1"
        );
        assert_eq!(from.sh("docker network ls -q --filter name=shop; docker volume ls -q"), "", "they went along");
    }
    loads.into_iter().for_each(Load::end);
    assert_eq!(SID.sh("docker exec shop-db-1 redis-cli get kept"), "forever");
    assert_eq!(stranger.born(7000), born);
    SID.sh("docker rm -f shop-db-1 shop-web-1; docker network rm shop");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

/// Each step fails or dies in one of four ways in turn; the single container's test has them all.
#[test]
fn i1_i2_i3_a_fault_at_any_step_leaves_a_group_whole_on_one_host() {
    let _turn = paired_hosts();
    let before = start_pair();
    let steps = SID.steps_of("migrate steady --to trixie");
    assert_eq!(born(TRIXIE), before);
    let arrival = ["make", "receive", "place", "claim", "start", "await", "release", "settle"];
    BOTH.into_iter().for_each(|host| host.heed_failpoints());
    let on_source = steps.iter().map(|step| (true, format!("migrate/{step}")));
    let on_destination = arrival.iter().map(|step| (false, format!("arrive/{step}")));
    let faults = [("before", "kill"), ("after", "error"), ("after", "kill"), ("before", "error")];
    for ((is_source, step), (place, action)) in on_destination.chain(on_source).zip(faults.into_iter().cycle()) {
        let source = whereabouts("steady");
        let destination = if source == SID { TRIXIE } else { SID };
        let fault = format!("{step}/{place} {action}");
        let failing = if is_source { source } else { destination };
        failing.sh(&format!("echo '{fault}' > {FAILPOINTS}"));
        let tried = source.try_sh(&format!("transship migrate steady --to {}", destination.0));
        assert_eq!(failing.sh(&format!("cat {FAILPOINTS}")), "", "not come by: {tried:?}");
        settle(source, destination);
        let here = whereabouts("steady");
        assert_eq!(whereabouts("beside"), here, "{fault}");
        assert_eq!(born(here), before, "{fault}");
    }
    BOTH.into_iter().for_each(|host| host.forget_failpoints());
    remove_pair(whereabouts("steady"));
}
