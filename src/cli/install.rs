//! `transship install` and `transship uninstall`

use super::{Ask, list};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Put the interposer in front of runc, for dockerd and containerd
///
/// Running containers run on. No file of the distribution is changed, but for a block at the end of /etc/default/docker
/// where there is no systemd.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Take the interposer away again, exactly
#[derive(Debug, clap::Args)]
pub struct UninstallArguments {
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Install { dry_run: self.dry_run })
    }

    fn tell(&self, answer: &Value) -> String {
        actions(answer, self.dry_run)
    }
}

impl Ask for UninstallArguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Uninstall { dry_run: self.dry_run })
    }

    fn tell(&self, answer: &Value) -> String {
        actions(answer, self.dry_run)
    }
}

fn actions(answer: &Value, dry_run: bool) -> String {
    let prefix = if dry_run { "would " } else { "" };
    let mut out: String =
        list(answer, "actions").filter_map(Value::as_str).map(|action| format!("{prefix}{action}\n")).collect();
    if out.is_empty() {
        out.push_str("nothing to do\n");
    }
    out
}
