//! The machines. Each scenario finds them as they were when they had just been made ready, whatever the one before did.

use super::clients::Watch;
use super::host::{Container, Host, program, run, script};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Instant;

/// Docker 26.1 on Debian 13, and the packages of 28.5 on its disk.
pub const LONE: Host = Host("lone");
/// The same, for scenarios in which a container moves.
pub const TRIXIE: Host = Host("trixie");
/// Docker 28.5 on Debian's next release, with its kernel.
pub const SID: Host = Host("sid");
/// Peers of each other.
pub const BOTH: [Host; 2] = [TRIXIE, SID];

/// Held by a scenario on [`LONE`]. It has nothing to do with those on [`BOTH`], one of which may go on meanwhile.
static TURN_ALONE: Mutex<()> = Mutex::new(());

/// Held by a scenario on [`BOTH`].
static TURN_OF_BOTH: Mutex<()> = Mutex::new(());

fn take(turn: &'static Mutex<()>) -> MutexGuard<'static, ()> {
    // What an earlier run has left is none of these machines.
    static FRESH: Once = Once::new();
    let guard = turn.lock().unwrap_or_else(PoisonError::into_inner);
    FRESH.call_once(|| drop(run(&["down"])));
    guard
}

/// A scenario's turn on [`LONE`], which has no container.
pub fn machine() -> MutexGuard<'static, ()> {
    let turn = take(&TURN_ALONE);
    resume_alone();
    turn
}

fn resume_alone() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        run(&["up", "lone=trixie"]);
        make_ready(LONE);
        run(&["save", "alone", LONE.0]);
    });
    resume("alone", LONE);
}

/// A scenario's turn on [`LONE`] with the engine of the Debian before it, Docker 20.10; and no container.
pub fn older_machine() -> MutexGuard<'static, ()> {
    static READY: OnceLock<()> = OnceLock::new();
    let turn = take(&TURN_ALONE);
    READY.get_or_init(|| {
        resume_alone();
        run(&["older", LONE.0]);
        bring_programs(LONE);
        run(&["save", "older", LONE.0]);
    });
    resume("older", LONE);
    turn
}

/// A scenario's turn on two machines that are peers, have a network of the same name, and no container.
pub fn pair() -> MutexGuard<'static, ()> {
    static READY: OnceLock<()> = OnceLock::new();
    let turn = take(&TURN_OF_BOTH);
    READY.get_or_init(|| {
        run(&["up", "trixie=trixie", "sid=sid"]);
        for host in BOTH {
            make_ready(host);
            host.sh("docker network create --subnet 10.60.0.0/24 front");
        }
        run(&["save", "paired", TRIXIE.0, SID.0]);
    });
    resume("paired", TRIXIE);
    turn
}

/// Has machines go on from a state, and looks how fast this one of them is just now.
pub fn resume(state: &str, host: Host) {
    run(&["resume", state]);
    let began = Instant::now();
    host.sh("n=0; while [ $n -lt 200000 ]; do n=$((n+1)); done");
    let slowness = began.elapsed().as_millis() / COUNTING_MS + 1;
    SLOWNESS.store(u32::try_from(slowness).expect("it has counted within days"), Ordering::Relaxed);
}

/// How long dash counts to 200,000 on hardware of its own.
const COUNTING_MS: u128 = 150;

static SLOWNESS: AtomicU32 = AtomicU32::new(1);

/// How many times longer things take than on a machine that is not emulated.
pub fn slowness() -> u32 {
    SLOWNESS.load(Ordering::Relaxed)
}

/// So few clients of a host's port 7000 that an emulated processor has time for something else as well; they wait as much longer
/// as it is slower.
pub fn few_clients(host: Host) -> Watch {
    let patience = (120 * slowness()).to_string();
    let few = ["--open", "2", "--pipelined", "1", "--streams", "1", "--no-new", "--patience", &patience];
    Watch::start_with(&format!("{}:7000", host.address()), &few)
}

/// All kinds of clients of a host's port but those to whom it talks all the time, with pauses in which an emulated processor
/// has time for much else; they are as patient.
pub fn unhurried_clients(host: Host, port: u16) -> Watch {
    let patience = (120 * slowness()).to_string();
    Watch::start_with(
        &format!("{}:{port}", host.address()),
        &["--streams", "0", "--pause", "200", "--patience", &patience],
    )
}

/// A container of that name on a host, at its port 7000, and what tells this run of it from any other.
pub fn start_holder<'a>(host: &'a Host, options: &str) -> (Container<'a>, String) {
    let holder = host.start("holder", &format!("{options} -p 7000:7000 programs"), "/tools/holder 7000 16");
    let born = holder.born(7000);
    (holder, born)
}

/// The image that scenarios use, and a short grace period.
fn make_ready(host: Host) {
    bring_programs(host);
    host.sh("mkdir -p /etc/transship; echo '{ \"grace_seconds\": 1 }' > /etc/transship/transship.json; \
         systemctl restart transshipd");
}

/// Makes the image that scenarios use, as small as can be.
pub fn bring_programs(host: Host) {
    let copy = |name| format!("{}:/tools/{name}", program(name).display());
    let mut copies = ["tree", "holder", "watch"].map(copy).to_vec();
    copies.extend(libraries().into_iter().map(|path| format!("{path}:{path}")));
    let mut words = vec!["image", host.0, "programs", "--tiny"];
    copies.iter().for_each(|copy| words.extend(["--copy", copy]));
    run(&words);
}

/// What the programs are linked to.
fn libraries() -> Vec<String> {
    let output = Command::new("ldd").arg(program("holder")).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("paths");
    text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

impl Host {
    /// Cuts its power, and boots it again.
    pub fn cut_and_boot(&self) {
        run(&["cut", self.0]);
        run(&["boot", self.0]);
    }

    /// Cuts its power, and boots it as another model of processor.
    pub fn cut_and_boot_as(&self, processor: &str) {
        run(&["cut", self.0]);
        let mut command = Command::new(script());
        let booted = command.args(["boot", self.0]).env("TRANSSHIP_VM_CPU", processor).output();
        let booted = booted.expect("the script runs");
        assert!(booted.status.success(), "{} does not boot as {processor}: {booted:?}", self.0);
    }

    /// Which version the engine that runs has: the client's may be another.
    pub fn engine(&self) -> String {
        self.sh("docker version --format '{{.Server.Version}}'")
    }

    /// Nothing of an operation is left (I5), and no unit has failed.
    pub fn assert_nothing_is_left(&self) {
        self.within_seconds(20, "! iptables-save | grep -q TRANSSHIP");
        // Checkpoints are compressed there for a while, after all is over.
        self.within_seconds(60, "! ls -d /var/lib/transship/staging/* 2>/dev/null");
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
