//! `transship export`

use super::render::bytes;
use super::{Ask, absolute};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;
use std::path::PathBuf;

/// Write a checkpoint to one file that `import` takes on another host
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A checkpoint by id or name, or a container (its newest checkpoint).
    reference: String,
    /// The file to write; it must not exist. It holds the container's memory: keep it as secret as that.
    file: PathBuf,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Export { reference: self.reference.clone(), file: absolute(&self.file)? })
    }

    fn tell(&self, answer: &Value) -> String {
        format!("{}: {}\n", self.file.display(), bytes(&answer["bytes"]))
    }
}
