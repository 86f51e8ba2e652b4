//! `transship forward`

use super::{Ask, list, text};
use crate::cli::render::table;
use crate::failure::Failure;
use crate::helper::protocol::Request;
use clap::Subcommand;
use serde_json::Value;

/// See or end how visitors of containers that have moved are led to a peer
///
/// A port that another container publishes here is that container's, forward or not.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them
    Ls,
    /// End it: new visitors find nobody at the ports
    Rm {
        /// The container that has moved.
        container: String,
    },
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(match &self.verb {
            Verb::Ls => Request::Forwards,
            Verb::Rm { container } => Request::EndForward { container: container.clone() },
        })
    }

    fn tell(&self, answer: &Value) -> String {
        match &self.verb {
            Verb::Ls => {
                let row = |one: &Value| {
                    let ports: Vec<_> = list(one, "ports").filter_map(Value::as_str).collect();
                    let texts = ["container", "peer", "to", "leads"].map(|key| text(one, key).to_owned());
                    texts.into_iter().chain([ports.join(" ")]).collect()
                };
                let rows: Vec<_> = list(answer, "forwards").map(row).collect();
                table(&["CONTAINER", "PEER", "TO", "LEADS", "PORTS"], &rows)
            }
            Verb::Rm { container } => format!("visitors of {container} are no longer led elsewhere\n"),
        }
    }
}
