//! Freezing and restoring.

use super::clients::{Load, Watch};
use super::host::{Container, run};
use super::machines::{LONE, SID, bring_programs, machine, pair};
use super::results::tried;

/// What the kernel and systemd know about a container's first process, but for what has to change.
fn confinement(name: &str) -> String {
    LONE.sh(&format!(
        "pid=$(docker inspect -f '{{{{.State.Pid}}}}' {name}); id=$(docker inspect -f '{{{{.Id}}}}' {name}); \
         cat /proc/$pid/attr/current; grep -E '^(Seccomp|Cap|NoNewPrivs|Groups|Uid)' /proc/$pid/status; cat /proc/$pid/cgroup; \
         cd /sys/fs/cgroup/system.slice/docker-$id.scope; cat memory.max pids.max cpu.max cgroup.freeze; \
         systemctl show -p MemoryMax,TasksMax docker-$id.scope"
    ))
}

#[test]
fn i1_i6_a_confined_process_tree_lives_through_cycles_as_confined_as_before() {
    let _turn = machine();
    let _tried = tried("freeze and restore of confined processes (AppArmor, seccomp, limits) under clients", &[LONE]);
    let options = "--restart always --memory 512m --pids-limit 200 --cpus 0.9 --user 1000:1000 --tmpfs /tmp -p 7000:7000 programs";
    let tree = LONE.start("tree", options, "/tools/tree 7000");
    let (born, before) = (tree.born(7000), confinement("tree"));
    assert!(before.starts_with("docker-default (enforce)"), "AppArmor confines it: {before}");
    assert!(before.contains("Seccomp:\t2"), "seccomp filters its calls: {before}");
    let watch = Watch::start(&format!("{}:7000", LONE.address()));
    for _ in 0..3 {
        tree.cycle();
        assert_eq!(tree.born(7000), born);
        assert_eq!(confinement("tree"), before);
    }
    watch.end();
    LONE.assert_nothing_is_left();
}

/// With both of the places where Docker 28 keeps images: its own, and containerd's.
#[test]
fn i1_i6_a_container_lives_through_cycles_wherever_the_engine_keeps_its_images() {
    let _turn = pair();
    let _tried = tried("freeze and restore under clients, with overlay2 and with containerd's image store", &[SID]);
    for store in ["overlay2", "overlayfs"] {
        if store == "overlayfs" {
            SID.sh("mkdir -p /etc/docker; echo '{ \"features\": { \"containerd-snapshotter\": true } }' \
                 > /etc/docker/daemon.json; systemctl restart docker");
            bring_programs(SID);
        }
        assert_eq!(SID.sh("docker info -f '{{.Driver}}'"), store);
        let holder = SID.start("holder", "--restart always -p 7000:7000 programs", "/tools/holder 7000 16");
        let born = holder.born(7000);
        SID.sh("docker exec holder sh -c 'echo whole > /kept'");
        let watch = Watch::start(&format!("{}:7000", SID.address()));
        for _ in 0..2 {
            holder.cycle();
            assert_eq!(holder.born(7000), born, "{store}");
        }
        assert_eq!(SID.sh("docker exec holder cat /kept"), "whole", "{store}");
        watch.end();
        drop(holder);
        SID.assert_nothing_is_left();
    }
}

#[test]
fn i6_redis_under_a_benchmark_lives_through_cycles() {
    let _turn = machine();
    let _tried = tried("freeze and restore of redis under `redis-benchmark`", &[LONE]);
    run(&["image", LONE.0, "redis", "redis-server"]);
    let options = "-p 6379:6379 redis";
    let redis = LONE.start("db", options, "redis-server --protected-mode no --bind 0.0.0.0 --save ''");
    LONE.sh("until docker exec db redis-cli ping; do sleep 0.1; done; docker exec db redis-cli set kept whole");
    let address = LONE.address();
    let words = ["redis-benchmark", "-h", &address, "-c", "10", "-n", "2000", "-t", "set,get", "-q"];
    let load = Load::start(&words, |text| text.contains("GET:") && !text.contains("rror"));
    for _ in 0..3 {
        redis.cycle();
    }
    load.end();
    assert_eq!(LONE.sh("docker exec db redis-cli get kept"), "whole");
    LONE.assert_nothing_is_left();
}

#[test]
fn i7_a_backup_leaves_the_container_running_and_others_alone() {
    let _turn = machine();
    let _tried = tried("backup (`checkpoint --leave-running`) under clients", &[LONE]);
    let named = LONE.start("named", "-p 7000:7000 programs", "/tools/holder 7000 16");
    let other = LONE.start("other", "-p 7001:7001 programs", "/tools/holder 7001 16");
    let born = (named.born(7000), other.born(7001));
    let watches = [7000, 7001].map(|port| Watch::start(&format!("{}:{port}", LONE.address())));
    LONE.sh("transship checkpoint named --leave-running --name backup");
    assert_eq!((named.born(7000), other.born(7001)), born);
    watches.into_iter().for_each(Watch::end);
    LONE.assert_nothing_is_left();
}

/// Its limits hold, it can be paused, and it can be frozen again.
#[test]
fn i8_a_container_made_from_a_checkpoint_is_in_a_cgroup_of_its_own() {
    let _turn = machine();
    let _tried = tried("a container made from a backup, beside the one it was taken of", &[LONE]);
    let named = LONE.start("named", "--memory 200m programs", "/tools/holder 7000 16");
    let born = named.born(7000);
    LONE.sh("transship checkpoint named --leave-running --name backup && transship restore backup --name beside");
    let beside = Container { host: &LONE, name: "beside" };
    assert_eq!(beside.born(7000), born);
    let cgroup = LONE.sh("cut -d : -f 3 /proc/$(docker inspect -f '{{.State.Pid}}' beside)/cgroup");
    let id = LONE.sh("docker inspect -f '{{.Id}}' beside");
    assert_eq!(cgroup, format!("/system.slice/docker-{id}.scope"));
    assert_eq!(LONE.sh(&format!("cat /sys/fs/cgroup{cgroup}/memory.max")), (200 << 20).to_string());
    LONE.sh("docker pause beside && docker unpause beside");
    beside.cycle();
    assert_eq!((named.born(7000), beside.born(7000)), (born.clone(), born));
}
