//! How the images of containers that move come to where those go.

use super::host::run;
use super::lab::{BOTH, Container, FAILPOINTS, SID, TRIXIE, paired_hosts};
use super::migrations::{leftovers, migration_on, whereabouts};
use std::time::{Duration, Instant};

/// A registry on a host, which both hosts ask without TLS, until it is dropped.
struct Registry {
    /// Where it is asked.
    host: String,
}

impl Registry {
    fn start() -> Self {
        run(&["image", "sid", "registry", "docker-registry"]);
        let host = format!("{}:5000", SID.address());
        for lab in BOTH {
            lab.sh(&format!(
                "mkdir -p /etc/docker; echo '{{ \"insecure-registries\": [\"{host}\"] }}' > /etc/docker/daemon.json; \
                 kill -HUP $(cat /var/run/docker.pid)"
            ));
            lab.within_seconds(10, &format!("docker info -f '{{{{json .RegistryConfig}}}}' | grep -q {host}"));
        }
        let registry = Self { host };
        registry.serve();
        registry
    }

    /// What it has is in a volume.
    fn serve(&self) {
        SID.sh("docker run -d --name registry --network host -v registry:/registry registry sh -c \
             'printf \"version: 0.1\\nstorage:\\n  filesystem: { rootdirectory: /registry }\\nhttp:\\n  addr: :5000\\n\" \
              > /tmp/config.yml; exec docker-registry serve /tmp/config.yml'");
        SID.within_seconds(20, &format!("curl -s -o /dev/null http://{}/v2/", self.host));
    }

    /// An image that only SID and the registry have, with a container made from it: the image's id, and its name by digest.
    fn image_of<'a>(&self, container: &'a str) -> (Container<'a>, String, String) {
        let name = format!("{}/team/{container}:1", self.host);
        SID.sh(&format!(
            "docker run --name part programs sh -c 'head -c 3000000 /dev/urandom > /only-here' && \
             docker commit part {name} && docker rm part && docker push {name}"
        ));
        let started = SID.start(container, &format!("-p 7000:7000 {name}"), "/tools/holder 7000 8");
        let image = SID.sh(&format!("docker inspect -f '{{{{.Image}}}}' {container}"));
        let by_digest = SID.sh(&format!("docker image inspect -f '{{{{index .RepoDigests 0}}}}' {name}"));
        (started, image, by_digest)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for lab in BOTH {
            lab.try_sh("docker rm -f registry; docker volume rm registry; rm -f /etc/docker/daemon.json; kill -HUP $(cat /var/run/docker.pid)");
            lab.try_sh(&format!(
                "docker ps -aq | xargs -r docker rm -f; docker images -q {}/team/* | xargs -r docker rmi -f; \
                 docker image prune -f",
                self.host
            ));
        }
    }
}

/// What a host has of an image that came for nothing: its id, its name, and what was noted of it.
fn left_of(image: &str, by_digest: &str) -> String {
    TRIXIE.sh(&format!(
        "docker images -aq --no-trunc | grep {image}; docker image inspect -f '{{{{.Id}}}}' {by_digest} 2>/dev/null; \
         ls /var/lib/transship/handovers | grep brought; true"
    ))
}

