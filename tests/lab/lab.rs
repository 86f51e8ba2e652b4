//! Hosts, containers, and what is asked of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Docker 28.5.
pub const SID: Host = Host("sid");
/// Docker 26.1.
pub const TRIXIE: Host = Host("trixie");
/// Docker 26.1, and the packages for another on its disk.
pub const UPGRADED: Host = Host("upgraded");
/// Both engines.
pub const BOTH: [Host; 2] = [SID, TRIXIE];

/// A lab host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host(pub &'static str);

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab")
}

/// A program of tests/programs, as cargo has built it beside this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    profile.join("examples").join(name)
}

/// Runs scripts/lab; fails the test where it fails.
fn run(words: &[&str]) -> String {
    told(&format!("lab {}", words.join(" ")), &Command::new(script()).args(words).output().expect("scripts/lab"))
}

fn told(what: &str, output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out.trim().to_owned()
}

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
}

impl Host {
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
        host.sh("for c in $(transship --json forward ls | grep -o '\"container\":\"[^\"]*' | cut -d '\"' -f 4); do \
             transship forward rm $c; done; docker volume ls -q | xargs -r docker volume rm >/dev/null; \
             docker network inspect front >/dev/null 2>&1 || docker network create --subnet 10.60.0.0/24 front");
    }
    turn
}

impl Host {
    /// Runs a shell script in the host and returns what it printed; fails the test where it fails.
    pub fn sh(&self, script: &str) -> String {
        told(script, &self.try_sh(script))
    }

    /// Runs a shell script in the host, whatever comes of it.
    pub fn try_sh(&self, text: &str) -> Output {
        let mut command = Command::new(script());
        command.args(["exec", self.0, "sh", "-c", text]).stdin(Stdio::null());
        command.output().expect("scripts/lab exec")
    }

    /// Runs a shell condition again and again until it holds; fails the test where it never does.
    pub fn within_seconds(&self, seconds: u32, condition: &str) {
        self.sh(&format!(
            "timeout {seconds} sh -c 'until eval \"$1\"; do :; done' - '{}'",
            condition.replace('\'', "'\\''")
        ));
    }

    /// Cuts its power and boots it again.
    pub fn reboot(&self) {
        run(&["reboot", self.0]);
    }

    /// Runs a shell script in the host, and does not wait for it.
    pub fn begin(&self, text: &str) -> std::process::Child {
        let mut command = Command::new(script());
        command.args(["exec", self.0, "sh", "-c", text]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("scripts/lab exec")
    }

    /// Its address on the clients' segment.
    pub fn address(&self) -> String {
        run(&["ip", self.0])
    }

    /// Starts a container of the image with the test programs.
    pub fn start<'a>(&'a self, name: &'a str, options: &str, command: &str) -> Container<'a> {
        self.sh(&format!("docker run -d --name {name} {options} {command}"));
        Container { host: self, name }
    }
}

/// Where the helper looks for its failpoints, once it heeds them.
pub const FAILPOINTS: &str = "/root/failpoints";

impl Host {
    /// The helper fails where [`FAILPOINTS`] says from now on.
    pub fn heed_failpoints(&self) {
        self.sh(&format!(
            "touch {FAILPOINTS}; echo TRANSSHIP_FAILPOINTS={FAILPOINTS} > /etc/default/transshipd; service transshipd restart"
        ));
    }

    /// It does not any more.
    pub fn forget_failpoints(&self) {
        self.sh(&format!("rm /etc/default/transshipd {FAILPOINTS}; service transshipd restart"));
    }

    /// The names of an operation's steps, as a run tells them: a new step is not forgotten.
    pub fn steps_of(&self, command: &str) -> Vec<String> {
        let lines = self.sh(&format!("transship --json {command} 2>&1 >/dev/null"));
        let messages = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let steps = messages.filter(|message| message["type"] == "step");
        steps.map(|step| step["name"].as_str().expect("a name").to_owned()).collect()
    }
}

/// A container that is removed with its scenario.
pub struct Container<'a> {
    pub host: &'a Host,
    pub name: &'a str,
}

impl Container<'_> {
    /// Freezes it and brings it back.
    pub fn cycle(&self) {
        self.host.sh(&format!("transship checkpoint {0} && transship restore {0}", self.name));
    }

    /// Asks the program in it, from inside: `ok born=...` is the answer of one that is as it should be.
    pub fn check(&self, port: u16) -> String {
        let ask = format!("docker exec {} /tools/watch 127.0.0.1:{port} --ask check", self.name);
        // A program that has just been started listens in a moment.
        let answer =
            self.host.sh(&format!("n=0; until {ask}; do n=$((n+1)); [ $n -lt 100 ] || exit 1; done 2>/dev/null"));
        assert!(answer.starts_with("ok "), "{}: {answer}", self.name);
        answer
    }

    /// Asks the watcher in it whether any of its connections noticed anything but a pause.
    pub fn assert_nothing_noticed(&self, control: u16) {
        let ask = format!("docker exec {} /tools/watch 127.0.0.1:{control} --ask report", self.name);
        super::clients::assert_nothing_noticed(&self.host.sh(&ask));
    }

    /// What tells this program's run from any other: a cold start has another.
    pub fn born(&self, port: u16) -> String {
        let answer = self.check(port);
        answer.split_whitespace().find(|word| word.starts_with("born=")).expect("born=").to_owned()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.host.try_sh(&format!("docker rm -f {}", self.name));
    }
}
