//! What a container may have.

use super::clients::Watch;
use super::lab::{BOTH, Host, SID, hosts};

/// Options of `docker run`, and what has to be as before after a cycle (a shell test in the host).
const OPTIONS: [(&str, &str); 14] = [
    ("--restart always", "docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' kind"),
    ("--restart unless-stopped", "docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' kind"),
    ("--restart on-failure:3", "docker inspect -f '{{.HostConfig.RestartPolicy}}' kind"),
    ("--init", "docker exec kind cat /proc/1/comm"),
    ("-t", "docker exec kind readlink /proc/1/fd/1"),
    ("-i", "docker exec kind sh -c 'ls /proc/1/fd | wc -w'"),
    ("--user 1000:1000", "docker exec kind sh -c 'grep Uid /proc/1/status'"),
    ("--read-only --tmpfs /tmp", "docker exec kind sh -c '! touch /x 2>/dev/null'"),
    ("--shm-size 32m --tmpfs /data", "docker exec kind sh -c 'df -P /dev/shm /data | wc -l'"),
    ("-v /etc/hostname:/h:ro -v vol:/data", "docker exec kind sh -c 'cat /h; mount | grep -c /data'"),
    (
        "--memory 256m --cpus 0.5 --pids-limit 200",
        "id=$(docker inspect -f '{{.Id}}' kind); cd /sys/fs/cgroup; \
         cat memory/docker/$id/memory.limit_in_bytes cpu/docker/$id/cpu.cfs_quota_us pids/docker/$id/pids.max",
    ),
    ("--health-cmd true --health-interval 1s", "docker inspect -f '{{.Config.Healthcheck.Test}}' kind"),
    ("--log-driver local", "docker inspect -f '{{.HostConfig.LogConfig.Type}}' kind"),
    (
        "--cap-drop ALL --security-opt no-new-privileges",
        "docker exec kind sh -c 'grep -E \"CapEff|NoNewPrivs\" /proc/1/status'",
    ),
];

#[test]
fn i8_every_kind_of_container_comes_back_as_it_was() {
    let _turn = hosts();
    for host in BOTH {
        for (options, same) in OPTIONS {
            let container = host.start("kind", &format!("{options} programs"), "/tools/holder 7000 8");
            let (born, before) = (container.born(7000), host.sh(same));
            for _ in 0..2 {
                container.cycle();
                assert_eq!(container.born(7000), born, "{options}");
                assert_eq!(host.sh(same), before, "{options}");
            }
            host.sh("docker stop -t 1 kind");
        }
    }
}

/// Counts for ever, a line each.
const COUNT: &str = "busybox sh -c 'i=0; while :; do echo $i; i=$((i+1)); usleep 2000; done'";

fn assert_counts_without_a_gap(lines: &str, driver: &str) {
    let numbers: Vec<u64> = lines.lines().map(|line| line.trim().parse().expect("a number")).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{driver}: a gap or a line twice");
    assert!(numbers.len() > 100);
}

#[test]
fn logs_go_on_without_a_gap_over_three_cycles() {
    let _turn = hosts();
    for host in BOTH {
        for driver in ["json-file", "local"] {
            let container = host.start("log", &format!("--log-driver {driver} programs"), COUNT);
            (0..3).for_each(|_| container.cycle());
            assert_counts_without_a_gap(&host.sh("docker logs log"), driver);
        }
    }
}

#[test]
fn logs_to_syslog_go_on_without_a_gap_over_three_cycles() {
    let _turn = hosts();
    for host in BOTH {
        host.sh("rm -rf /root/syslog; mkdir -p /root/syslog");
        let daemon = "busybox sh -c 'ln -s /syslog/socket /dev/log; exec busybox syslogd -n -s 0 -O /syslog/messages'";
        let _syslog = host.start("syslog", "-v /root/syslog:/syslog programs", daemon);
        host.within_seconds(10, "test -S /root/syslog/socket");
        let options = "--log-driver syslog --log-opt syslog-address=unixgram:///root/syslog/socket --log-opt tag=count";
        let container = host.start("log", &format!("{options} programs"), COUNT);
        (0..3).for_each(|_| container.cycle());
        host.sh("docker stop -t 1 log");
        let lines = host.sh("sed -n 's/.* count\\(\\[[0-9]*\\]\\)*: //p' /root/syslog/messages");
        assert_counts_without_a_gap(&lines, "syslog");
    }
}

