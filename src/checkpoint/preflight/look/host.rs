//! What the host offers: programs, kernel, privileges.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;

use super::diag;
use super::process::read_text;
use crate::checkpoint::preflight::facts::{HostFacts, Tool};
use crate::criu::error::CriuError;
use crate::criu::rpc::{Criu, Version};

/// Where runc has CRIU look for settings.
const CRIU_CONFIGURATION: &str = "/etc/criu/runc.conf";

impl HostFacts {
    /// Looks at this host. `interposer` tells whether dockerd calls the interposer, which only its configuration
    /// knows. Starts `criu` and `runc` once each, to ask for their versions.
    pub fn collect(interposer: bool) -> Self {
        Self {
            criu: criu(),
            runc: runc(),
            kernel: kernel(&read_text("/proc/sys/kernel/osrelease").unwrap_or_default()),
            interposer,
            capabilities: capabilities(&read_text("/proc/self/status").unwrap_or_default()),
            checkpoint_restore: ["/proc/self/map_files", "/proc/sys/kernel/ns_last_pid"]
                .iter()
                .all(|path| Path::new(path).exists()),
            tcp_repair_error: tcp_repair().err().map(|error| error.to_string()),
            // Where even asking fails, the canary will tell.
            missing_diag: diag::missing_modules().unwrap_or_default(),
            freezer: freezer(),
            missing_iptables: ["iptables-restore", "ip6tables-restore"]
                .into_iter()
                .filter(|name| !in_path(name))
                .map(str::to_owned)
                .collect(),
            network_lock: network_lock(&read_text(CRIU_CONFIGURATION).unwrap_or_default()),
        }
    }
}

fn criu() -> Tool {
    match Criu::in_path().and_then(|criu| criu.version()) {
        Ok(version) => Tool::Version(version),
        Err(CriuError::NotFound { .. }) => Tool::Missing,
        Err(error) => Tool::Broken(error.to_string()),
    }
}

fn runc() -> Tool {
    let mut command = Command::new("runc");
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.lines().next().and_then(parse_version);
            version.map_or_else(|| Tool::Broken("it does not tell its version".to_owned()), Tool::Version)
        }
        Ok(output) => Tool::Broken(output.status.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Tool::Missing,
        Err(error) => Tool::Broken(error.to_string()),
    }
}

/// The first word of a line that is a version: `runc version 1.3.6+ds1`.
fn parse_version(line: &str) -> Option<Version> {
    line.split_whitespace().find_map(|word| {
        let mut parts = word.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse::<u32>().ok()
        });
        let (major, minor) = (parts.next()??, parts.next()??);
        Some(Version::new(major, minor, parts.next().flatten().unwrap_or(0)))
    })
}

fn kernel(release: &str) -> (u32, u32) {
    parse_version(release).map_or((0, 0), |version| (version.major, version.minor))
}

fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Puts a socket of our own in repair mode and out again.
fn tcp_repair() -> io::Result<()> {
    const TCP_REPAIR: libc::c_int = 19;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    for value in [1 as libc::c_int, 0] {
        let length = size_of_val(&value) as libc::socklen_t;
        let pointer = (&raw const value).cast();
        // SAFETY: value and length describe a c_int that outlives the call.
        let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_REPAIR, pointer, length) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Version 2 always has one; version 1 where the controller is on.
fn freezer() -> bool {
    let v1 = read_text("/proc/cgroups").unwrap_or_default();
    let controller = v1.lines().any(|line| line.starts_with("freezer\t") && line.ends_with('1'));
    controller || Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| fs::metadata(directory.join(program)).is_ok_and(|m| m.is_file()))
}

/// `network-lock nftables` in CRIU's configuration: a word, an optional `=`, a value, `#` for the rest.
fn network_lock(configuration: &str) -> Option<String> {
    let lines = configuration.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut settings = lines.filter_map(|line| {
        let rest = line.trim().trim_start_matches('-').strip_prefix("network-lock")?;
        Some(rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=').trim().to_owned())
    });
    settings.next().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("runc version 1.3.6+ds1"), Some(Version::new(1, 3, 6)));
        assert_eq!(parse_version("runc version 1.0.0-rc93"), Some(Version::new(1, 0, 0)));
        assert_eq!(kernel("6.18.44-fc-v669\n"), (6, 18));
        assert_eq!(kernel("7.2-rc1"), (7, 2));
        assert_eq!(parse_version("nothing here"), None);
    }

    #[test]
    fn the_lock_setting_is_read() {
        assert_eq!(network_lock("# x\nnetwork-lock nftables\n").as_deref(), Some("nftables"));
        assert_eq!(network_lock("  --network-lock = skip # why").as_deref(), Some("skip"));
        assert_eq!(network_lock("tcp-established\n#network-lock nftables"), None);
        assert_eq!(capabilities("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
    }

    #[test]
    fn this_host_has_a_kernel() {
        let facts = HostFacts::collect(true);
        assert!(facts.kernel.0 >= 5);
        assert!(facts.interposer);
    }
}
