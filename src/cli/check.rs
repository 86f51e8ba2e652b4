//! `transship check`

use super::values::bind;
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::{Bind, Request};
use serde_json::Value;

/// Say whether containers can be frozen and restored here, and what to do where not
///
/// Looks at the host and at each container, and dumps and restores a small process of its own with an open
/// connection. Nothing of yours is touched. Exit code 3 where the answer is no for any of them.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Containers by name or id; all running ones where none is named.
    containers: Vec<String>,
    /// Say whether they can go to this peer, too, and which of their connections would live on there.
    #[arg(long, value_name = "PEER")]
    to: Option<String>,
    /// With --to: what becomes of what they have mounted of this host; see `migrate --help`.
    #[arg(long = "bind", value_name = "copy|shared[=PATH]", value_parser = bind)]
    binds: Vec<Bind>,
    /// Only look; do not dump and restore the canary.
    #[arg(long)]
    no_canary: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Check {
            containers: self.containers.clone(),
            canary: !self.no_canary,
            to: self.to.clone(),
            binds: self.binds.clone(),
        })
    }

    fn tell(&self, answer: &Value) -> String {
        let mut out = String::new();
        let host = &answer["host"];
        out.push_str(&format!("host: {}\n", verdict(host)));
        let canary = &answer["canary"];
        if canary["dump_us"].is_u64() {
            let took = |key: &str| super::render::duration(canary[key].as_u64().unwrap_or_default());
            out.push_str(&format!(
                "  canary: dumped and restored with its connection (dump {}, restore {})\n",
                took("dump_us"),
                took("restore_us")
            ));
        }
        for line in list(canary, "log") {
            out.push_str(&format!("  | {}\n", line.as_str().unwrap_or_default()));
        }
        findings(host, &mut out);
        for container in list(answer, "containers") {
            out.push_str(&container_line(container));
        }
        out
    }

    fn exit_code(&self, answer: &Value) -> u8 {
        exit_code(list(answer, "containers").chain([&answer["host"]]))
    }
}

/// 3 where the answer is no for any of them.
pub fn exit_code<'a>(mut subjects: impl Iterator<Item = &'a Value>) -> u8 {
    if subjects.any(|subject| subject["able"] == false) { 3 } else { 0 }
}

/// What is said of one container.
pub fn container_line(container: &Value) -> String {
    let mut out = format!("{}: {}\n", text(container, "name"), verdict(container));
    findings(container, &mut out);
    let image = &container["image"];
    if image.is_object() {
        out.push_str(&format!("  image {}: {}\n", text(image, "name"), text(image, "reason")));
    }
    for kind in list(container, "connections") {
        let mark = if kind["lives"] == true { "live on" } else { "will be LOST" };
        let peers: Vec<&str> = list(kind, "peers").filter_map(Value::as_str).collect();
        let (count, reason) = (&kind["count"], text(kind, "reason"));
        out.push_str(&format!("  connections that {mark}: {count} ({}): {reason}\n", peers.join(", ")));
        if let Some(remedy) = kind["remedy"].as_str() {
            out.push_str(&format!("      what to do: {remedy}\n"));
        }
    }
    out
}

fn verdict(subject: &Value) -> &'static str {
    if subject["able"] == true { "yes" } else { "NO" }
}

fn findings(subject: &Value, out: &mut String) {
    for finding in list(subject, "findings") {
        let mark = if finding["severity"] == "refuse" { "no" } else { "note" };
        out.push_str(&format!("  {mark} [{}]: {}\n", text(finding, "code"), text(finding, "reason")));
        out.push_str(&format!("      what to do: {}\n", text(finding, "remedy")));
    }
}
