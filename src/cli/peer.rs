//! `transship peer`

use super::render::table;
use super::{Ask, list, text};
use crate::failure::Failure;
use crate::helper::protocol::{Hidden, Request};
use clap::Subcommand;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than this is no invitation.
const LARGEST_INVITATION: u64 = 64 << 10;

/// Know other hosts, and be known by them
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Invite(Invite),
    Join(Join),
    Ls(List),
    Rm(Remove),
    Allow(Allow),
    Rotate(Rotate),
}

/// Print one word that another host can be paired with, once
///
/// The word is a secret: whoever has it first is paired. It is the only thing on standard output.
#[derive(Debug, clap::Args)]
struct Invite {
    /// Where the other host reaches this one; else this host's own addresses.
    #[arg(long = "address", value_name = "HOST[:PORT]")]
    addresses: Vec<String>,
    /// What the other host will be called here; else what it calls itself.
    #[arg(long)]
    name: Option<String>,
    /// How long it is valid.
    #[arg(long, default_value_t = 10, value_name = "MINUTES")]
    valid_minutes: u32,
}

/// Answer an invitation: both hosts are each other's peers then
#[derive(Debug, clap::Args)]
struct Join {
    /// The word; `-` reads it from standard input, where `ps` does not show it.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    token: Option<String>,
    /// A file with the word.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Where the other host reaches this one; else this host's own addresses.
    #[arg(long = "address", value_name = "HOST[:PORT]")]
    addresses: Vec<String>,
}

/// List peers and open invitations
#[derive(Debug, clap::Args)]
struct List {}

/// Remove a peer: its connections are closed at once
#[derive(Debug, clap::Args)]
struct Remove {
    /// The peer.
    name: String,
}

/// Say what a peer may do here
#[derive(Debug, clap::Args)]
struct Allow {
    /// The peer.
    name: String,
    /// Whether it may move containers here.
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no, required_unless_present_any = ["checkpoints", "takes_back"])]
    containers: Option<bool>,
    /// Whether it may store checkpoints here; nothing asks for that yet.
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no)]
    checkpoints: Option<bool>,
    /// Whether it may have containers back that came from it.
    #[arg(long = "return", value_name = "yes|no", value_parser = yes_or_no)]
    takes_back: Option<bool>,
}

/// Give this host another key, and tell its peers
#[derive(Debug, clap::Args)]
struct Rotate {}

fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no"),
    }
}

impl Arguments {
    fn verb(&self) -> &dyn Ask {
        match &self.verb {
            Verb::Invite(verb) => verb,
            Verb::Join(verb) => verb,
            Verb::Ls(verb) => verb,
            Verb::Rm(verb) => verb,
            Verb::Allow(verb) => verb,
            Verb::Rotate(verb) => verb,
        }
    }
}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        self.verb().request()
    }

    fn tell(&self, answer: &Value) -> String {
        self.verb().tell(answer)
    }

    fn show(&self, answer: &Value) -> Result<String, Failure> {
        self.verb().show(answer)
    }
}

impl Ask for Invite {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::PeerInvite {
            addresses: self.addresses.clone(),
            name: self.name.clone(),
            valid_minutes: self.valid_minutes,
        })
    }

    fn tell(&self, answer: &Value) -> String {
        format!("{}\n", text(answer, "token"))
    }

    /// What a person has to know goes beside the word, so that a script can have the word alone.
    fn show(&self, answer: &Value) -> Result<String, Failure> {
        eprintln!("On the other host: transship peer join WORD, or transship peer join - with the word on its input.");
        eprintln!("It calls this host at {}.", strings(answer, "addresses"));
        eprintln!(
            "The word is valid once, until {}. Whoever has it can be paired: pass it on in secret.",
            text(answer, "expires")
        );
        Ok(self.tell(answer))
    }
}

impl Ask for Join {
    fn request(&self) -> Result<Request, Failure> {
        let invitation = match (&self.token, &self.file) {
            (Some(token), _) if token == "-" => read(std::io::stdin(), Path::new("standard input"))?,
            (Some(token), _) => token.clone(),
            (None, Some(path)) => {
                let file = File::open(path);
                let cannot = |error| Failure::usage(format!("cannot open {}", path.display())).because(&error);
                read(file.map_err(cannot)?, path)?
            }
            (None, None) => return Err(Failure::usage("no invitation is given")),
        };
        Ok(Request::PeerJoin { invitation: Hidden(invitation), addresses: self.addresses.clone() })
    }

