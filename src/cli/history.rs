//! `transship history`

use super::render::table;
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// List past operations
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many, newest first.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::History { limit: self.limit })
    }

    fn tell(&self, answer: &Value) -> String {
        let row = |one: &Value| {
            let failure = one["result"]["failure"]["what"].as_str().unwrap_or_default();
            let cells = ["began", "kind", "subject", "phase", "asked_by"].map(|key| text(one, key).to_owned());
            let mut row = vec![one["id"].to_string()];
            row.extend(cells);
            row.push(failure.to_owned());
            row
        };
        let rows: Vec<_> = list(answer, "operations").map(row).collect();
        table(&["NR", "BEGAN", "KIND", "OF", "ENDED", "ASKED BY", "FAILURE"], &rows)
    }
}
