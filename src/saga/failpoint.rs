//! Places where a test can make the helper fail: before and after each step of each operation.
//!
//! Off unless the helper is started with `TRANSSHIP_FAILPOINTS` naming a file. Each line of the file is
//! `NAME ACTION`, with `NAME` as `checkpoint/dump/before`; the first line that matches is taken out of the file
//! (it fires once) and its action carried out: `kill` ends the helper as `kill -9` would, `error` makes the step
//! fail, `exec PROGRAM` runs a program and waits for it, `error PROGRAM` does so and then makes the step fail.

use std::path::PathBuf;
use std::process::Command;

/// The environment variable that names the file.
pub const VARIABLE: &str = "TRANSSHIP_FAILPOINTS";

/// The places, or none.
#[derive(Debug, Clone, Default)]
pub struct Failpoints {
    file: Option<PathBuf>,
}

impl Failpoints {
    /// As the environment says.
    pub fn from_environment() -> Self {
        Self { file: std::env::var_os(VARIABLE).map(PathBuf::from) }
    }

    /// As a file says.
    pub fn from_file(file: PathBuf) -> Self {
        Self { file: Some(file) }
    }

    /// Passes the place `name`; `Err` where a test wants the step to fail.
    pub fn pass(&self, name: &str) -> Result<(), crate::failure::Failure> {
        let Some(action) = self.take(name) else { return Ok(()) };
        tracing::warn!(failpoint = name, action, "failpoint reached");
        match action.split_once(' ') {
            _ if action == "kill" => {
                // What a power cut leaves: no destructor runs.
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
                Ok(())
            }
            _ if action == "error" => Err(failed(name)),
            Some(("exec", program)) => {
                run(name, program);
                Ok(())
            }
            Some(("error", program)) => {
                run(name, program);
                Err(failed(name))
            }
            _ => Err(crate::failure::Failure::new(format!("failpoint {name}: no such action: {action}"))),
        }
    }

    fn take(&self, name: &str) -> Option<String> {
        let file = self.file.as_ref()?;
        let text = std::fs::read_to_string(file).ok()?;
        let (mut found, mut kept) = (None, String::new());
        for line in text.lines() {
            match line.split_once(' ') {
                Some((place, action)) if found.is_none() && place == name => found = Some(action.to_owned()),
                _ => kept.extend([line, "\n"]),
            }
        }
        if found.is_some() {
            std::fs::write(file, kept).ok()?;
        }
        found
    }
}

fn run(name: &str, program: &str) {
    let status = Command::new("/bin/sh").args(["-c", program]).status();
    tracing::warn!(failpoint = name, ?status, "failpoint's program ended");
}

fn failed(name: &str) -> crate::failure::Failure {
    crate::failure::Failure::new(format!("failpoint {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_fires_once_and_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("points");
        std::fs::write(&file, "a/b/before error\na/b/after error\n").unwrap();
        let points = Failpoints::from_file(file.clone());
        assert!(points.pass("a/b/before").is_err());
        assert!(points.pass("a/b/before").is_ok());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "a/b/after error\n");
    }
}
