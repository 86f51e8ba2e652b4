//! Errors where the shim looks for them.
//!
//! containerd's shim reads the file given as `--log` after a failed call and takes the last entry of level
//! `error` as the reason that `docker start` prints (containerd `pkg/process/utils.go`, `getLastRuntimeError`).

use super::arguments::Invocation;
use std::fs::OpenOptions;
use std::io::Write;

/// Writes a failure into the caller's log, and to standard error as runc itself does.
pub fn failure(call: &Invocation, message: &str) {
    eprintln!("{message}");
    let Some(path) = call.log() else { return };
    let line = if call.log_is_json() {
        serde_json::json!({ "level": "error", "msg": message, "time": now() }).to_string()
    } else {
        format!("time={:?} level=error msg={message:?}", now())
    };
    let Ok(mut file) = OpenOptions::new().append(true).create(true).open(&path) else { return };
    if let Err(error) = writeln!(file, "{line}") {
        eprintln!("transship-runc: cannot write {}: {error}", path.display());
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
