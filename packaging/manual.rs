//! Writes what the package tells of the command line, as it is defined: manual pages, completions for shells, and the
//! settings with their defaults.
//!
//!   manual ROOT      under ROOT, where the package has them

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::path::{Path, PathBuf};
use transship::cli::Arguments;
use transship::settings::Settings;

const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "usr/share/bash-completion/completions/transship"),
    (Shell::Zsh, "usr/share/zsh/vendor-completions/_transship"),
    (Shell::Fish, "usr/share/fish/vendor_completions.d/transship.fish"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: manual ROOT")?;
    let mut command = Arguments::command();
    command.build();
    let pages = root.join("usr/share/man/man1");
    std::fs::create_dir_all(&pages)?;
    write_pages(&command, &pages)?;
    for (shell, place) in SHELLS {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "transship", &mut script);
        put(&root.join(place), &script)?;
    }
    let defaults = serde_json::to_string_pretty(&Settings::default())? + "\n";
    put(&root.join("usr/share/doc/transship/examples/transship.json"), defaults.as_bytes())?;
    Ok(())
}

/// A page for the command and for each of its verbs; `help` explains itself.
fn write_pages(command: &Command, directory: &Path) -> std::io::Result<()> {
    clap_mangen::Man::new(command.clone()).generate_to(directory)?;
    command.get_subcommands().filter(|verb| verb.get_name() != "help").try_for_each(|verb| write_pages(verb, directory))
}

fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, bytes)
}
