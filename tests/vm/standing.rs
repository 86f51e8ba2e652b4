//! Operations that stand still after steps of theirs, until they are to go on or the power is cut.

use super::host::{FAILPOINTS, Host};

impl Host {
    /// From now on operations stand where [`Host::stand_after`] says; not after a boot.
    pub fn make_stand(&self) {
        self.sh("ln -s /run/failpoints /root/failpoints");
        self.heed_failpoints();
    }

    /// The first operation of this kind that has done this step stands still then, for [`Host::go_on`].
    pub fn stand_after(&self, kind: &str, step: &str) {
        self.sh(&format!(
            "mkfifo /run/{step}.go; \
             echo '{kind}/{step}/after exec touch /run/{step}.there; read go < /run/{step}.go' >> {FAILPOINTS}"
        ));
    }

    /// Begins an operation and does not wait for its end; it has a name for the functions below.
    pub fn begin_as(&self, name: &str, command: &str) {
        self.sh(&format!(
            "setsid sh -c 'transship {command} >/run/{name}.said 2>&1; touch /run/{name}.ended' >/dev/null 2>&1 </dev/null &"
        ));
    }

    /// Returns when the condition holds; fails the test where the operation ends before.
    pub fn reach(&self, name: &str, condition: &str) {
        self.within_seconds(120, &format!("{condition} || [ -e /run/{name}.ended ]"));
        self.sh(&format!("[ ! -e /run/{name}.ended ] || {{ cat /run/{name}.said; exit 1; }}"));
    }

    /// Returns when the operation stands after this step.
    pub fn stands_after(&self, name: &str, step: &str) {
        self.reach(name, &format!("[ -e /run/{step}.there ]"));
    }

    /// What stands after this step goes on to the next after which it is to stand.
    pub fn go_on(&self, step: &str) {
        self.sh(&format!("echo go > /run/{step}.go"));
    }

    /// What stands after these steps goes on, and stands no more.
    pub fn go_on_to_the_end(&self, steps: &[&str]) {
        self.sh(&format!("truncate -s 0 {FAILPOINTS}"));
        steps.iter().for_each(|step| self.go_on(step));
    }

    /// What the operation has said, when it has ended.
    pub fn said_at_its_end(&self, name: &str) -> String {
        self.within_seconds(300, &format!("[ -e /run/{name}.ended ]"));
        self.sh(&format!("cat /run/{name}.said"))
    }
}
