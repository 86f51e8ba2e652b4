//! systemd, and sysv's `service` where there is no systemd.

use std::path::Path;
use std::process::Command;

/// Why the service manager did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The program could not be run.
    #[error("cannot run `{command}`")]
    Run {
        command: String,
        #[source]
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("`{command}` failed: {stderr}")]
    Failed { command: String, stderr: String },
}

/// What starts and stops services on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManager {
    /// systemd is pid 1.
    Systemd,
    /// Scripts in `/etc/init.d`.
    Sysv,
}

impl ServiceManager {
    /// As `sd_booted(3)` tells.
    pub fn of_this_host() -> Self {
        match Path::new("/run/systemd/system").is_dir() {
            true => Self::Systemd,
            false => Self::Sysv,
        }
    }

    /// Whether there is such a service.
    pub fn knows(self, service: &str) -> bool {
        match self {
            Self::Systemd => run("systemctl", &["cat", &format!("{service}.service")]).is_ok(),
            Self::Sysv => Path::new("/etc/init.d").join(service).exists(),
        }
    }

    /// Whether it runs now.
    pub fn is_active(self, service: &str) -> bool {
        match self {
            Self::Systemd => run("systemctl", &["is-active", "--quiet", service]).is_ok(),
            Self::Sysv => run("service", &[service, "status"]).is_ok(),
        }
    }

    /// Stops and starts it; returns when the manager says that it is started.
    pub fn restart(self, service: &str) -> Result<(), ManagerError> {
        match self {
            Self::Systemd => run("systemctl", &["restart", service]),
            Self::Sysv => run("service", &[service, "restart"]),
        }
    }

    /// Makes it read its configuration files again.
    pub fn reload_configuration(self) -> Result<(), ManagerError> {
        match self {
            Self::Systemd => run("systemctl", &["daemon-reload"]),
            Self::Sysv => Ok(()),
        }
    }
}

fn run(program: &str, words: &[&str]) -> Result<(), ManagerError> {
    let command = format!("{program} {}", words.join(" "));
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|source| ManagerError::Run { command: command.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ManagerError::Failed { command, stderr })
}
