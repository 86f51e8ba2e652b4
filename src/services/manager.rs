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

/// As much of a log as tells why.
const LOG_LINES: usize = 12;

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

    /// Stops it, and what would start it again by itself; returns when it has ended.
    pub fn stop(self, service: &str) -> Result<(), ManagerError> {
        match self {
            Self::Systemd => {
                let socket = format!("{service}.socket");
                // A socket that still listens would start the service again at the first question.
                if run("systemctl", &["cat", &socket]).is_ok() {
                    run("systemctl", &["stop", &socket])?;
                }
                run("systemctl", &["stop", &format!("{service}.service")])
            }
            Self::Sysv => {
                let stopped = run("service", &[service, "stop"]);
                // Its script fails where the process has ended by itself; that is what was asked for.
                stopped.or_else(|error| if self.is_active(service) { Err(error) } else { Ok(()) })
            }
        }
    }

    /// Starts it, without waiting until it answers: that may be never, and its unit may set no limit.
    pub fn begin_to_start(self, service: &str) -> Result<(), ManagerError> {
        match self {
            Self::Systemd => {
                let (unit, socket) = (format!("{service}.service"), format!("{service}.socket"));
                // What was given up after too many tries is refused one more; a unit that is not there has not failed.
                let _ = run("systemctl", &["reset-failed", &unit, &socket]);
                run("systemctl", &["start", "--no-block", &unit])
            }
            Self::Sysv => run("service", &[service, "start"]),
        }
    }

    /// Whether the manager has given it up.
    pub fn has_failed(self, service: &str) -> bool {
        match self {
            Self::Systemd => run("systemctl", &["is-failed", "--quiet", service]).is_ok(),
            Self::Sysv => !self.is_active(service),
        }
    }

    /// The last lines that it has logged.
    pub fn log(self, service: &str) -> Vec<String> {
        let lines = |text: String| text.lines().rev().take(LOG_LINES).map(str::to_owned).collect::<Vec<_>>();
        let mut last = match self {
            Self::Systemd => {
                let unit = format!("{service}.service");
                let number = LOG_LINES.to_string();
                let words = ["--unit", unit.as_str(), "--lines", number.as_str(), "--no-pager", "--output", "cat"];
                let output = Command::new("journalctl").args(words).output();
                output.map(|output| lines(String::from_utf8_lossy(&output.stdout).into_owned())).unwrap_or_default()
            }
            Self::Sysv => std::fs::read(format!("/var/log/{service}.log"))
                .map(|bytes| lines(String::from_utf8_lossy(&bytes).into_owned()))
                .unwrap_or_default(),
        };
        last.reverse();
        last
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
