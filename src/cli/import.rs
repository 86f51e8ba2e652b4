//! `transship import`

use super::{Ask, absolute, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;
use std::path::PathBuf;

/// Read a checkpoint from a file that `export` wrote
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file.
    file: PathBuf,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Import { file: absolute(&self.file)? })
    }

    fn tell(&self, answer: &Value) -> String {
        let id = text(answer, "id");
        format!(
            "checkpoint {id} of {}; restore it with: transship restore {id} --name NAME\n",
            text(answer, "container")
        )
    }
}
