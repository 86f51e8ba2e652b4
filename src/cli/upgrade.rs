//! `transship upgrade` and `transship rollback`

use super::render::{bytes, duration, table};
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::{Value, json};

/// Upgrade the Docker engine under its running containers
///
/// Packages are fetched and installed while the containers run. Then the containers are frozen, the engine is restarted,
/// and the containers are restored: their clients see one slow answer. Whatever fails on the way brings the old packages
/// and the containers back. With --evacuate-to Ctrl-C cancels it, as `transship cancel` does.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The engine's version: a package's, or the beginning of Docker's own, such as 28.5. [default: the newest that the
    /// package manager would choose]
    #[arg(long)]
    to: Option<String>,
    /// What becomes of containers whose label transship.strategy does not say: auto, freeze, live-restore or stop; or evacuate:
    /// what can goes to peers meanwhile, and what stays goes by auto.
    #[arg(long)]
    strategy: Option<String>,
    /// This container may be stopped and started afresh if nothing better can be done. May be repeated.
    #[arg(long, value_name = "CONTAINER")]
    may_stop: Vec<String>,
    /// Peers to which containers may go, with --strategy evacuate.
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    evacuate_to: Vec<String>,
    /// Say what would be done, and touch nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Upgrade {
            to: self.to.clone(),
            strategy: self.strategy.clone(),
            may_stop: self.may_stop.clone(),
            dry_run: self.dry_run,
            evacuate_to: self.evacuate_to.clone(),
        })
    }

    fn is_cancelled_by_interrupt(&self) -> bool {
        !self.evacuate_to.is_empty()
    }

    fn tell(&self, answer: &Value) -> String {
        let elsewhere = match answer["evacuation"].is_object() {
            true => super::evacuate::tell(&answer["evacuation"], true),
            false => super::evacuate::tell_back(&json!({ "groups": answer["evacuated"] })),
        };
        elsewhere + &tell(answer)
    }
}

/// Bring back the engine's packages from before an upgrade, with the containers as they are now
#[derive(Debug, clap::Args)]
pub struct RollbackArguments {
    /// The upgrade's number, from `transship history`.
    operation: i64,
    /// Say what would be done, and touch nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Ask for RollbackArguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Rollback { operation: self.operation, dry_run: self.dry_run })
    }

    fn tell(&self, answer: &Value) -> String {
        tell(answer)
    }
}

fn tell(answer: &Value) -> String {
    match answer["plan"].is_object() {
        true => tell_plan(&answer["plan"]),
        false => tell_outcome(answer),
    }
}

fn tell_plan(plan: &Value) -> String {
    let mut out = format!("{}\n\n{}\n", text(plan, "subject"), packages(plan));
    out.push_str(&format!("download: {} at most, both ways\n", bytes(&plan["download_bytes"])));
    out.push_str(&format!(
        "checkpoints: {} of memory, {} free in the store\n\n",
        bytes(&plan["checkpoint_bytes"]),
        bytes(&plan["free_bytes"])
    ));
    out.push_str(&containers(plan));
    if let Some(window) = plan["window_us"].as_u64() {
        out.push_str(&format!(
            "\nfreezing and restoring will take about {}, after what a process of our own took here; the engine's own \
             restart comes on top\n",
            duration(window)
        ));
    }
    out.push_str(&warnings(plan));
    out.push_str("\nnothing was touched\n");
    out
}

fn tell_outcome(answer: &Value) -> String {
    let mut out = packages(answer);
    out.push('\n');
    let rows: Vec<Vec<String>> = list(answer, "containers")
        .flat_map(|course| list(course, "members").map(move |member| (course, member)))
        .map(|(course, member)| {
            let away = member["away_us"].as_u64().filter(|away| *away > 0).map_or_else(|| "-".into(), duration);
            vec![text(member, "name").to_owned(), text(course, "strategy").to_owned(), away]
        })
        .collect();
    if !rows.is_empty() {
        out.push_str(&table(&["CONTAINER", "STRATEGY", "AWAY"], &rows));
    }
    out.push_str(&warnings(answer));
    let number = &answer["operation"];
    out.push_str(&format!("\noperation {number}; back again: transship rollback {number}\n"));
    out
}

fn packages(value: &Value) -> String {
    let version = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |change: &Value| {
        vec![
            text(change, "package").to_owned(),
            version(&change["from"]),
            version(&change["to"]),
            text(change, "direction").to_owned(),
            text(change, "reason").to_owned(),
        ]
    };
    let rows: Vec<_> = list(value, "packages").map(row).collect();
    table(&["PACKAGE", "FROM", "TO", "IS", "BECAUSE"], &rows)
}

fn containers(plan: &Value) -> String {
    let row = |course: &Value| {
        let names: Vec<&str> = list(course, "names").filter_map(Value::as_str).collect();
        vec![
            (course["wave"].as_u64().unwrap_or_default() + 1).to_string(),
            names.join(", "),
            text(course, "strategy").to_owned(),
            bytes(&course["memory_bytes"]),
            text(course, "reason").to_owned(),
        ]
    };
    let rows: Vec<_> = list(plan, "containers").map(row).collect();
    match rows.is_empty() {
        true => "no container runs\n".into(),
        false => table(&["WAVE", "CONTAINER", "STRATEGY", "MEMORY", "BECAUSE"], &rows),
    }
}

fn warnings(value: &Value) -> String {
    list(value, "warnings").filter_map(Value::as_str).map(|warning| format!("warning: {warning}\n")).collect()
}
