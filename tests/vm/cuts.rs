//! Power cuts in the middle of migrations and upgrades. Nobody lends a hand afterwards: each container runs once, by itself.

use super::clients::Watch;
use super::host::{Container, Host, run};
use super::machines::{BOTH, LONE, SID, TRIXIE, machine, pair, resume, slowness, start_holder};
use super::results::tried;
use std::mem::ManuallyDrop;

/// Returns when nothing is under way any more; fails the test where anything waits for a person.
fn come_to_rest(hosts: &[Host], when: &str) {
    let under_way = "grep -qE \"\\\"phase\\\": ?\\\"(running|committed|undoing)\\\"\"";
    for host in hosts {
        host.within_seconds(120, &format!("told=$(transship --json status) && ! echo \"$told\" | {under_way}"));
        let status: serde_json::Value = serde_json::from_str(&host.sh("transship --json status")).expect("JSON");
        let operations = status["operations"].as_array().expect("a list");
        assert!(operations.is_empty(), "{when}: {} waits for a person: {operations:#?}", host.0);
    }
}

/// Whether the container runs there with the memory that it was born with; nothing where it does not run.
fn lives(host: &Host, name: &'static str, born: &str) -> Option<bool> {
    let running = host.sh(&format!("docker inspect -f '{{{{.State.Running}}}}' {name} 2>/dev/null; true"));
    let container = ManuallyDrop::new(Container { host, name });
    (running == "true").then(|| container.born(7000) == born)
}

/// The restart policy that was set aside is the container's again.
fn assert_policy_is_back(host: Host, name: &str) {
    host.within_seconds(
        20,
        &format!("[ \"$(docker inspect -f '{{{{.HostConfig.RestartPolicy.Name}}}}' {name})\" = always ]"),
    );
}

/// A moment of a migration: the step that has just been done, and who has the container's memory where a host loses its power.
struct Moment {
    after: &'static str,
    /// Where it runs just then; on neither host where it stands still.
    runs_on: Option<Host>,
    /// Whether clients wait for it: it stands still, and has not been given away.
    is_frozen: bool,
    /// Whether it is whole where the destination's power is cut: it goes on at the source.
    outlives_destination: bool,
    /// Whether it is where the source's is: it goes on at the destination. Otherwise it is started afresh, as its policy says.
    outlives_source: bool,
}

const fn running(after: &'static str) -> Moment {
    Moment { after, runs_on: Some(TRIXIE), is_frozen: false, outlives_destination: true, outlives_source: false }
}

const fn frozen(after: &'static str) -> Moment {
    Moment { after, runs_on: None, is_frozen: true, outlives_destination: true, outlives_source: false }
}

const fn committed(after: &'static str) -> Moment {
    Moment { after, runs_on: None, is_frozen: false, outlives_destination: true, outlives_source: true }
}

/// Each is one of a migration of its own, and they are begun in this order. Each one's begin has the journal on disk up to there: of
/// the last one's steps a loss of power takes what it can.
const MOMENTS: [Moment; 10] = [
    // It runs at the destination by then, and ends with that as any other container there.
    Moment {
        after: "release",
        runs_on: Some(SID),
        is_frozen: false,
        outlives_destination: false,
        outlives_source: true,
    },
    committed("forward"),
    committed("commit"),
    running("expect"),
    running("pre-copy"),
    running("rounds"),
    frozen("restore"),
    frozen("ship"),
    frozen("dump"),
    frozen("freeze"),
];

/// A destination's question to its source is lost on its way.
const CANNOT_ASK: &str = "OUTPUT -p tcp --dport 7423 -j DROP";

/// A container that migrates and stands at its moment, what it was born with, and clients that wait for it.
struct Mover {
    moment: &'static Moment,
    port: usize,
    born: String,
    clients: Option<Watch>,
}

impl Mover {
    fn start(moment: &'static Moment, port: usize) -> Self {
        let options = format!("--restart always --network front -p {port}:7000 programs");
        let mover = ManuallyDrop::new(TRIXIE.start(moment.after, &options, "/tools/holder 7000 8 50"));
        Self { moment, port, born: mover.born(7000), clients: None }
    }

