//! The helper's settings: `/etc/transship/transship.json`, every field with a default.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the settings are.
pub const FILE: &str = "/etc/transship/transship.json";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there and cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not JSON of this shape.
    #[error("{path} is not a valid configuration", path = path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// Checked settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// dockerd's socket.
    pub docker_socket: PathBuf,
    /// Checkpoints of a container that are kept besides those in use.
    pub keep_last: usize,
    /// Checkpoints older than this many days go; 0 keeps them.
    pub keep_days: u32,
    /// All checkpoints together take at most this many bytes; 0 is a quarter of the store's file system.
    pub quota_bytes: u64,
    /// zstd's level for stored checkpoints, 1 to 19.
    pub compression_level: i32,
    /// Packets a hold keeps for one container; more are dropped, and sent again by their senders.
    pub parked_packets: u32,
    /// How long connections that wait to be accepted are given time to be, before the freeze.
    pub accept_patience_ms: u64,
    /// Whether the kernel's grace periods are shortened while containers are away.
    pub expedite_rcu: bool,
    /// Whether Docker's services and the helper have a larger share of the processors while containers are away.
    pub raise_weights: bool,
    /// The TCP port on which peers call this host.
    pub port: u16,
    /// The TCP port of 127.0.0.1 on which monitors ask for figures; 0 is none.
    pub metrics_port: u16,
    /// How long after an upgrade containers have to go on well before it counts, in seconds.
    pub grace_seconds: u32,
    /// How long a hook may take, in seconds; then it is ended, and has failed.
    pub hook_seconds: u32,
    /// How long a container that comes back waits for others to be given their addresses by Docker while none of them is,
    /// in seconds.
    pub address_turn_seconds: u32,
    /// How long a registry may take to answer, in seconds, until an image is sent by the host that its containers come from;
    /// 0 has none pulled.
    pub pull_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            docker_socket: "/var/run/docker.sock".into(),
            keep_last: 2,
            keep_days: 30,
            quota_bytes: 0,
            compression_level: 3,
            parked_packets: 65_536,
            accept_patience_ms: 500,
            expedite_rcu: true,
            raise_weights: true,
            port: 7423,
            metrics_port: 0,
            grace_seconds: 10,
            hook_seconds: 600,
            address_turn_seconds: 600,
            pull_seconds: 10,
        }
    }
}

impl Settings {
    /// Reads the file; where there is none, everything is as by default.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|source| SettingsError::Parse { path: path.into(), source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { path: path.into(), source }),
        }
    }

    /// How long connections are given time to be accepted.
    pub fn accept_patience(&self) -> Duration {
        Duration::from_millis(self.accept_patience_ms)
    }

    /// How long a hook may take.
    pub fn longest_hook(&self) -> Duration {
        Duration::from_secs(self.hook_seconds.into())
    }

    /// How long a container waits for its turn while nobody's ends.
    pub fn longest_address_turn(&self) -> Duration {
        Duration::from_secs(self.address_turn_seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_an_error_and_not_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("transship.json");
        std::fs::write(&path, r#"{ "keep_lats": 3 }"#).unwrap();
        assert!(matches!(Settings::load(&path), Err(SettingsError::Parse { .. })));
    }

    #[test]
    fn no_file_is_all_defaults() {
        assert_eq!(Settings::load(Path::new("/nonexistent/x")).unwrap(), Settings::default());
    }
}
