//! What was tried on which versions, and what came of it: one JSON object a line, in the file that `TRANSSHIP_RESULTS` names.
//! `scripts/compatibility` makes the table of docs/compatibility.md of it. What has failed tells what the helpers last said.

use super::host::Host;
use std::io::Write;

/// A scenario that is being tried; it has failed where this goes in a panic.
pub struct Tried {
    what: &'static str,
    on: Vec<Host>,
    hosts: Vec<String>,
}

/// What is tried, in the table's words, and on which hosts, as they are before.
pub fn tried(what: &'static str, on: &[Host]) -> Tried {
    let is_asked_for = std::env::var_os("TRANSSHIP_RESULTS").is_some();
    let hosts = if is_asked_for { on.iter().copied().map(describe).collect() } else { Vec::new() };
    Tried { what, on: on.to_vec(), hosts }
}

/// Everything about a host on which it may depend.
fn describe(host: Host) -> String {
    host.sh(". /etc/os-release; \
         version() { grep -oE '[0-9]+(\\.[0-9]+)+' | head -n 1; }; \
         echo \"$PRETTY_NAME, kernel $(uname -r | version), systemd $(systemctl --version | grep -oE '[0-9]+' | head -n 1), \
         Docker $(docker version -f '{{.Server.Version}}' | version), containerd $(containerd --version | version), \
         runc $(runc --version | version), CRIU $(criu --version | version)\" | tr -s ' '")
}

/// Prints what goes on there, and what the helper has said of late. A host may be off.
fn tell_of(host: Host) {
    let told =
        host.try_sh("transship status; docker ps -a; journalctl -u transshipd -n 60 --no-pager -o short-precise");
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    eprintln!("--- {}\n{out}{err}", host.0);
}

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.on.iter().copied().for_each(tell_of);
        }
        let Some(file) = std::env::var_os("TRANSSHIP_RESULTS") else { return };
        let works = !std::thread::panicking();
        let line = serde_json::json!({ "what": self.what, "hosts": self.hosts, "works": works });
        let written = std::fs::File::options().append(true).create(true).open(&file);
        if let Err(error) = written.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("{}: {error}", file.display());
        }
    }
}