fn migrate(options: &str) -> (Option<i32>, String) {
    let output = SID.try_sh(&format!("transship migrate {options} --to trixie 2>&1"));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Has the container be taken back when its image is there; what the migration told.
fn migrate_for_nothing(name: &str) -> String {
    TRIXIE.sh(&format!("echo 'arrive/make/after error' > {FAILPOINTS}"));
    let (code, told) = migrate(name);
    assert_eq!(code, Some(1), "{told}");
    told
}

#[test]
fn i4_i5_an_image_is_pulled_by_its_digest_and_goes_again_where_the_migration_comes_to_nothing() {
    let _turn = paired_hosts();
    let registry = Registry::start();
    let (container, image, by_digest) = registry.image_of("pulled");
    let born = container.born(7000);
    let told = SID.sh("transship check pulled --to trixie --no-canary");
    assert!(told.contains(&format!("trixie pulls {by_digest}")), "{told}");
    assert_eq!(left_of(&image, &by_digest), "", "it was only asked for");

    TRIXIE.heed_failpoints();
    let told = migrate_for_nothing("pulled");
    assert!(told.contains("trixie pulls the image") && !told.contains("sending the image"), "{told}");
    TRIXIE.forget_failpoints();
    assert_eq!(left_of(&image, &by_digest), "", "it was pulled for nothing");
    assert_eq!(container.born(7000), born);

    let (code, told) = migrate("pulled");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("trixie pulls the image") && !told.contains("sending the image"), "{told}");
    let there = Container { host: &TRIXIE, name: "pulled" };
    assert_eq!(there.born(7000), born);
    assert_eq!(TRIXIE.sh(&format!("docker image inspect -f '{{{{.Id}}}}' {by_digest}")), image);
    assert_eq!(TRIXIE.sh("docker inspect -f '{{.Image}}' pulled"), image);
    assert_eq!(TRIXIE.sh("ls /var/lib/transship/handovers | grep -c brought; true"), "0");
    BOTH.into_iter().for_each(|host| assert_eq!(leftovers(host), "0", "{}", host.0));
}

#[test]
fn an_image_that_cannot_be_pulled_is_sent_and_a_registry_that_says_nothing_is_waited_for_once() {
    let _turn = paired_hosts();
    let registry = Registry::start();
    let (container, image, by_digest) = registry.image_of("sent");
    let born = container.born(7000);
    // Its registry has it no more.
    SID.sh("docker rm -f registry; docker volume rm registry");
    registry.serve();
    TRIXIE.heed_failpoints();
    for (what, refusing) in [("gone from its registry", "true"), ("no registry any more", "docker rm -f registry")] {
        SID.sh(refusing);
        let told = migrate_for_nothing("sent");
        assert!(
            told.contains("trixie does not pull the image") && told.contains("sending the image"),
            "{what}: {told}"
        );
        assert_eq!(left_of(&image, &by_digest), "", "{what}");
    }
    let silence = ["-I", "-D"].map(|change| format!("iptables {change} OUTPUT -p tcp --dport 5000 -j DROP"));
    TRIXIE.sh(&silence[0]);
    let mut took = [Duration::ZERO; 2];
    for took in &mut took {
        let begun = Instant::now();
        let told = migrate_for_nothing("sent");
        *took = begun.elapsed();
        assert!(told.contains("has not answered") && told.contains("sending the image"), "{told}");
    }
    assert!(took[0] > Duration::from_secs(10) && took[1] < Duration::from_secs(10), "{took:?}");
    TRIXIE.forget_failpoints();
    TRIXIE.sh(&silence[1]);
    // The helper was started again, and remembers no silence.
    TRIXIE.sh("mkdir -p /etc/transship; echo '{ \"pull_seconds\": 0 }' > /etc/transship/transship.json; \
         service transshipd restart");
    let (code, told) = migrate("sent --dry-run");
    assert!(code == Some(0) && told.contains("no images are pulled there"), "{told}");
    let (code, told) = migrate("sent");
    TRIXIE.sh("rm /etc/transship/transship.json; service transshipd restart");
    assert!(code == Some(0) && told.contains("sending the image") && !told.contains("pull"), "{told}");
    let there = Container { host: &TRIXIE, name: "sent" };
    assert_eq!(there.born(7000), born);
}

/// A source that is wrong, or lies, about what its image is called.
#[test]
fn i4_i5_what_was_pulled_and_is_another_image_goes_and_the_right_one_is_sent() {
    let _turn = paired_hosts();
    let registry = Registry::start();
    let (other, _, by_digest) = registry.image_of("other");
    drop(other);
    SID.sh("docker run --name part programs true && docker commit part only-here && docker rm part");
    let image = SID.sh("docker image inspect -f '{{.Id}}' only-here");
    // dockerd believes what it has written down.
    SID.sh(&format!(
        "docker rm -f registry; service docker stop; \
         sed -i 's,\"{by_digest}\":\"[^\"]*\",\"{by_digest}\":\"{image}\",' /var/lib/docker/image/overlay2/repositories.json; \
         service docker start"
    ));
    SID.within_seconds(30, "docker info >/dev/null 2>&1");
    registry.serve();
    let container = SID.start("lying", "-p 7000:7000 only-here", "/tools/holder 7000 8");
    let born = container.born(7000);
    let (code, told) = migrate("lying");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{by_digest} is another image")) && told.contains("sending the image"), "{told}");
    let there = Container { host: &TRIXIE, name: "lying" };
    assert_eq!(there.born(7000), born);
    assert_eq!(TRIXIE.sh("docker inspect -f '{{.Image}}' lying"), image);
    assert!(!TRIXIE.try_sh(&format!("docker image inspect {by_digest}")).status.success(), "it was pulled for nothing");
    drop(there);
    SID.sh("docker rmi -f only-here");
}

