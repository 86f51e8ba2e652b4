//! `transship inspect`

use super::Ask;
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Show all that is stored of a checkpoint, as JSON
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A checkpoint by id or name, or a container (its newest checkpoint).
    reference: String,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Inspect { reference: self.reference.clone() })
    }

    fn tell(&self, answer: &Value) -> String {
        format!("{answer:#}\n")
    }
}
