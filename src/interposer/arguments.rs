//! runc's command line, read by position.
//!
//! `runc [global options] COMMAND [command options] ID`. Only what is needed to find the command, the
//! container and the files that the caller named is understood; everything else is kept as it came, so that
//! an option of a future runc passes through untouched.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Global options of runc that take a value in the next word (runc's `main.go`, 1.0 to 1.5).
const GLOBAL_WITH_VALUE: [&str; 5] = ["--root", "--log", "--log-format", "--criu", "--rootless"];

/// Options of `create`, `start` and `delete`, and of `exec` as containerd calls it, that take a value in the next word (runc's
/// `create.go`, containerd's `go-runc`).
const COMMAND_WITH_VALUE: [&str; 7] =
    ["--bundle", "-b", "--console-socket", "--pidfd-socket", "--pid-file", "--preserve-fds", "--process"];

/// A call of runc, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Everything before the command.
    pub globals: Vec<OsString>,
    /// The command, such as `create`; `None` where there is none (`runc --version`).
    pub command: Option<OsString>,
    /// Everything after the command, the container's id included.
    pub rest: Vec<OsString>,
}

impl Invocation {
    /// Takes the words after the program's name apart.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Self {
        let mut words = words.into_iter();
        let mut globals = Vec::new();
        while let Some(word) = words.next() {
            if !word.as_encoded_bytes().starts_with(b"-") {
                return Self { globals, command: Some(word), rest: words.collect() };
            }
            let takes_value = GLOBAL_WITH_VALUE.iter().any(|name| is_option(&word, name));
            globals.push(word);
            if takes_value {
                globals.extend(words.next());
            }
        }
        Self { globals, command: None, rest: Vec::new() }
    }

    /// The container's id: the first word after the command that is neither an option nor an option's value.
    pub fn container(&self) -> Option<&OsStr> {
        let mut words = self.rest.iter();
        while let Some(word) = words.next() {
            if COMMAND_WITH_VALUE.iter().any(|name| is_option(word, name)) {
                words.next();
            } else if !word.as_encoded_bytes().starts_with(b"-") {
                return Some(word);
            }
        }
        None
    }

    /// The value of one of the command's options, in either spelling (`--bundle B`, `--bundle=B`).
    pub fn option(&self, names: &[&str]) -> Option<OsString> {
        value_of(&self.rest, names)
    }

    /// The directory of runc's states (`--root`; runc's own default where the caller named none).
    pub fn state_root(&self) -> PathBuf {
        value_of(&self.globals, &["--root"]).map_or_else(|| PathBuf::from("/run/runc"), PathBuf::from)
    }

    /// The file in which runc's caller looks for errors (`--log`).
    pub fn log(&self) -> Option<PathBuf> {
        value_of(&self.globals, &["--log"]).map(PathBuf::from)
    }

    /// Whether the caller wants that file in JSON lines (`--log-format json`).
    pub fn log_is_json(&self) -> bool {
        value_of(&self.globals, &["--log-format"]).is_some_and(|format| format == "json")
    }
}

/// `--name` or `-name`: runc's flag parser takes one dash as well as two.
fn is_option(word: &OsStr, name: &str) -> bool {
    let word = word.as_encoded_bytes();
    word == name.as_bytes() || (name.starts_with("--") && word == &name.as_bytes()[1..])
}

fn value_of(words: &[OsString], names: &[&str]) -> Option<OsString> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        for name in names {
            if is_option(word, name) {
                return words.next().cloned();
            }
            let with_value = word.to_str().and_then(|text| text.strip_prefix(name)?.strip_prefix('='));
            if let Some(value) = with_value {
                return Some(value.into());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Invocation {
        Invocation::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn finds_the_command_behind_the_shims_options() {
        let call = parse(
            "--root /run/docker/runtime-runc/moby --log /b/log.json --log-format json --systemd-cgroup \
             create --bundle /b --pid-file /b/init.pid abc",
        );
        assert_eq!(call.command.as_deref(), Some(OsStr::new("create")));
        assert_eq!(call.container(), Some(OsStr::new("abc")));
        assert_eq!(call.option(&["--bundle", "-b"]), Some("/b".into()));
        assert_eq!(call.log(), Some("/b/log.json".into()));
        assert!(call.log_is_json());
    }

    #[test]
    fn values_may_be_joined_with_an_equals_sign_and_one_dash_is_enough() {
        let call = parse("-log=x --root=/r -log-format json delete --force abc");
        assert_eq!(call.command.as_deref(), Some(OsStr::new("delete")));
        assert_eq!(call.container(), Some(OsStr::new("abc")));
        assert!(call.log_is_json());
    }

    #[test]
    fn a_call_without_a_command_has_none() {
        assert_eq!(parse("--version").command, None);
        assert_eq!(parse("").command, None);
        assert_eq!(parse("--root").command, None);
    }

    #[test]
    fn an_option_that_looks_like_a_command_is_not_one() {
        let call = parse("--root create start abc");
        assert_eq!(call.command.as_deref(), Some(OsStr::new("start")));
    }
}
