//! A restored container's network for the time before dockerd has set it up.
//!
//! CRIU connects established sockets again while the container's network namespace is still empty: dockerd adds
//! its interfaces only after `create`. An OCI `prestart` hook of our own, run by runc in CRIU's set-up of the
//! namespaces, puts the container's addresses on the loopback interface meanwhile. Engines up to 27 bring a hook
//! of their own that sets the network up at that very point; there nothing is added.

use super::HOOK_NAME;
use crate::network::temporary;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

/// dockerd's own hook (libnetwork, `sandbox_externalkey_unix.go`).
const DOCKERS_HOOK: &str = "libnetwork-setkey";

/// A runtime state is a few hundred bytes.
const LARGEST_STATE: u64 = 1 << 20;

/// Makes the bundle's configuration fit for a restore; returns it.
pub fn prepare(bundle: &Path, addresses: &[IpAddr]) -> io::Result<Value> {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    resolve_sources(&mut config);
    if !addresses.is_empty() && has_own_network(&config) && !has_dockers_hook(&config) {
        add(&mut config, addresses)?;
    }
    // The bundle is made anew for each start; a half-written file fails this one and no other.
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    Ok(config)
}

/// CRIU binds a source that is a symbolic link as a link, which then leads nowhere (`docker-init` on Debian is one).
fn resolve_sources(config: &mut Value) {
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        let resolved = mount["source"].as_str().filter(|source| source.starts_with('/')).map(std::fs::canonicalize);
        if let Some(Ok(resolved)) = resolved {
            mount["source"] = json!(resolved);
        }
    }
}

fn add(config: &mut Value, addresses: &[IpAddr]) -> io::Result<()> {
    let mut words = vec![HOOK_NAME.to_owned()];
    words.extend(addresses.iter().map(IpAddr::to_string));
    let path_variable = format!("PATH={}", std::env::var("PATH").unwrap_or_default());
    let hook = json!({ "path": std::fs::read_link("/proc/self/exe")?, "args": words, "env": [path_variable] });
    match config.pointer_mut("/hooks/prestart").and_then(Value::as_array_mut) {
        Some(hooks) => hooks.push(hook),
        None => config["hooks"]["prestart"] = json!([hook]),
    }
    Ok(())
}

fn has_dockers_hook(config: &Value) -> bool {
    let hooks = config.pointer("/hooks/prestart").and_then(Value::as_array);
    let mut words = hooks.into_iter().flatten().flat_map(|hook| hook["args"].as_array().into_iter().flatten());
    words.any(|word| word == DOCKERS_HOOK)
}

/// Whether the namespace is made for this container, and not joined (`--network container:x`, `host`).
fn has_own_network(config: &Value) -> bool {
    let namespaces = config.pointer("/linux/namespaces").and_then(Value::as_array);
    let mut network = namespaces.into_iter().flatten().filter(|namespace| namespace["type"] == "network");
    network.any(|namespace| namespace["path"].as_str().unwrap_or_default().is_empty())
}

/// Runs as the hook: the addresses as words, the runtime's state with the pid on standard input.
pub fn main() -> ExitCode {
    match set_up() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transship: cannot set up the restored container's network: {error}");
            ExitCode::FAILURE
        }
    }
}

fn set_up() -> Result<(), Box<dyn std::error::Error>> {
    let addresses = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<Vec<IpAddr>, _>>()?;
    let mut state = Vec::new();
    io::stdin().take(LARGEST_STATE).read_to_end(&mut state)?;
    let state: Value = serde_json::from_slice(&state)?;
    let pid = state["pid"].as_i64().ok_or("the runtime's state has no pid")?;
    temporary::place(u32::try_from(pid)?, &addresses)?;
    Ok(())
}
