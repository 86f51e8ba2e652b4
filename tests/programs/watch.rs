//! Clients of a server of the line protocol, until told to stop; then says how it went, as one JSON object.
//!
//! `watch ADDRESS:PORT [--open N] [--pipelined N] [--streams N] [--no-new] [--pause MILLISECONDS] [--patience SECONDS] [--control PORT]`
//!
//! Says `ready` when all connections stand. On standard input `settle` is answered with `settled` when every
//! connection has had a new answer; its end ends the program. With `--control` the same is asked over TCP, and
//! `report` for how it has gone so far: for use inside a container.
//!
//! `watch ADDRESS:PORT --ask LINE` asks that one line and prints the answer.

mod common;

use common::client::{Clients, Plan};
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let (plan, control) = arguments();
    if let Some(line) = std::env::args().skip_while(|word| word != "--ask").nth(1) {
        match common::client::ask(&plan, &line) {
            Ok(answer) => println!("{answer}"),
            Err(error) => {
                eprintln!("{}: {error}", plan.server);
                std::process::exit(1);
            }
        }
        return;
    }
    let clients = Clients::start(&plan);
    if let Some(port) = control {
        common::end_on_sigterm();
        let birth = common::birth();
        let clients = Arc::new(clients);
        common::server::serve(port, Arc::new(move |line: &str| answer(&clients, &birth, line)));
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        match line.as_deref() {
            Ok("settle") => {
                clients.settle();
                println!("settled");
            }
            other => panic!("not a command: {other:?}"),
        }
    }
    println!("{}", clients.end());
}

fn answer(clients: &Clients, birth: &str, line: &str) -> String {
    match line {
        "settle" => {
            clients.settle();
            "settled".into()
        }
        "report" => clients.report(),
        "check" => format!("ok born={birth}"),
        other => format!("wrong: there is no {other:?}"),
    }
}

fn arguments() -> (Plan, Option<u16>) {
    let mut words = std::env::args().skip(1);
    let server = words.next().expect("ADDRESS:PORT").parse().expect("ADDRESS:PORT");
    let mut plan = Plan {
        server,
        open: 4,
        pipelined: 2,
        streams: 1,
        new: true,
        pause: Duration::from_millis(5),
        patience: Duration::from_secs(120),
    };
    let mut control = None;
    while let Some(word) = words.next() {
        let mut number =
            || words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{word} takes a number"));
        match word.as_str() {
            "--open" => plan.open = number(),
            "--pipelined" => plan.pipelined = number(),
            "--streams" => plan.streams = number(),
            "--ask" => drop(words.next()),
            "--no-new" => plan.new = false,
            "--pause" => plan.pause = Duration::from_millis(number()),
            "--patience" => plan.patience = Duration::from_secs(number()),
            "--control" => control = u16::try_from(number()).ok(),
            other => panic!("watch knows no {other}"),
        }
    }
    (plan, control)
}
