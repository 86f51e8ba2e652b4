//! What speaks against changing packages just now.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A process that keeps the package manager busy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id; none where it is in a pid namespace that this one does not see.
    pub pid: Option<i32>,
    /// The name of its program; empty where that is not known.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.program.as_str()) {
            (None, _) => f.write_str("a process in another pid namespace"),
            (Some(pid), "") => write!(f, "process {pid}"),
            (Some(pid), program) => write!(f, "{program} (process {pid})"),
        }
    }
}

/// Something that speaks against changing packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// The manager was killed in the middle of something.
    Interrupted,
    /// Packages are neither installed nor not.
    Unfinished { packages: Vec<String> },
    /// Somebody has told the manager to leave these alone.
    Held { packages: Vec<String> },
    /// The manager is busy.
    Locked { lock: PathBuf, holder: Holder },
}

impl Problem {
    /// What is wrong, in one sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::Interrupted => "dpkg was interrupted, and what it had begun is not finished".into(),
            Self::Unfinished { packages } => format!("half installed or not configured: {}", packages.join(", ")),
            Self::Held { packages } => format!("on hold: {}", packages.join(", ")),
            Self::Locked { lock, holder } => format!("{holder} holds {}", lock.display()),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Interrupted | Self::Unfinished { .. } => {
                "run `dpkg --configure -a`, and `apt-get -f install`, or `apt-get install --reinstall` with its name, if \
                 that is not enough; all of these may restart services"
                    .into()
            }
            Self::Held { packages } => format!("release them: `apt-mark unhold {}`", packages.join(" ")),
            Self::Locked { holder, .. } => match holder.pid {
                Some(pid) => format!("wait until it has ended: `tail --pid={pid} -f /dev/null`"),
                None => "wait until it has ended".into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_with_who_holds_it() {
        let holder = Holder { pid: Some(812), program: "unattended-upgr".into() };
        let problem = Problem::Locked { lock: "/var/lib/dpkg/lock-frontend".into(), holder };
        assert_eq!(problem.reason(), "unattended-upgr (process 812) holds /var/lib/dpkg/lock-frontend");
        assert!(problem.remedy().contains("812"));
    }
}
