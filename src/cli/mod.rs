//! The operator's command: one verb a file.
//!
//! The command asks the local helper and shows what it answers. It changes nothing itself.

mod cancel;
mod check;
mod checkpoint;
mod client;
mod decide;
mod evacuate;
mod export;
mod forward;
mod gc;
mod history;
mod import;
mod inspect;
mod install;
mod interrupt;
mod ls;
mod metrics;
mod migrate;
mod peer;
mod pull;
mod push;
mod render;
mod report;
mod restore;
mod resume;
mod rm;
mod share;
mod status;
mod upgrade;
mod values;

use crate::failure::Failure;
use crate::helper::protocol::Request;
use clap::{Parser, Subcommand};
use interrupt::UnderWay;
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// Freeze running Docker containers to disk and bring them back, upgrade the engine under them, and move them to other
/// hosts, with their connections open.
///
/// Exit codes: 0 done; 1 failed, and everything undone; 2 wrong usage; 3 refused by a check, nothing touched;
/// 4 failed, and a person has to decide.
#[derive(Debug, Parser)]
#[command(name = "transship", version, max_term_width = 100)]
pub struct Arguments {
    /// Print the answer as one JSON object, progress as JSON lines on standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Arguments),
    Checkpoint(checkpoint::Arguments),
    Restore(restore::Arguments),
    Ls(ls::Arguments),
    Inspect(inspect::Arguments),
    Rm(rm::Arguments),
    Gc(gc::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    Push(push::Arguments),
    Pull(pull::Arguments),
    Share(share::Arguments),
    Migrate(migrate::Arguments),
    Evacuate(evacuate::Arguments),
    Return(evacuate::ReturnArguments),
    Forward(forward::Arguments),
    Decide(decide::Arguments),
    Cancel(cancel::Arguments),
    Upgrade(upgrade::Arguments),
    Rollback(upgrade::RollbackArguments),
    Report(report::Arguments),
    Peer(peer::Arguments),
    Status(status::Arguments),
    History(history::Arguments),
    Metrics(metrics::Arguments),
    Resume(resume::Arguments),
    Install(install::Arguments),
    Uninstall(install::UninstallArguments),
}

/// What every verb is: a request, and the words for its answer.
trait Ask {
    /// What to ask the helper.
    fn request(&self) -> Result<Request, Failure>;

    /// The answer for a person.
    fn tell(&self, answer: &Value) -> String;

    /// Puts the answer elsewhere, where that was asked for.
    fn put_elsewhere(&self, _answer: &Value) -> Result<(), Failure> {
        Ok(())
    }

    /// What is printed of it for a person.
    fn show(&self, answer: &Value) -> Result<String, Failure> {
        Ok(self.tell(answer))
    }

    /// Whether Ctrl-C cancels it, rather than leaving it to the helper.
    fn is_cancelled_by_interrupt(&self) -> bool {
        false
    }

    /// After how long it is asked again, for verbs that watch.
    fn again_after(&self) -> Option<Duration> {
        None
    }

    /// The exit code for an answer that is not a failure.
    fn exit_code(&self, _answer: &Value) -> u8 {
        0
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    // Rust ignores SIGPIPE, and then panics where a pipe's reader has gone (`transship ls | head -1`).
    // SAFETY: no other thread runs yet, and the default action is what every other command has.
    unsafe { nix::libc::signal(nix::libc::SIGPIPE, nix::libc::SIG_DFL) };
    let arguments = Arguments::parse();
    match run(arguments.verb.as_ask(), arguments.json) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            render::failure(&failure, arguments.json);
            ExitCode::from(failure.outcome.exit_code())
        }
    }
}

fn run(verb: &dyn Ask, json: bool) -> Result<u8, Failure> {
    while let Some(pause) = verb.again_after() {
        run_once(verb, json)?;
        std::thread::sleep(pause);
    }
    run_once(verb, json)
}

fn run_once(verb: &dyn Ask, json: bool) -> Result<u8, Failure> {
    let request = verb.request()?;
    let under_way = match verb.is_cancelled_by_interrupt() {
        true => UnderWay::heed_interrupts(),
        false => UnderWay::default(),
    };
    let progress = render::Progress::new(json);
    let answer = client::ask(&request, |message| {
        under_way.follow(message);
        progress.show(message);
    });
    progress.end();
    let answer = answer?;
    verb.put_elsewhere(&answer)?;
    match json {
        true => println!("{answer}"),
        false => print!("{}", verb.show(&answer)?),
    }
    Ok(verb.exit_code(&answer))
}

impl Verb {
    fn as_ask(&self) -> &dyn Ask {
        match self {
            Self::Check(verb) => verb,
            Self::Checkpoint(verb) => verb,
            Self::Restore(verb) => verb,
            Self::Ls(verb) => verb,
            Self::Inspect(verb) => verb,
            Self::Rm(verb) => verb,
            Self::Gc(verb) => verb,
            Self::Export(verb) => verb,
            Self::Import(verb) => verb,
            Self::Push(verb) => verb,
            Self::Pull(verb) => verb,
            Self::Share(verb) => verb,
            Self::Migrate(verb) => verb,
            Self::Evacuate(verb) => verb,
            Self::Return(verb) => verb,
            Self::Forward(verb) => verb,
            Self::Decide(verb) => verb,
            Self::Cancel(verb) => verb,
            Self::Upgrade(verb) => verb,
            Self::Rollback(verb) => verb,
            Self::Report(verb) => verb,
            Self::Peer(verb) => verb,
            Self::Status(verb) => verb,
            Self::History(verb) => verb,
            Self::Metrics(verb) => verb,
            Self::Resume(verb) => verb,
            Self::Install(verb) => verb,
            Self::Uninstall(verb) => verb,
        }
    }
}

/// A text field of an answer; a dash where there is none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

/// The elements of a list in an answer.
fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// An absolute path for the helper, whose working directory is another.
fn absolute(path: &std::path::Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{} is no path", path.display())).because(&error))?;
    absolute.into_os_string().into_string().map_err(|path| Failure::usage(format!("{path:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
