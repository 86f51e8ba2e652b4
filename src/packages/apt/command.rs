//! Runs the programs of apt and dpkg, all in the same surroundings.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::super::error::{PackageError, Result};

/// What maintainers' scripts and apt's hooks are told, so that none of them asks or restarts anything.
const SURROUNDINGS: &[(&str, &str)] = &[
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("UCF_FORCE_CONFFOLD", "1"),
    ("NEEDRESTART_SUSPEND", "1"),
    ("NEEDRESTART_MODE", "l"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("APT_LISTBUGS_FRONTEND", "none"),
];

/// What is passed on of our own surroundings: apt reads its proxy from there where its configuration names none.
const PASSED_ON: &[&str] =
    &["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// How many of the last lines of a program's output go into an error.
pub(super) const LOG_LINES: usize = 20;

/// A program in surroundings that do not depend on ours, with nothing on its standard input.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(SURROUNDINGS.iter().copied()).current_dir("/").stdin(Stdio::null());
    command.envs(PASSED_ON.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
    // SAFETY: between fork and exec only umask is called, which is async-signal-safe and cannot fail.
    unsafe {
        // Scripts of packages make files and rely on this.
        command.pre_exec(|| {
            nix::libc::umask(0o022);
            Ok(())
        })
    };
    command
}

/// Runs a program that changes nothing and returns what it wrote.
pub(super) fn query(program: &str, arguments: &[&str]) -> Result<String> {
    let (command, output) = run(program, arguments, Path::new("/"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(PackageError::Failed { command, status: output.status, log: complaint(&output) }),
    }
}

/// Runs a program that reads `input`, which must be short: a pipe's worth.
pub(super) fn feed(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let text = [&[program], arguments].concat().join(" ");
    let run = || -> io::Result<Output> {
        let mut command = command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        written.map(|()| output)
    };
    let output = run().map_err(|source| PackageError::Run { command: text.clone(), source })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(PackageError::Failed { command: text, status: output.status, log: complaint(&output) }),
    }
}

/// Runs a program in a directory; its failure is for the caller to judge.
pub(super) fn run(program: &str, arguments: &[&str], directory: &Path) -> Result<(String, Output)> {
    let text = [&[program], arguments].concat().join(" ");
    let output = command(program).args(arguments).current_dir(directory).output();
    let output = output.map_err(|source| PackageError::Run { command: text.clone(), source })?;
    Ok((text, output))
}

/// The last lines that a program wrote, those on stderr after the others.
pub(super) fn complaint(output: &Output) -> Vec<String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> =
        stdout.lines().chain(stderr.lines()).map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Whether there is such a program.
pub(super) fn exists(program: &str) -> bool {
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    !command(program).arg("--version").output().is_err_and(|error| missing(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = query("sh", &["-c", "echo out; echo no such thing >&2; exit 3"]).unwrap_err();
        assert_eq!(error.log(), ["out", "no such thing"]);
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_program_is_fed() {
        feed("grep", &["-q", "runc install"], "runc install\n").unwrap();
        assert!(matches!(feed("grep", &["x"], "y\n"), Err(PackageError::Failed { .. })));
    }

    #[test]
    fn programs_run_in_surroundings_of_their_own() {
        let seen = query("sh", &["-c", "umask; pwd; echo $LC_ALL $DEBIAN_FRONTEND; echo ${CARGO_MANIFEST_DIR-unset}"]);
        assert_eq!(seen.unwrap(), "0022\n/\nC noninteractive\nunset\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        assert!(exists("sh") && !exists("transship-nonesuch"));
        assert!(matches!(query("transship-nonesuch", &[]), Err(PackageError::Run { .. })));
    }
}
