//! Hosts, containers, and what is asked of them: for hosts of scripts/lab and of scripts/vm alike. Which it is says
//! the test's `SCRIPT`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host(pub &'static str);

/// Where the helper looks for its failpoints, once it heeds them.
pub const FAILPOINTS: &str = "/root/failpoints";

/// What makes the hosts.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(crate::SCRIPT)
}

/// A program of tests/programs, as cargo has built it beside this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    profile.join("examples").join(name)
}

/// Runs the script; fails the test where it fails.
pub fn run(words: &[&str]) -> String {
    told(
        &format!("{} {}", crate::SCRIPT, words.join(" ")),
        &Command::new(script()).args(words).output().expect("the script runs"),
    )
}

fn told(what: &str, output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out.trim().to_owned()
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
        command.output().expect("the script runs")
    }

    /// Runs a shell script in the host, and does not wait for it.
    pub fn begin(&self, text: &str) -> Child {
        let mut command = Command::new(script());
        command.args(["exec", self.0, "sh", "-c", text]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the script runs")
    }

    /// Runs a shell condition again and again until it holds; fails the test where it never does. Seconds are those of a
    /// machine that is not emulated.
    pub fn within_seconds(&self, seconds: u32, condition: &str) {
        let seconds = seconds * crate::slowness();
        self.sh(&format!(
            "timeout {seconds} sh -c 'until eval \"$1\"; do sleep 0.1; done' - '{}'",
            condition.replace('\'', "'\\''")
        ));
    }

    /// Ends what leads visitors after containers that have moved, as an operator does. Ways that only open connections went by
    /// are ended when they are listed.
    pub fn end_forwards(&self) {
        self.sh(
            "for container in $(transship --json forward ls | grep -o '\"container\":\"[^\"]*' | cut -d '\"' -f 4 | sort -u); do \
             transship forward rm $container; done",
        );
    }

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
        // A program that has just been started listens in a moment, and one that stands still is asked until it goes on. What
        // docker says of a try that fails is no answer.
        let answer = self.host.sh(&format!(
            "n=0; until answer=$({ask} 2>/dev/null); do n=$((n+1)); [ $n -lt 100 ] || exit 1; done; echo \"$answer\""
        ));
        assert!(answer.starts_with("ok "), "{}: {answer}", self.name);
        answer
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