#[test]
fn i5_a_migration_that_is_cancelled_while_its_image_is_pulled_leaves_nothing_and_waits_for_nothing() {
    let _turn = paired_hosts();
    let registry = Registry::start();
    let (container, image, by_digest) = registry.image_of("kept");
    let born = container.born(7000);
    // What it is made of is told, and then nothing comes.
    let silence = ["-I", "-D"]
        .map(|change| format!("iptables {change} OUTPUT -p tcp --sport 5000 -m length --length 1400:65535 -j DROP"));
    SID.sh(&silence[0]);
    let mut migrating = SID.begin("transship migrate kept --to trixie");
    TRIXIE.within_seconds(60, "ls /var/lib/transship/handovers | grep -q brought && ss -tn | grep -q :5000");
    SID.sh(&format!("transship cancel {}", migration_on(SID)));
    assert_eq!(migrating.wait().expect("the migration ends").code(), Some(1));
    TRIXIE.within_seconds(
        5,
        "grep -q 'it is not wanted any more' /var/log/transshipd.log && ! ls /var/lib/transship/handovers | grep brought",
    );
    SID.sh(&silence[1]);
    assert_eq!(left_of(&image, &by_digest), "");
    assert_eq!(whereabouts("kept"), SID);
    assert_eq!(container.born(7000), born);
}

#[test]
fn i7_a_migration_that_fails_does_not_take_the_image_from_another_that_needs_it() {
    let _turn = paired_hosts();
    SID.sh("docker run --name part programs true && docker commit part only-here && docker rm part");
    let image = SID.sh("docker image inspect -f '{{.Id}}' only-here");
    let failing = SID.start("failing", "-p 7000:7000 only-here", "/tools/holder 7000 8");
    let going = SID.start("going", "-p 7001:7001 only-here", "/tools/holder 7001 8");
    let born = [failing.born(7000), going.born(7001)];
    TRIXIE.heed_failpoints();
    // One stands before its container is made, and fails thereafter; the other one's is not made by then either.
    let stand = |name: &str| {
        format!("arrive/make/before exec touch /root/{name}; until [ -e /root/go-{name} ]; do sleep 0.1; done")
    };
    TRIXIE.sh(&format!(
        "rm -f /root/first /root/second /root/go-*; \
         printf '%s\\n' '{}' '{}' 'arrive/make/after error' > {FAILPOINTS}",
        stand("first"),
        stand("second")
    ));
    let mut migrating = SID.begin("transship migrate failing --to trixie");
    TRIXIE.within_seconds(60, "[ -e /root/first ]");
    let mut other = SID.begin("transship migrate going --to trixie");
    TRIXIE.within_seconds(60, "[ -e /root/second ]");
    TRIXIE.sh("touch /root/go-first");
    assert_eq!(migrating.wait().expect("the migration ends").code(), Some(1));
    assert!(TRIXIE.sh("docker images -aq --no-trunc").contains(&image), "the other one needs it");
    TRIXIE.sh("touch /root/go-second");
    assert_eq!(other.wait().expect("the migration ends").code(), Some(0));
    TRIXIE.forget_failpoints();
    assert_eq!(failing.born(7000), born[0]);
    let there = Container { host: &TRIXIE, name: "going" };
    assert_eq!(there.born(7001), born[1]);
    drop((there, failing, going));
    TRIXIE.sh("docker image prune -f");
    SID.sh("docker rmi only-here");
    assert_eq!(TRIXIE.sh("ls /var/lib/transship/handovers | grep -c brought; true"), "0");
}
