//! `transship decide`

use super::Ask;
use crate::failure::Failure;
use crate::helper::protocol::{Decision, Request};
use serde_json::Value;

/// Say by force which copy of a container that migrates it is to be
///
/// For a migration whose other host does not answer any more, or has lost its copy; `transship status` names them. Without
/// --force it is only done where it can cost nothing; otherwise it says what it can cost.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The migration's number on this host, from `transship status`.
    operation: i64,
    /// What becomes of the copy on this host.
    decision: Word,
    /// Do it, whatever it can cost.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Word {
    /// On the host that it leaves: it goes on here. If it runs on the other host as well, there are two.
    Thaw,
    /// On the host that it leaves: it ends here, and is the other host's. Its files and its checkpoint are kept.
    End,
    /// On the host that it comes to: it runs here. If it goes on where it comes from, there are two.
    Run,
    /// On the host that it comes to: it goes from here. If the other host has none, it is lost.
    Drop,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        let decision = match self.decision {
            Word::Thaw => Decision::Thaw,
            Word::End => Decision::End,
            Word::Run => Decision::Run,
            Word::Drop => Decision::Drop,
        };
        Ok(Request::Decide { operation: self.operation, decision, force: self.force })
    }

    fn tell(&self, _answer: &Value) -> String {
        match self.decision {
            Word::Thaw => "it goes on here\n".into(),
            Word::End => "it has ended here; its container, files and checkpoint are kept\n".into(),
            Word::Run => "it runs here\n".into(),
            Word::Drop => "it is gone from here, and will never run here\n".into(),
        }
    }
}
