//! `transship check`

use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Say whether containers can be frozen and restored here, and what to do where not
///
/// Looks at the host and at each container, and dumps and restores a small process of its own with an open
/// connection. Nothing of yours is touched. Exit code 3 where the answer is no for any of them.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Containers by name or id; all running ones where none is named.
    containers: Vec<String>,
    /// Only look; do not dump and restore the canary.
    #[arg(long)]
    no_canary: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Check { containers: self.containers.clone(), canary: !self.no_canary })
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
            out.push_str(&format!("{}: {}\n", text(container, "name"), verdict(container)));
            findings(container, &mut out);
        }
        out
    }

    fn exit_code(&self, answer: &Value) -> u8 {
        let subjects = list(answer, "containers").chain([&answer["host"]]);
        if subjects.into_iter().any(|subject| subject["able"] == false) { 3 } else { 0 }
    }
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
