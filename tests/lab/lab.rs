//! The lab's hosts, and what only they are asked.

use super::host::run;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub use super::host::{Container, FAILPOINTS, Host, program};

/// Docker 28.5.
pub const SID: Host = Host("sid");
/// Docker 26.1.
pub const TRIXIE: Host = Host("trixie");
/// Docker 26.1, and the packages for another on its disk.
pub const UPGRADED: Host = Host("upgraded");
/// Docker 28.5, for journeys over more than two hosts.
pub const THIRD: Host = Host("third");
/// Both engines.
pub const BOTH: [Host; 2] = [SID, TRIXIE];

/// The images that scenarios use.
fn make_images(host: Host) {
    let copy = |name| format!("{}:/tools/{name}", program(name).display());
    let copies = [copy("tree"), copy("holder"), copy("watch")];
    let mut words = vec!["image", host.0, "programs"];
    copies.iter().for_each(|copy| words.extend(["--copy", copy]));
    words.push("busybox-static");
    run(&words);
    run(&["image", host.0, "redis", "redis-server"]);
    run(&["image", host.0, "nginx", "nginx-light"]);
}

/// The host whose engine scenarios upgrade, with a short grace period and no container; the turn is theirs by [`hosts`].
/// One that a failed scenario has left with another engine, or with an unfinished upgrade, starts afresh.
pub fn upgraded_host() {
    let usable = "docker version -f '{{.Server.Version}}' | grep -q '^26' && ! transship status | grep -q ^operation \
                  && [ -e /etc/transship/transship.json ] && [ ! -e /root/failpoints ] && ! mountpoint -q /mnt";
    if !UPGRADED.try_sh(usable).status.success() {
        UPGRADED.anew("trixie");
        UPGRADED.sh("mkdir -p /etc/transship; echo '{ \"grace_seconds\": 1 }' > /etc/transship/transship.json; \
             service transshipd restart");
    }
    UPGRADED.sh("docker ps -aq | xargs -r docker rm -f >/dev/null");
    // What has come back from a peer leaves a way for connections that were open then.
    UPGRADED.end_forwards();
}

impl Host {
    /// No operation is open within so many seconds. A helper that is being started again does not say so.
    pub fn comes_to_rest(&self, seconds: u32) {
        self.within_seconds(seconds, "told=$(transship status) && ! echo \"$told\" | grep -q ^operation");
    }

    /// Brought up from its release's root, with whatever was before gone.
    pub fn anew(self, release: &str) {
        run(&["down", self.0]);
        run(&["up", &format!("{}={release}", self.0)]);
        make_images(self);
    }

    /// Taken down: nobody else uses it.
    pub fn down(self) {
        run(&["down", self.0]);
    }
}

/// The hosts, for one scenario at a time.
pub fn hosts() -> MutexGuard<'static, ()> {
    static UP: OnceLock<()> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    UP.get_or_init(|| {
        run(&["up", "sid=sid", "trixie=trixie"]);
        BOTH.into_iter().for_each(make_images);
    });
    for host in BOTH {
        host.sh("docker ps -aq | xargs -r docker rm -f >/dev/null; \
             for id in $(ls /var/lib/transship/checkpoints); do transship rm --force $id >/dev/null; done");
        // They would lead the visitors of the next scenario's ports as well.
        host.end_forwards();
    }
    turn
}

/// The hosts, with a network that both have; nothing of earlier migrations is left.
pub fn paired_hosts() -> MutexGuard<'static, ()> {
    let turn = hosts();
    for host in BOTH {
        // A scenario that has failed may have left them.
        host.sh(&format!(
            "[ ! -e {FAILPOINTS} ] || {{ rm -f {FAILPOINTS} /etc/default/transshipd; service transshipd restart; }}"
        ));
    }
    for host in BOTH {
        host.sh("docker volume ls -q | xargs -r docker volume rm >/dev/null; \
             docker network inspect front >/dev/null 2>&1 || docker network create --subnet 10.60.0.0/24 front");
    }
    turn
}

/// One more host, with the images and the network of the others.
pub fn third_host() {
    THIRD.anew("sid");
    THIRD.sh("docker network create --subnet 10.60.0.0/24 front");
}

impl Host {
    /// Cuts its power and boots it again.
    pub fn reboot(&self) {
        run(&["reboot", self.0]);
    }
}

impl Container<'_> {
    /// Asks the watcher in it whether any of its connections noticed anything but a pause.
    pub fn assert_nothing_noticed(&self, control: u16) {
        let ask = format!("docker exec {} /tools/watch 127.0.0.1:{control} --ask report", self.name);
        super::clients::assert_nothing_noticed(&self.host.sh(&ask));
    }
}
