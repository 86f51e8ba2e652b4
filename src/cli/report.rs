//! `transship report`

use super::Ask;
use crate::failure::Failure;
use crate::helper::protocol::Request;
use crate::report::{Report, html, text};
use serde_json::Value;
use std::path::PathBuf;

/// Say what an operation did: when, for how long, and what became of each container
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The operation's number, from `transship history`.
    operation: i64,
    /// Write it as one page for a browser that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Report { operation: self.operation })
    }

    fn tell(&self, answer: &Value) -> String {
        read(answer).map_or_else(|failure| failure.to_string(), |report| text(&report))
    }

    fn put_elsewhere(&self, answer: &Value) -> Result<(), Failure> {
        let Some(file) = &self.html else { return Ok(()) };
        std::fs::write(file, html(&read(answer)?))
            .map_err(|error| Failure::new(format!("{} cannot be written", file.display())).because(&error))
    }

    fn show(&self, answer: &Value) -> Result<String, Failure> {
        match &self.html {
            Some(file) => Ok(format!("wrote {}\n", file.display())),
            None => read(answer).map(|report| text(&report)),
        }
    }
}

fn read(answer: &Value) -> Result<Report, Failure> {
    serde_json::from_value(answer["report"].clone())
        .map_err(|error| Failure::new("transshipd's report cannot be read").because(&error))
}
