//! The machine.

use super::host::{Host, program, run};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Docker 26.1 on Debian 13, and the packages of 28.5 on its disk.
pub const MACHINE: Host = Host("machine");

/// A scenario's turn on the machine, which has no container.
pub fn machine() -> MutexGuard<'static, ()> {
    static UP: OnceLock<()> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    UP.get_or_init(|| {
        run(&["up", "machine=trixie"]);
        make_images();
        MACHINE.sh("mkdir -p /etc/transship; echo '{ \"grace_seconds\": 1 }' > /etc/transship/transship.json; \
             systemctl restart transshipd");
    });
    // What a scenario that failed may have left.
    run(&["boot", "machine"]);
    MACHINE.sh("docker ps -aq | xargs -r docker rm -f >/dev/null; \
         for id in $(ls /var/lib/transship/checkpoints); do transship rm --force $id >/dev/null; done");
    turn
}

fn make_images() {
    let copy = |name| format!("{}:/tools/{name}", program(name).display());
    let copies = [copy("tree"), copy("holder"), copy("watch")];
    let mut words = vec!["image", MACHINE.0, "programs"];
    copies.iter().for_each(|copy| words.extend(["--copy", copy]));
    words.push("busybox-static");
    run(&words);
    run(&["image", MACHINE.0, "redis", "redis-server"]);
}

impl Host {
    /// Cuts its power, and boots it again.
    pub fn cut_and_boot(&self) {
        run(&["cut", self.0]);
        run(&["boot", self.0]);
    }

    /// Which version the engine that runs has: the client's may be another.
    pub fn engine(&self) -> String {
        self.sh("docker version --format '{{.Server.Version}}'")
    }

    /// Nothing of an operation is left (I5), and no unit has failed.
    pub fn assert_nothing_is_left(&self) {
        self.within_seconds(20, "! iptables-save | grep -q TRANSSHIP");
        // Checkpoints are compressed there for a while, after all is over.
        self.within_seconds(120, "! ls -d /var/lib/transship/staging/* 2>/dev/null");
        for gone in ["/usr/sbin/policy-rc.d", "/var/lib/transship/claims/*"] {
            assert!(!self.try_sh(&format!("ls -d {gone}")).status.success(), "{gone} is left");
        }
        assert_eq!(self.sh("dpkg --audit"), "", "no package is half way");
        assert_eq!(self.sh("systemctl --failed --plain --no-legend"), "", "no unit has failed");
        assert_eq!(
            self.sh("systemctl is-active docker.service docker.socket containerd transshipd | sort -u"),
            "active"
        );
    }
}
