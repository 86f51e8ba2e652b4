//! A host as people have them: ten containers, each of another kind, all at work while the engine is upgraded and taken back.

use super::clients::{Load, Watch};
use super::host::run;
use super::lab::{Container, UPGRADED, hosts, upgraded_host};
use serde_json::Value;

/// A start of its own: a container that is started a second time ends at once.
const ONCE: &str = "mkdir /started && exec";

/// A project of Docker Compose's: each service waits for another one, one of them until that is healthy.
const PROJECT: &str = r#"
name: shop
x-all: &all { image: programs, pull_policy: never }
services:
  db:
    <<: *all
    command: /tools/holder 7001 8 100
    healthcheck: { test: [CMD, /tools/watch, "127.0.0.1:7001", --ask, check], interval: 1s, start_period: 20s }
  app:
    <<: *all
    command: /tools/holder 7002 8 100
    depends_on: { db: { condition: service_healthy } }
  front:
    <<: *all
    command: /tools/holder 7003 8 100
    ports: ["7003:7003"]
    depends_on: [app]
"#;

/// Debian's own docker-compose, in a container that is not there while the engine is upgraded.
fn compose(words: &str) -> String {
    UPGRADED.sh(&format!(
        "docker run --rm --network none -v /run/docker.sock:/run/docker.sock -v /root/shop:/shop -w /shop compose \
         docker-compose --ansi never --progress plain {words} 2>&1"
    ))
}

fn start_project() {
    run(&["image", UPGRADED.0, "compose", "docker-compose"]);
    UPGRADED.sh(&format!("mkdir -p /root/shop && cat >/root/shop/compose.yaml <<'END'\n{PROJECT}\nEND"));
    compose("up --detach");
}

/// Compose finds all of its project as it has left it.
fn assert_project_is_as_before(ids: &str) {
    assert_eq!(compose("ps --quiet --status running"), ids);
    let done = compose("up --detach");
    assert!(done.contains("Running") && !done.contains("Recreate") && !done.contains("Started"), "{done}");
    assert_eq!(compose("ps --quiet --status running"), ids);
}

/// A program of ours that knows its own birth, with the port that it listens at.
struct Known {
    container: Container<'static>,
    port: u16,
    born: String,
}

impl Known {
    fn start(name: &'static str, port: u16, options: &str) -> Self {
        let command = format!("/tools/holder {port} 8 100");
        Self::started(UPGRADED.start(name, &format!("{options} programs"), &command), port)
    }

    fn started(container: Container<'static>, port: u16) -> Self {
        let born = container.born(port);
        Self { container, port, born }
    }

    fn assert_same(&self) {
        assert_eq!(self.container.born(self.port), self.born, "{}", self.container.name);
    }
}

struct Fleet {
    known: Vec<Known>,
    /// Started afresh, as is allowed.
    pinned: Known,
    others: Vec<Container<'static>>,
}

impl Fleet {
    fn start() -> Self {
        start_project();
        let service = |name, port| Known::started(Container { host: &UPGRADED, name }, port);
        let web = |name, port| {
            UPGRADED.start(name, &format!("-p {port}:80 nginx"), &format!("sh -c '{ONCE} nginx -g \"daemon off;\"'"))
        };
        let serve = "redis-server --protected-mode no --bind 0.0.0.0 --save \"\"";
        let db = UPGRADED.start("db", "-p 6379:6379 redis", &format!("sh -c '{ONCE} {serve}'"));
        let others = vec![web("web-kept", 8080), web("web-new", 8081), db];
        UPGRADED
            .sh("until docker exec db redis-cli set written before && docker exec web-kept test -s /run/nginx.pid && \
                     docker exec web-new test -s /run/nginx.pid; do sleep 0.1; done");
        let health =
            "--health-cmd '/tools/watch 127.0.0.1:7007 --ask check' --health-interval 1s --health-start-period 20s";
        let known = vec![
            service("shop-db-1", 7001),
            service("shop-app-1", 7002),
            service("shop-front-1", 7003),
            Known::start("steady", 7004, "--restart always -p 7004:7004 -p 7005:7005"),
            Known::start("sidecar", 7005, "--network container:steady"),
            Known::start(
                "first",
                7007,
                &format!("-p 7007:7007 {health} --label transship.order=-1 --label transship.wait=healthy"),
            ),
        ];
        UPGRADED.within_seconds(60, "[ $(docker inspect -f '{{.State.Health.Status}}' first) = healthy ]");
        // Its first process is a shell, which heeds no SIGTERM.
        let options = "--network host --restart always --stop-timeout 3 --label transship.strategy=stop programs";
        let command = "sh -c '/tools/holder 7006 8 100; true'";
        let pinned = Known::started(UPGRADED.start("pinned", options, command), 7006);
        Self { known, pinned, others }
    }

