//! Power cuts in the middle of migrations and upgrades. Nobody lends a hand afterwards: each container runs once, by itself.

use super::host::{Container, FAILPOINTS, Host, run};
use super::machines::{BOTH, SID, TRIXIE, machine, pair, resume};
use super::results::tried;
use std::mem::ManuallyDrop;

/// Begins an operation on TRIXIE that does not wait for its end.
fn begin(command: &str) {
    TRIXIE.sh(&format!(
        "setsid sh -c 'transship {command} >/run/said 2>&1; touch /run/ended' >/dev/null 2>&1 </dev/null &"
    ));
}

/// Returns when the condition holds; fails the test where the operation ends before.
fn reach(condition: &str) {
    TRIXIE.within_seconds(120, &format!("{condition} || [ -e /run/ended ]"));
    TRIXIE.sh("[ ! -e /run/ended ] || { cat /run/said; exit 1; }");
}

/// Begins an operation of this kind that stands still after each of these steps of it: for [`go_on`], or for the power cut, after
/// which nothing stands any more.
fn begin_and_stand_after(kind: &str, steps: &[&str], command: &str) {
    TRIXIE.sh("mkfifo /run/go; ln -s /run/failpoints /root/failpoints");
    TRIXIE.heed_failpoints();
    for step in steps {
        TRIXIE.sh(&format!(
            "echo '{kind}/{step}/after exec echo {step} > /run/there; read go < /run/go' >> {FAILPOINTS}"
        ));
    }
    begin(command);
}

fn stands_after(step: &str) {
    reach(&format!("[ \"$(cat /run/there 2>/dev/null)\" = {step} ]"));
}

/// It goes on to the next step after which it stands.
fn go_on() {
    TRIXIE.sh("rm /run/there; echo go > /run/go");
}

/// It goes on, and stands no more.
fn go_on_to_the_end() {
    TRIXIE.sh(&format!("truncate -s 0 {FAILPOINTS}"));
    go_on();
}

/// Returns when nothing is under way any more; fails the test where anything waits for a person.
fn come_to_rest(hosts: &[Host], when: &str) {
    let under_way = "grep -qE \"\\\"phase\\\": ?\\\"(running|committed|undoing)\\\"\"";
    for host in hosts {
        host.within_seconds(120, &format!("told=$(transship --json status) && ! echo \"$told\" | {under_way}"));
        let status: serde_json::Value = serde_json::from_str(&host.sh("transship --json status")).expect("JSON");
        for operation in status["operations"].as_array().expect("a list") {
            let what = operation["failure"]["what"].as_str().unwrap_or_default();
            // It runs there. That files may be missing there is for a person to see, and the source keeps its own until then.
            assert!(what.contains("was booted since"), "{when}: {} waits for a person: {operation:#}", host.0);
        }
    }
}

/// Whether the container runs there with the memory that it was born with; nothing where it does not run.
fn lives(host: &Host, name: &'static str, born: &str) -> Option<bool> {
    let running = host.sh(&format!("docker inspect -f '{{{{.State.Running}}}}' {name} 2>/dev/null; true"));
    let container = ManuallyDrop::new(Container { host, name });
    (running == "true").then(|| container.born(7000) == born)
}

/// A moment of a migration: the step that has just been done, and who has the container's memory where a host loses its power.
struct Moment {
    after: &'static str,
    /// Whether it is whole where the destination's power is cut: it goes on at the source.
    outlives_destination: bool,
    /// Whether it is where the source's is: it goes on at the destination. Otherwise it is started afresh, as its policy says.
    outlives_source: bool,
}

/// Cuts the power of the destination, and from the same state on that of the source, at moments of one migration. One copy runs
/// each time, wherever its memory is kept with that.
fn cut_a_migration(moments: &[Moment]) {
    let options = "--restart always --network front -p 7000:7000 programs";
    let mover = ManuallyDrop::new(TRIXIE.start("mover", options, "/tools/holder 7000 16 100"));
    let born = mover.born(7000);
    BOTH.into_iter().for_each(|host| drop(host.sh("sync")));
    let steps: Vec<_> = moments.iter().map(|moment| moment.after).collect();
    begin_and_stand_after("migrate", &steps, "migrate mover --to sid --mode pre-copy");
    for (number, moment) in moments.iter().enumerate() {
        if number > 0 {
            resume(moments[number - 1].after);
            go_on();
        }
        stands_after(moment.after);
        run(&["save", moment.after, TRIXIE.0, SID.0]);
        for (cut, outlives) in [(SID, moment.outlives_destination), (TRIXIE, moment.outlives_source)] {
            resume(moment.after);
            run(&["cut", cut.0]);
            if cut == SID {
                go_on_to_the_end();
            }
            run(&["boot", cut.0]);
            let when = format!("{} cut after {}", cut.0, moment.after);
            come_to_rest(&BOTH, &when);
            let copies = BOTH.map(|host| lives(&host, "mover", &born));
            eprintln!("{when}: on {} {:?}, on {} {:?}", TRIXIE.0, copies[0], SID.0, copies[1]);
            assert_eq!(copies.iter().flatten().count(), 1, "I1: {when}: {copies:?}");
            assert!(!outlives || copies.contains(&Some(true)), "{when}: {copies:?}");
        }
    }
}

#[test]
fn i1_i3_a_power_cut_of_either_host_after_the_commit_of_a_migration_leaves_one_copy_running() {
    let _turn = pair();
    let _tried = tried("a power cut of either host at three moments of a migration from the commit on", &BOTH);
    let committed = |after| Moment { after, outlives_destination: true, outlives_source: true };
    // It runs at the destination by then, and ends with that as any other container there.
    let released = Moment { after: "release", outlives_destination: false, outlives_source: true };
    cut_a_migration(&[committed("commit"), committed("forward"), released]);
}

/// Cuts the power in an upgrade before anybody is frozen, and boots. It goes on by itself: the container runs, and packages and
/// engine are of one version.
fn cut_an_upgrade(when: &str, born: &str) {
    TRIXIE.cut_and_boot();
    come_to_rest(&[TRIXIE], when);
    let (engine, package) = (TRIXIE.engine(), TRIXIE.sh("dpkg-query -W -f '${Version}' docker.io"));
    let lives = lives(&TRIXIE, "holder", born);
    eprintln!("cut {when}: Docker {engine} of {package}, {lives:?}");
    assert!(package.starts_with(engine.split('+').next().unwrap_or_default()), "{when}: Docker {engine} of {package}");
    assert!(lives.is_some(), "{when}: it does not run");
    TRIXIE.within_seconds(10, "[ $(docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' holder) = always ]");
    TRIXIE.assert_nothing_is_left();
}

/// A container that is to be there after the cuts, and what it was born with.
fn start_holder() -> String {
    let holder =
        ManuallyDrop::new(TRIXIE.start("holder", "--restart always -p 7000:7000 programs", "/tools/holder 7000 16"));
    let born = holder.born(7000);
    TRIXIE.sh("sync");
    born
}

#[test]
fn i1_i5_an_upgrade_ends_well_after_a_power_cut_in_the_middle_of_a_package() {
    let _turn = machine();
    let _tried = tried("a power cut while the engine's packages are half installed", &[TRIXIE]);
    let born = start_holder();
    begin("upgrade --to 28.5");
    reach("dpkg --audit | grep -q .");
    cut_an_upgrade("half way through the packages", &born);
}
