//! `transship resume`

use super::Ask;
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Try again to bring an operation to its end that waits for a person
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Its number, from `transship status` or `transship history`.
    operation: i64,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Resume { operation: self.operation })
    }

    fn tell(&self, _answer: &Value) -> String {
        format!("operation {} has ended\n", self.operation)
    }
}
