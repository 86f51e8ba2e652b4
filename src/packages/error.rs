//! What can go wrong with packages, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::difference::Difference;
use super::problem::Holder;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, PackageError>;

/// Why packages could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The host has no package manager that is known here.
    #[error("this host has no package manager that transship knows: it knows apt")]
    NoManager,
    /// dockerd did not come from a package.
    #[error("Docker Engine was not installed from a package: neither docker.io nor docker-ce is there")]
    NoEngine,
    /// A program could not be run at all.
    #[error("cannot run `{command}`")]
    Run {
        command: String,
        #[source]
        source: io::Error,
    },
    /// A program ran and said no.
    #[error("`{command}` failed ({status})")]
    Failed { command: String, status: ExitStatus, log: Vec<String> },
    /// A program wrote what cannot be read.
    #[error("cannot understand what `{command}` wrote: {line:?}")]
    Malformed { command: String, line: String },
    /// A file or a directory could not be used.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The package manager knows no such version.
    #[error("there is no version {version} of {package}; known: {}", list(known))]
    NoSuchVersion { package: String, version: String, known: Vec<String> },
    /// There is nothing to do.
    #[error("{package} {version} is installed, and nothing of the engine would change{}", newer_ones(newer))]
    AlreadyInstalled {
        package: String,
        version: String,
        /// Newer versions that the manager knows and would not choose by itself.
        newer: Vec<String>,
    },
    /// The version that was asked for is older than what is installed.
    #[error("{package} {to} is older than {from}, which is installed")]
    Downgrade { package: String, from: String, to: String },
    /// Somebody has told the manager to leave these packages alone.
    #[error("on hold: {}", packages.join(", "))]
    Held { packages: Vec<String> },
    /// The manager finds no way to the target.
    #[error("apt finds no way to install {}", wanted.join(" "))]
    Unsatisfiable { wanted: Vec<String>, log: Vec<String> },
    /// There is too little room on a file system.
    #[error("{path} has {free} bytes free, and {needed} are needed", path = path.display())]
    Space { path: PathBuf, needed: u64, free: u64 },
    /// A repository that packages would come from does not answer.
    #[error("{repository} cannot be reached")]
    Unreachable { repository: String, log: Vec<String> },
    /// A package could not be fetched.
    #[error("cannot fetch {}", packages.join(" "))]
    Fetch { packages: Vec<String>, log: Vec<String> },
    /// The present version of a package cannot be had, so there would be no way back.
    #[error("{package} {version}, which is installed, cannot be had again, so there would be no way back")]
    NoWayBack { package: String, version: String },
    /// A fetched file is not the package that it should be.
    #[error("{path} is {found} and not {wanted}", path = path.display())]
    WrongPackage { path: PathBuf, wanted: String, found: String },
    /// A file does not have the digest that it was published or fetched with.
    #[error("{path} does not have the digest that it should have", path = path.display())]
    Digest { path: PathBuf },
    /// Installing the set would do more, less or something else than planned. Nothing was changed.
    #[error("installing would not do what was planned: {}", list(unexpected))]
    NotAsPlanned { unexpected: Vec<String> },
    /// Somebody else keeps the manager busy.
    #[error("{holder} holds {lock}", lock = lock.display())]
    Locked { lock: PathBuf, holder: Holder },
    /// The manager failed while it changed packages.
    #[error("installing the packages failed ({status})")]
    Install { status: ExitStatus, log: Vec<String> },
    /// The manager said that all is well, and it is not.
    #[error("after installing, {}", differences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Incomplete { differences: Vec<Difference> },
    /// What was saved before service starts were deferred cannot be read.
    #[error("cannot read {path}, which says what {place} was", path = path.display(), place = place.display())]
    Record {
        path: PathBuf,
        place: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl PackageError {
    /// For `map_err` on what is done with files.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// Whether it is a refusal, before anything was touched, that the operator can answer.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NoManager
                | Self::NoEngine
                | Self::NoSuchVersion { .. }
                | Self::AlreadyInstalled { .. }
                | Self::Downgrade { .. }
                | Self::Held { .. }
                | Self::Unsatisfiable { .. }
                | Self::Space { .. }
                | Self::Unreachable { .. }
                | Self::NoWayBack { .. }
                | Self::NotAsPlanned { .. }
        )
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::NoSuchVersion { .. } => "run `apt-get update`, or ask for one of the known versions".into(),
            Self::AlreadyInstalled { newer, .. } => match newer.first() {
                Some(newer) => format!("ask for the version by name: `--to {newer}`"),
                None => "run `apt-get update` if you expected a newer one".into(),
            },
            Self::Downgrade { .. } => "to go back to what was before an upgrade, roll that upgrade back".into(),
            Self::Held { packages } => format!("release them: `apt-mark unhold {}`", packages.join(" ")),
            Self::Unsatisfiable { .. } => "look at what apt says below; another version may do".into(),
            Self::Space { path, .. } => format!("make room on the file system of {}", path.display()),
            Self::Unreachable { .. } => "see whether this host reaches the mirrors in /etc/apt".into(),
            Self::Fetch { .. } => {
                "see whether the mirrors in /etc/apt can be reached, and run `apt-get update`: what it knew may be gone"
                    .into()
            }
            Self::NoWayBack { package, version } => {
                format!("install dpkg-repack, or put the file of {package} {version} into /var/cache/apt/archives")
            }
            Self::WrongPackage { path, .. } | Self::Digest { path } => {
                format!("remove {} and fetch again", path.display())
            }
            Self::NotAsPlanned { .. } => "packages were changed since; plan anew".into(),
            Self::Locked { .. } => "wait until it has ended, then try again".into(),
            _ => return None,
        };
        Some(remedy)
    }

    /// The last lines of what the manager wrote, where it did.
    pub fn log(&self) -> &[String] {
        match self {
            Self::Failed { log, .. }
            | Self::Unsatisfiable { log, .. }
            | Self::Unreachable { log, .. }
            | Self::Fetch { log, .. }
            | Self::Install { log, .. } => log,
            _ => &[],
        }
    }
}

fn list(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".into(),
        false => names.join(", "),
    }
}

fn newer_ones(newer: &[String]) -> String {
    match newer.is_empty() {
        true => String::new(),
        false => format!("; newer, but not chosen by this host's configuration: {}", newer.join(", ")),
    }
}
