//! The interposer: what dockerd and containerd find as `runc`.
//!
//! ```text
//!   shim ── runc create ID ──► claim on ID? ──no──► the real runc, as it came
//!                                   │yes
//!                                   ▼
//!                      ask the gate ─► runc restore (stopped) ─► shim gets its pid
//!   shim ── runc start ID ───► restored by us? ──yes──► ask the gate ─► the container runs
//! ```
//!
//! It sits in every `docker run`, so it looks at the subcommand by position, opens nothing before it knows
//! that it has to, and becomes the real runc by `execve` for everything that is not its own. A container
//! without a claim starts whatever state the store, the claims or the helper are in.

mod action;
mod arguments;
mod cgroup;
mod create;
mod gate;
mod hook;
mod log;
mod passthrough;
pub mod resume;
mod start;

pub use gate::{Answer, Images, Request, SOCKET, read_line};

use crate::store::claims::Claims;
use arguments::Invocation;
use std::ffi::OsString;
use std::process::ExitCode;

/// Where the package puts this program.
pub const PROGRAM: &str = "/usr/libexec/transship/transship-runc";

/// The name under which the OCI runtime calls back for a restored container's network.
const HOOK_NAME: &str = "transship-restore-network";

/// Runs as `runc` was called.
pub fn main() -> ExitCode {
    if let Ok(action) = std::env::var(action::ACTION_VARIABLE) {
        return action::main(&action);
    }
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name == HOOK_NAME) {
        return hook::main();
    }
    let words: Vec<OsString> = words.collect();
    let call = Invocation::parse(words.iter().cloned());
    let handled = match call.command.as_deref().and_then(|command| command.to_str()) {
        Some("create") => create::claimed(&call),
        Some("start") => start::restored(&call),
        Some("delete") => start::forget(&call),
        Some("exec") => start::not_let_run(&call),
        _ => None,
    };
    match handled {
        Some(code) => code,
        None => {
            let error = passthrough::become_runc(words);
            log::failure(&call, &format!("transship-runc: cannot run the real runc: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The claims of the store at its usual place.
fn claims() -> Claims {
    Claims::at(crate::store::layout::DEFAULT_ROOT)
}
