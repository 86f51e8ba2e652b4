//! What was tried on which versions, and what came of it: one JSON object a line, in the file that `TRANSSHIP_RESULTS` names.
//! `scripts/compatibility` makes the table of docs/compatibility.md of it.

use super::host::Host;
use std::io::Write;

/// A scenario that is being tried; it has failed where this goes in a panic.
pub struct Tried {
    what: &'static str,
    hosts: Vec<String>,
}

/// What is tried, in the table's words, and on which hosts, as they are before.
pub fn tried(what: &'static str, hosts: &[Host]) -> Tried {
    let is_asked_for = std::env::var_os("TRANSSHIP_RESULTS").is_some();
    let hosts = if is_asked_for { hosts.iter().copied().map(describe).collect() } else { Vec::new() };
    Tried { what, hosts }
}

/// Everything about a host on which it may depend.
fn describe(host: Host) -> String {
    host.sh(". /etc/os-release; \
         version() { grep -oE '[0-9]+(\\.[0-9]+)+' | head -n 1; }; \
         echo \"$PRETTY_NAME, kernel $(uname -r | version), systemd $(systemctl --version | grep -oE '[0-9]+' | head -n 1), \
         Docker $(docker version -f '{{.Server.Version}}' | version), containerd $(containerd --version | version), \
         runc $(runc --version | version), CRIU $(criu --version | version)\" | tr -s ' '")
}

impl Drop for Tried {
    fn drop(&mut self) {
        let Some(file) = std::env::var_os("TRANSSHIP_RESULTS") else { return };
        let works = !std::thread::panicking();
        let line = serde_json::json!({ "what": self.what, "hosts": self.hosts, "works": works });
        let written = std::fs::File::options().append(true).create(true).open(&file);
        if let Err(error) = written.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("{}: {error}", file.display());
        }
    }
}