/// Both families, on a network of the operator's, with a published port.
#[test]
fn i6_connections_over_ipv6_live_on() {
    let _turn = hosts();
    for host in BOTH {
        host.sh("docker network inspect six >/dev/null 2>&1 || \
             docker network create --ipv6 --subnet fd00:6::/64 --subnet 172.30.6.0/24 six");
        let options = "--network six --ip 172.30.6.9 --ip6 fd00:6::9 programs";
        let server = host.start("server6", options, "/tools/holder 7000 8");
        let born = server.born(7000);
        let neighbour =
            host.start("neighbour6", "--network six programs", "/tools/watch [fd00:6::9]:7000 --control 7002");
        neighbour.check(7002);
        (0..3).for_each(|_| server.cycle());
        assert_eq!(server.born(7000), born);
        (0..3).for_each(|_| neighbour.cycle());
        neighbour.assert_nothing_noticed(7002);
    }
}

#[test]
fn a_group_that_shares_a_network_is_frozen_and_let_go_as_one() {
    let _turn = hosts();
    for host in BOTH {
        let owner = host.start("owner", "-p 7000:7000 -p 7001:7001 programs", "/tools/holder 7000 8");
        let guest = host.start("guest", "--network container:owner programs", "/tools/holder 7001 8");
        let born = (owner.born(7000), guest.born(7001));
        let alone = host.try_sh("transship checkpoint owner");
        assert_eq!(alone.status.code(), Some(3), "half a group is refused");
        let watches = [7000, 7001].map(|port| Watch::start(&format!("{}:{port}", host.address())));
        for _ in 0..3 {
            host.sh("transship checkpoint owner guest && transship restore owner");
        }
        assert_eq!((owner.born(7000), guest.born(7001)), born);
        watches.into_iter().for_each(Watch::end);
    }
}

/// Neighbours on a network of the operator's, by name, through the same bridge.
#[test]
fn neighbours_and_the_host_itself_notice_nothing() {
    let _turn = hosts();
    for host in BOTH {
        host.sh("docker network inspect beside >/dev/null 2>&1 || docker network create --subnet 172.30.0.0/24 beside");
        let server = host.start("server", "--network beside --ip 172.30.0.9 programs", "/tools/holder 7000 8");
        server.check(7000);
        let command = "/tools/watch 172.30.0.9:7000 --control 7002";
        let neighbour = host.start("neighbour", "--network beside programs", command);
        neighbour.check(7002);
        for _ in 0..3 {
            server.cycle();
        }
        neighbour.assert_nothing_noticed(7002);
    }
}

/// A container's own connections, masqueraded on the way out.
#[test]
fn outbound_connections_live_on() {
    let _turn = hosts();
    for host in BOTH {
        let other: Host = *BOTH.iter().find(|other| **other != host).expect("two hosts");
        let server = other.start("far", "-p 7000:7000 programs", "/tools/holder 7000 8");
        server.check(7000);
        let command = format!("/tools/watch {}:7000 --control 7002", other.address());
        let caller = host.start("caller", "programs", &command);
        caller.check(7002);
        (0..3).for_each(|_| caller.cycle());
        caller.assert_nothing_noticed(7002);
    }
}

#[test]
fn docker_start_of_a_frozen_container_restores_it_too() {
    let _turn = hosts();
    let container = SID.start("plain", "--restart always programs", "/tools/holder 7000 8");
    let born = container.born(7000);
    SID.sh("transship checkpoint plain && docker start plain");
    assert_eq!(container.born(7000), born);
    // What nobody waits for is done in a moment.
    SID.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' plain) = always ]");
}