    fn names(&self) -> Vec<&'static str> {
        let known = self.known.iter().chain([&self.pinned]).map(|known| known.container.name);
        known.chain(self.others.iter().map(|container| container.name)).collect()
    }

    fn watches(&self) -> Vec<Watch> {
        let address = UPGRADED.address();
        [7003, 7004, 7005, 7007].map(|port| Watch::start(&format!("{address}:{port}"))).into()
    }

    /// All run with the memory that they had; the one that may be stopped has been.
    fn assert_same(&mut self) {
        self.known.iter().for_each(Known::assert_same);
        assert_eq!(UPGRADED.sh("docker exec db redis-cli get written"), "before");
        let born = self.pinned.container.born(self.pinned.port);
        assert_ne!(born, self.pinned.born, "pinned");
        self.pinned.born = born;
        for name in self.names() {
            assert_eq!(UPGRADED.sh(&format!("docker inspect -f '{{{{.State.Status}}}}' {name}")), "running", "{name}");
        }
        // What restores them goes before others' work; they themselves do not.
        assert_eq!(UPGRADED.sh("docker exec first cut -d ' ' -f 19 /proc/1/stat"), "0");
        // An order is kept where the later ones wait for the earlier.
        let started = "docker inspect -f '{{.State.StartedAt}} {{.Name}}' first shop-db-1 shop-app-1 shop-front-1";
        let ordered = UPGRADED.sh(&format!("{started} | sort | sed 's,.*/,,' | xargs"));
        assert_eq!(ordered, "first shop-db-1 shop-app-1 shop-front-1");
        // Nobody waits for the one that is stopped: it goes before all and comes back after all, and is as it was.
        let at = |moment: &str, place: &str| {
            let all = format!("docker inspect -f '{{{{.State.{moment}}}}} {{{{.Name}}}}' {}", self.names().join(" "));
            UPGRADED.sh(&format!("{all} | sort | {place} -n 1 | sed 's,.*/,,'"))
        };
        assert_eq!((at("FinishedAt", "head"), at("StartedAt", "tail")), ("pinned".to_owned(), "pinned".to_owned()));
        let policy = UPGRADED.sh("docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' pinned");
        assert_eq!(policy, "always");
    }
}

/// A page of what happened, with everybody on it.
fn assert_reported(operation: &Value, names: &[&str]) {
    let text = UPGRADED.sh(&format!("transship report {operation}"));
    let answer = UPGRADED.sh(&format!("transship --json report {operation} --html /root/report.html"));
    let answer: Value = serde_json::from_str(&answer).expect("the report as JSON beside the page");
    let page = UPGRADED.sh("cat /root/report.html; rm /root/report.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    for name in names {
        let told = answer["report"]["containers"].as_array().expect("containers");
        assert!(told.iter().any(|container| container["name"] == *name), "{name}: {answer}");
        assert!(page.contains(name) && text.contains(name), "{name}: {text}");
    }
    assert!(page.contains("1 was stopped and started afresh") && !page.contains("nothing was lost"), "{text}");
}

fn upgraded(command: &str) -> Value {
    let answer = UPGRADED.sh(&format!("transship --json {command} 2>/dev/null"));
    serde_json::from_str(&answer).expect("an answer")
}

fn engine() -> String {
    UPGRADED.sh("docker version --format '{{.Server.Version}}'")
}

#[test]
fn i1_i6_i8_a_fleet_of_ten_goes_through_an_upgrade_and_back_with_no_request_failed() {
    let _turn = hosts();
    upgraded_host();
    let mut fleet = Fleet::start();
    let names = fleet.names();
    assert_eq!(names.len(), 10);
    let refused = UPGRADED.try_sh("transship check pinned");
    assert_eq!(refused.status.code(), Some(3), "it cannot be frozen");
    let planned = upgraded("upgrade --to 28.5 --dry-run");
    let courses = planned["plan"]["containers"].as_array().expect("containers");
    let pinned = courses.iter().find(|course| course["names"][0] == "pinned").expect("pinned");
    assert_eq!(pinned["strategy"], "stop");
    assert!(pinned["reason"].as_str().is_some_and(|why| why.contains("host")), "{pinned}");

    let address = UPGRADED.address();
    let loads = [
        Load::ab("-k -n 20000 -c 10", &format!("http://{address}:8080/")),
        Load::ab("-n 5000 -c 10", &format!("http://{address}:8081/")),
        Load::redis(&address, "-c 10 -n 200000"),
    ];
    let watches = fleet.watches();
    let project = compose("ps --quiet --status running");
    assert_eq!(project.lines().count(), 3, "{project}");
    let done = upgraded("upgrade --to 28.5");
    assert!(engine().starts_with("28.5"));
    fleet.assert_same();
    assert_project_is_as_before(&project);
    assert_reported(&done["operation"], &names);
    let back = upgraded(&format!("rollback {}", done["operation"]));
    assert!(engine().starts_with("26.1"));
    fleet.assert_same();
    assert_project_is_as_before(&project);
    assert_reported(&back["operation"], &names);
    watches.into_iter().for_each(Watch::end);
    loads.into_iter().for_each(Load::end);
    drop(fleet);
    compose("down");
}
