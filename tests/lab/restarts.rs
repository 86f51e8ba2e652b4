//! dockerd stops and starts while containers are away, or run on without it; and the host's other iptables.

use super::clients::{Load, Watch};
use super::lab::{Host, SID, TRIXIE, hosts};

/// The statistics of the only netfilter queue: column 3 is how many packets wait, column 8 how many ever came.
const QUEUE: &str = "/proc/net/netfilter/nfnetlink_queue";

fn assert_parked_packets_outlive_dockerds_restart(host: Host) {
    let web = host.start("web", "-p 8080:80 nginx", "nginx -g 'daemon off;'");
    host.sh("until docker exec web test -s /run/nginx.pid; do sleep 0.1; done; transship checkpoint web");
    let url = format!("http://{}:8080/", host.address());
    let visitors = [(); 5].map(|()| Load::ab("-n 4 -c 1", &url));
    host.within_seconds(10, &format!("awk '$3 >= 5 {{ waits = 1 }} END {{ exit !waits }}' {QUEUE}"));
    host.sh("service docker stop; service docker start; timeout 60 sh -c 'until docker version; do sleep 0.1; done'");
    // Packets that the kernel drops with connection tracking are counted nowhere, but do not wait any more. Others may
    // come at this very moment.
    host.within_seconds(5, &format!("awk '$8 >= 5 && $3 == $8 {{ all = 1 }} END {{ exit !all }}' {QUEUE}"));
    host.sh("transship restore web");
    visitors.into_iter().for_each(Load::end);
    drop(web);
}

/// A dockerd that starts takes its own rules away, and with them, but for the hold's own, the last that need connection
/// tracking.
#[test]
fn parked_packets_outlive_dockerds_restart() {
    let _turn = hosts();
    [SID, TRIXIE].into_iter().for_each(assert_parked_packets_outlive_dockerds_restart);
}

/// Where iptables writes to the kernel's older tables, dockerd's rules and the hold's are there.
#[test]
fn i5_i6_nobody_notices_on_a_host_with_legacy_iptables() {
    const LEGACY: Host = Host("legacy");
    let _turn = hosts();
    LEGACY.anew("trixie");
    LEGACY.sh("for tool in iptables ip6tables; do update-alternatives --set $tool /usr/sbin/$tool-legacy; done");
    // With rules by the other kind left from before, both would be in force.
    LEGACY.reboot();
    LEGACY.sh("iptables --version | grep -q legacy && iptables-legacy -t nat -S | grep -q DOCKER && ! iptables-nft -t nat -S | grep -q DOCKER");
    let web = LEGACY.start("web", "-p 8080:80 nginx", "nginx -g 'daemon off;'");
    let holder = LEGACY.start("holder", "-p 7000:7000 programs", "/tools/holder 7000 8");
    LEGACY.sh("until docker exec web test -s /run/nginx.pid; do sleep 0.1; done");
    let (born, address) = (holder.born(7000), LEGACY.address());
    let url = format!("http://{address}:8080/");
    let loads = [Load::ab("-n 4000 -c 10", &url), Load::ab("-k -n 8000 -c 10", &url)];
    let watch = Watch::start(&format!("{address}:7000"));
    for _ in 0..3 {
        web.cycle();
        holder.cycle();
        assert_eq!(holder.born(7000), born);
    }
    loads.into_iter().for_each(Load::end);
    watch.end();
    LEGACY.within_seconds(10, "! iptables-legacy-save | grep -q TRANSSHIP && ! iptables-nft-save | grep -q TRANSSHIP");
    drop(web);
    assert_parked_packets_outlive_dockerds_restart(LEGACY);
    drop(holder);
    LEGACY.down();
}

/// The engine's package with a version of its own: a patch release as far as packages go. Prints that version.
const PATCH: &str = "cd /srv/packages; list=dists/trixie/main/binary-amd64/Packages; \
    old=$(dpkg-query -W -f '${Version}' docker.io); new=$old.1; \
    dpkg-deb -R pool/docker.io_${old}_amd64.deb /tmp/patch; sed -i \"s/^Version: .*/Version: $new/\" /tmp/patch/DEBIAN/control; \
    dpkg-deb -Znone -b /tmp/patch pool/patch.deb >&2; rm -r /tmp/patch; \
    { cat $list; dpkg-deb -f pool/patch.deb; echo Filename: pool/patch.deb; echo Size: $(stat -c %s pool/patch.deb); \
      echo SHA256: $(sha256sum pool/patch.deb | cut -d ' ' -f 1); echo; } > /tmp/list; mv /tmp/list $list; \
    sum=$(sha256sum $list | cut -d ' ' -f 1); size=$(stat -c %s $list); \
    sed -i \"s/^ [0-9a-f]* [0-9]* main/ $sum $size main/\" dists/trixie/Release; \
    apt-get update >&2; echo $new";

/// Docker promises it for patch releases where `live-restore` is set: containers run on while there is no dockerd.
#[test]
fn i7_i8_live_restore_takes_containers_through_a_patch_release() {
    const LIVE: Host = Host("live");
    let _turn = hosts();
    LIVE.anew("trixie");
    LIVE.sh("mkdir -p /etc/transship; echo '{ \"grace_seconds\": 1 }' > /etc/transship/transship.json; \
             echo '{ \"live-restore\": true }' > /etc/docker/daemon.json; service docker restart; \
             service transshipd restart; until docker version; do sleep 0.1; done");
    let version = LIVE.sh(PATCH);
    let free = LIVE.start("free", "-p 7000:7000 programs", "/tools/holder 7000 8");
    // It cannot be frozen.
    let pinned = LIVE.start("pinned", "--network host programs", "/tools/holder 7001 8");
    let run = || LIVE.sh("docker inspect -f '{{.State.Pid}} {{.State.StartedAt}}' free pinned");
    let (born, before) = ((free.born(7000), pinned.born(7001)), run());
    let address = LIVE.address();
    let watches = [7000, 7001].map(|port| Watch::start(&format!("{address}:{port}")));
    let answer = LIVE.sh(&format!("transship --json upgrade --strategy live-restore --to {version} 2>/dev/null"));
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer");
    let courses = answer["containers"].as_array().expect("containers");
    assert!(courses.iter().all(|course| course["strategy"] == "live-restore"), "{answer:#}");
    let backup = |name: &str| {
        let course = courses.iter().find(|course| course["names"][0] == name).expect("its course");
        course["members"][0]["checkpoint"].is_string()
    };
    assert!(backup("free") && !backup("pinned"), "a backup where one can be made: {answer:#}");
    assert_eq!(LIVE.sh("dpkg-query -W -f '${Version}' docker.io"), version);
    assert_eq!((run(), free.born(7000), pinned.born(7001)), (before.clone(), born.0.clone(), born.1.clone()));
    // By itself it freezes what can be frozen, and leaves to Docker what cannot.
    let back = LIVE.sh(&format!("transship rollback {} --dry-run", answer["operation"]));
    assert!(back.contains("freeze") && back.contains("live-restore"), "{back}");
    LIVE.sh(&format!("transship rollback {}", answer["operation"]));
    assert_eq!((free.born(7000), pinned.born(7001)), born);
    assert_eq!(run().lines().nth(1), before.lines().nth(1));
    watches.into_iter().for_each(Watch::end);
    drop((free, pinned));
    LIVE.down();
}
