//! Runs the external programs of this room: `ip`, `iptables-restore`, `nft`.
//!
//! A child is in the network namespace of the thread that starts it, so [`NetNs::run`](super::netns::NetNs::run) around a
//! call is all it takes to run a program inside a container's namespace, with the host's own binaries.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use super::error::{Error, Result};

/// Runs `program` with `input` on its standard input and returns its standard output.
///
/// # Errors
/// [`Error::Spawn`] where the program is not there, [`Error::Command`] with its stderr where it failed.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let output =
        spawn(program, arguments, input).map_err(|source| Error::Spawn { program: program.to_owned(), source })?;
    if !output.status.success() {
        return Err(failure(program, arguments, &output));
    }
    String::from_utf8(output.stdout).map_err(|error| Error::malformed("the output of a program", error))
}

fn spawn(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.take();
    // None of these programs writes before it has read to the end, so writing all of it first cannot block.
    let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    match written {
        // A program that gave up early says why on stderr: worth more than our broken pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !output.status.success() => {}
        other => other?,
    }
    Ok(output)
}

fn failure(program: &str, arguments: &[&str], output: &Output) -> Error {
    Error::Command {
        command: std::iter::once(&program).chain(arguments).copied().collect::<Vec<_>>().join(" "),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = run("ip", &["-batch", "-"], "link show dev nonesuch\n").unwrap_err().to_string();
        assert!(error.contains("ip -batch -") && error.contains("nonesuch"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("transship-nonesuch", &[], "").unwrap_err();
        assert!(matches!(error, Error::Spawn { ref program, .. } if program == "transship-nonesuch"), "{error}");
    }
}