    fn tell(&self, answer: &Value) -> String {
        format!("{} is a peer now, at {}\n", text(answer, "peer"), strings(answer, "addresses"))
    }
}

fn read(from: impl Read, of: &Path) -> Result<String, Failure> {
    let mut word = String::new();
    let cannot = |error| Failure::usage(format!("cannot read an invitation from {}", of.display())).because(&error);
    from.take(LARGEST_INVITATION).read_to_string(&mut word).map_err(cannot)?;
    Ok(word.trim().to_owned())
}

impl Ask for List {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::PeerList)
    }

    fn tell(&self, answer: &Value) -> String {
        let row = |peer: &Value| {
            vec![
                text(peer, "name").to_owned(),
                strings(peer, "addresses"),
                yes(peer, "containers").to_owned(),
                yes(peer, "checkpoints").to_owned(),
                yes(peer, "return").to_owned(),
                text(peer, "fingerprint").get(..16).unwrap_or("-").to_owned(),
            ]
        };
        let rows: Vec<_> = list(answer, "peers").map(row).collect();
        let mut out = table(&["PEER", "ADDRESSES", "CONTAINERS", "CHECKPOINTS", "RETURN", "KEY"], &rows);
        for invitation in list(answer, "invitations") {
            out.push_str(&format!("an invitation is open until {}\n", text(invitation, "expires")));
        }
        for peer in list(answer, "peers").filter(|peer| peer["knows_own_key"] == false) {
            out.push_str(&format!("{} knows this host by a former key\n", text(peer, "name")));
        }
        out
    }
}

fn yes(value: &Value, key: &str) -> &'static str {
    match value[key].as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

/// A list of texts with commas.
fn strings(value: &Value, key: &str) -> String {
    list(value, key).filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

impl Ask for Remove {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::PeerRemove { name: self.name.clone() })
    }

    fn tell(&self, answer: &Value) -> String {
        format!("{} is no peer any more; remove this host there as well\n", text(answer, "removed"))
    }
}

impl Ask for Allow {
    fn request(&self) -> Result<Request, Failure> {
        let Self { name, containers, checkpoints, takes_back } = self;
        let (name, containers, checkpoints, takes_back) = (name.clone(), *containers, *checkpoints, *takes_back);
        Ok(Request::PeerAllow { name, containers, checkpoints, takes_back })
    }

    fn tell(&self, answer: &Value) -> String {
        let may = ["containers", "checkpoints", "return"].map(|what| format!("{what} {}", yes(answer, what)));
        format!("{}: {}\n", text(answer, "peer"), may.join(", "))
    }
}

impl Ask for Rotate {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::PeerRotate)
    }

    fn tell(&self, answer: &Value) -> String {
        let mut out = format!("this host has the key {}\n", text(answer, "fingerprint"));
        let told = strings(answer, "told");
        if !told.is_empty() {
            out.push_str(&format!("told: {told}\n"));
        }
        for peer in list(answer, "not_told") {
            out.push_str(&format!(
                "{} knows the former key alone, which stays valid for it: {}; rotate again when it can be reached\n",
                text(peer, "name"),
                text(peer, "why")
            ));
        }
        if let Some(closed) = answer["invitations_closed"].as_u64().filter(|closed| *closed > 0) {
            out.push_str(&format!("open invitations are closed: {closed}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use clap::Parser;

    fn reads(words: &str) -> bool {
        Arguments::try_parse_from(words.split(' ')).is_ok()
    }

    #[test]
    fn what_is_missing_is_told() {
        assert!(reads("transship peer allow beta --containers no"));
        assert!(reads("transship peer allow beta --containers no --checkpoints yes"));
        assert!(!reads("transship peer allow beta"));
        assert!(!reads("transship peer allow beta --containers perhaps"));
        assert!(reads("transship peer join -"));
        assert!(reads("transship peer join --file x --address 10.0.0.1 --address [::1]:80"));
        assert!(!reads("transship peer join"));
        assert!(!reads("transship peer join word --file x"));
    }
}