    /// Returns when it stands.
    fn migrate(&mut self) {
        let step = self.moment.after;
        if self.moment.is_frozen {
            let patience = (120 * slowness()).to_string();
            let few = ["--open", "1", "--pipelined", "1", "--streams", "0", "--no-new", "--patience", &patience];
            self.clients = Some(Watch::start_with(&format!("{}:{}", TRIXIE.address(), self.port), &few));
        }
        TRIXIE.stand_after("migrate", step);
        TRIXIE.begin_as(step, &format!("migrate {step} --to sid --mode pre-copy"));
        TRIXIE.stands_after(step, step);
    }

    /// One copy runs, wherever its memory is kept with that, as its policy says.
    fn assert_one_runs(&self, when: &str, is_whole: bool) {
        let name = self.moment.after;
        let copies = BOTH.map(|host| lives(&host, name, &self.born));
        eprintln!("{when} after {name}: on {} {:?}, on {} {:?}", TRIXIE.0, copies[0], SID.0, copies[1]);
        assert_eq!(copies.iter().flatten().count(), 1, "I1: {when} after {name}: {copies:?}");
        assert!(!is_whole || copies.contains(&Some(true)), "{when} after {name}: {copies:?}");
        assert_policy_is_back(if copies[0].is_some() { TRIXIE } else { SID }, name);
    }
}

/// The containers of which a process is neither frozen nor stopped, but goes on.
fn going_on(host: Host) -> Vec<String> {
    let names = host.sh("docker ps -a --no-trunc --format '{{.ID}} {{.Names}}' | while read -r id name; do \
         cd /sys/fs/cgroup/system.slice/docker-$id.scope 2>/dev/null || continue; \
         ! grep -qx 'frozen 1' cgroup.events || continue; \
         ! cat $(sed 's|.*|/proc/&/status|' cgroup.procs) /dev/null | grep -q '^State:.*[RSD] (' || echo $name; done");
    names.lines().map(str::to_owned).collect()
}

/// While they stand: who has not been frozen goes on at the source, who has been released at the destination, and nobody else
/// anywhere, whatever comes next.
fn assert_nobody_else_goes_on(movers: &[Mover]) {
    for host in BOTH {
        let (mut found, of_host) = (going_on(host), |mover: &&Mover| mover.moment.runs_on == Some(host));
        let mut expected: Vec<_> = movers.iter().filter(of_host).map(|mover| mover.moment.after.to_owned()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "I1, I2: on {}", host.0);
    }
}

/// Nothing of the migrations is left on either host, but for the way to what has moved, which a person ends.
fn assert_nothing_is_left() {
    for host in BOTH {
        host.end_forwards();
        host.assert_nothing_is_left();
        assert_eq!(host.sh("ls /var/lib/transship/checkpoints"), "", "{}", host.0);
    }
}

/// Ten migrations stand at ten moments. The destination loses its power; and then, from the same state on, the source.
#[test]
fn i1_i2_i3_i5_a_power_cut_of_either_host_at_any_moment_of_a_migration_leaves_one_copy_running() {
    let _turn = pair();
    let _tried = tried("a power cut of either host at ten moments of a migration", &BOTH);
    TRIXIE.make_stand();
    let mut movers: Vec<_> = MOMENTS.iter().zip(7000..).map(|(moment, port)| Mover::start(moment, port)).collect();
    BOTH.into_iter().for_each(|host| drop(host.sh("sync")));
    // Otherwise it would have heard of a commit before all of them stand.
    SID.sh(&format!("iptables -I {CANNOT_ASK}"));
    movers.iter_mut().for_each(Mover::migrate);
    assert_nobody_else_goes_on(&movers);
    run(&["save", "standing", TRIXIE.0, SID.0]);

    let when = "the destination was cut";
    run(&["cut", SID.0]);
    TRIXIE.go_on_to_the_end(&MOMENTS.each_ref().map(|moment| moment.after));
    run(&["boot", SID.0]);
    come_to_rest(&BOTH, when);
    movers.iter().for_each(|mover| mover.assert_one_runs(when, mover.moment.outlives_destination));
    movers.iter_mut().filter_map(|mover| mover.clients.take()).for_each(Watch::end);
    assert_nothing_is_left();

    let when = "the source was cut";
    resume("standing", TRIXIE);
    SID.sh(&format!("iptables -D {CANNOT_ASK}"));
    TRIXIE.cut_and_boot();
    come_to_rest(&BOTH, when);
    movers.iter().for_each(|mover| mover.assert_one_runs(when, mover.moment.outlives_source));
    assert_nothing_is_left();
}

/// Cuts the power in an upgrade, and boots. It goes on by itself: the container runs, packages and engine are of one version, and
/// who stood frozen on the disk has its memory.
fn cut_an_upgrade(when: &str, is_frozen: bool, born: &str) {
    LONE.cut_and_boot();
    come_to_rest(&[LONE], when);
    let (engine, package) = (LONE.engine(), LONE.sh("dpkg-query -W -f '${Version}' docker.io"));
    let lives = lives(&LONE, "holder", born);
    eprintln!("cut {when}: Docker {engine} of {package}, {lives:?}");
    assert!(package.starts_with(engine.split('+').next().unwrap_or_default()), "{when}: Docker {engine} of {package}");
    assert!(if is_frozen { lives == Some(true) } else { lives.is_some() }, "{when}: {lives:?}");
    assert_policy_is_back(LONE, "holder");
    LONE.assert_nothing_is_left();
}

/// A container that is to be there after the cuts, and what it was born with.
fn start_lasting_holder() -> String {
    let (holder, born) = start_holder(&LONE, "--restart always");
    let _stays = ManuallyDrop::new(holder);
    LONE.sh("sync");
    born
}

#[test]
fn i1_i5_an_upgrade_ends_well_after_a_power_cut_in_the_middle_of_a_package() {
    let _turn = machine();
    let _tried = tried("a power cut while the engine's packages are half installed", &[LONE]);
    let born = start_lasting_holder();
    LONE.begin_as("upgrade", "upgrade --to 28.5");
    LONE.reach("upgrade", "dpkg --audit | grep -q .");
    cut_an_upgrade("half way through the packages", false, &born);
}

/// Cuts the power after steps of one upgrade, of which each says whether the container is frozen then.
fn cut_an_upgrade_after(moments: &[(&str, bool)]) {
    let born = start_lasting_holder();
    LONE.make_stand();
    moments.iter().for_each(|(step, _)| LONE.stand_after("upgrade", step));
    LONE.begin_as("upgrade", "upgrade --to 28.5");
    for (number, (step, is_frozen)) in moments.iter().enumerate() {
        if number > 0 {
            resume(moments[number - 1].0, LONE);
            LONE.go_on(moments[number - 1].0);
        }
        LONE.stands_after("upgrade", step);
        run(&["save", step, LONE.0]);
        cut_an_upgrade(&format!("after {step}"), *is_frozen, &born);
    }
}

#[test]
fn i1_i5_an_upgrade_ends_well_after_a_power_cut_before_anybody_is_frozen() {
    let _turn = machine();
    let _tried = tried("a power cut at four moments of an upgrade before the freeze", &[LONE]);
    cut_an_upgrade_after(&["fetch", "drain", "prepare", "install"].map(|step| (step, false)));
}

#[test]
fn i1_i3_i8_an_upgrade_ends_well_after_a_power_cut_from_the_freeze_on() {
    let _turn = machine();
    let _tried = tried("a power cut at five moments of an upgrade from the freeze on", &[LONE]);
    let runs_again = ["restore", "verify", "tidy"].map(|step| (step, false));
    cut_an_upgrade_after(&[&[("freeze", true), ("restart", true)][..], &runs_again].concat());
}
