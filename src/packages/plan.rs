//! Versions there are, versions there are to be, and all that changes on the way.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::engine::{Family, Role};
use super::error::{PackageError, Result};

/// Where a version comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suite {
    /// Who publishes it, as in `Debian`; its address where it does not say.
    pub origin: String,
    /// The release, as in `trixie`.
    pub name: String,
    /// How much this host's configuration prefers it.
    pub priority: i32,
}

impl Suite {
    /// Whether versions from both are made for each other. A release and its updates are; its backports and another
    /// release are not.
    pub fn belongs_with(&self, other: &Self) -> bool {
        self.origin == other.origin && self.release() == other.release()
    }

    fn release(&self) -> &str {
        let pockets = ["-security", "-proposed-updates", "-updates", "-proposed"];
        pockets.iter().find_map(|pocket| self.name.strip_suffix(pocket)).unwrap_or(&self.name)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.origin, self.name)
    }
}

/// One version of a package that the manager knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The package's full version.
    pub version: String,
    /// Where it can be had; empty where it is only installed.
    pub suites: Vec<Suite>,
    /// Whether it is the one that is installed.
    pub installed: bool,
    /// Whether the manager would choose it by itself.
    pub candidate: bool,
    /// Whether the host's configuration forbids it.
    pub forbidden: bool,
}

/// What the operator asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// A package's full version, an upstream version such as `28.5.2`, or the beginning of one such as `28`; none for
    /// what the manager would choose by itself.
    pub version: Option<String>,
    /// Whether it may be older than what is installed.
    pub allow_downgrade: bool,
    /// Whether CRIU is to change too. Otherwise it does only where something requires it.
    pub criu: bool,
}

/// One of the engine's packages that is to change, and to which version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub package: String,
    /// What it is for.
    pub role: Role,
    /// The version that is installed; none where the package is new.
    pub from: Option<String>,
    /// The version that it is to have.
    pub to: String,
}

/// The versions that the engine's packages are to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Who made them.
    pub family: Family,
    /// Where the engine's version comes from.
    pub suites: Vec<Suite>,
    /// Those that change. The engine itself may not be among them: it can be new already while runc is not.
    pub wanted: Vec<Wanted>,
    /// Whether any of them becomes older.
    pub downgrade: bool,
}

/// Which way a package changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// It becomes newer.
    Upgraded,
    /// It becomes older.
    Downgraded,
    /// It comes anew.
    Installed,
    /// It goes.
    Removed,
    /// The same version is installed again.
    Reinstalled,
}

/// Why a package changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is one of the [`Target`]'s.
    Wanted,
    /// One that is wanted cannot be without it, or not beside it.
    Required,
    /// One that is wanted recommends it, and this host is set up to follow recommendations.
    Recommended,
}

/// One package that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name, with the architecture where that is not the host's.
    pub package: String,
    /// The version that is installed; none where the package is new.
    pub from: Option<String>,
    /// The version that it will have; none where it goes.
    pub to: Option<String>,
    /// Which way it changes.
    pub direction: Direction,
    /// Why it changes.
    pub reason: Reason,
    /// Whether the manager may remove it once nothing needs it. Installing it must not change that.
    pub automatic: bool,
}

/// Bytes that a plan needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// The new packages, fetched.
    pub forward: u64,
    /// The present packages, fetched or rebuilt; an upper bound.
    pub backward: u64,
    /// More that is needed while the new packages are unpacked; an upper bound.
    pub unpacking: u64,
}

/// Where packages are unpacked to.
pub(super) const SYSTEM: &str = "/usr";

impl Space {
    /// Bytes that are needed for unpacking on the file system that `directory` is on: none where packages are unpacked to
    /// another one.
    ///
    /// # Errors
    /// When one of them cannot be looked at.
    pub fn unpacking_beside(&self, directory: &Path) -> Result<u64> {
        let device =
            |path: &Path| std::fs::metadata(path).map(|found| found.dev()).map_err(PackageError::io("look at", path));
        Ok(if device(directory)? == device(Path::new(SYSTEM))? { self.unpacking } else { 0 })
    }
}

/// Everything that changes on the way to a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where it leads.
    pub target: Target,
    /// Each package that changes, in the manager's order.
    pub changes: Vec<Change>,
    /// Bytes that it needs.
    pub space: Space,
}

impl Direction {
    fn reversed(self) -> Self {
        match self {
            Self::Upgraded => Self::Downgraded,
            Self::Downgraded => Self::Upgraded,
            Self::Installed => Self::Removed,
            Self::Removed => Self::Installed,
            Self::Reinstalled => Self::Reinstalled,
        }
    }
}

impl Plan {
    /// The way back from where this one has led.
    pub fn reversed(self) -> Self {
        // One that came anew goes, which is not wanted but follows.
        let wanted = self.target.wanted.into_iter().filter_map(|wanted| {
            let to = wanted.from?;
            Some(Wanted { from: Some(wanted.to), to, ..wanted })
        });
        let wanted = wanted.collect();
        let change = |change: Change| Change {
            from: change.to,
            to: change.from,
            direction: change.direction.reversed(),
            ..change
        };
        Self {
            target: Target { wanted, downgrade: !self.target.downgrade, ..self.target },
            changes: self.changes.into_iter().map(change).collect(),
            space: Space { forward: self.space.backward, backward: self.space.forward, ..self.space },
        }
    }

    /// The packages that go: to be told before anything else.
    pub fn removed(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.direction == Direction::Removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(origin: &str, name: &str) -> Suite {
        Suite { origin: origin.into(), name: name.into(), priority: 500 }
    }

    #[test]
    fn there_and_back_is_there_where_nothing_came_anew() {
        let wanted = Wanted { package: "runc".into(), role: Role::Runc, from: Some("1.1".into()), to: "1.3".into() };
        let change = |package: &str, from: Option<&str>, to: Option<&str>, direction| Change {
            package: package.into(),
            from: from.map(Into::into),
            to: to.map(Into::into),
            direction,
            reason: Reason::Required,
            automatic: false,
        };
        let target =
            Target { family: Family::Distribution, suites: Vec::new(), wanted: vec![wanted], downgrade: false };
        let changes = vec![
            change("runc", Some("1.1"), Some("1.3"), Direction::Upgraded),
            change("tini", Some("0.19"), None, Direction::Removed),
            change("tini-static", None, Some("0.19"), Direction::Installed),
        ];
        let plan = Plan { target, changes, space: Space { forward: 1, backward: 2, unpacking: 3 } };
        let back = plan.clone().reversed();
        assert_eq!((back.changes[1].direction, back.changes[1].to.as_deref()), (Direction::Installed, Some("0.19")));
        assert_eq!((back.target.downgrade, back.target.wanted[0].to.as_str()), (true, "1.1"));
        assert_eq!(back.reversed(), plan);
    }

    #[test]
    fn a_release_belongs_with_its_updates_and_with_nothing_else() {
        let trixie = suite("Debian", "trixie");
        assert!(trixie.belongs_with(&suite("Debian", "trixie-security")));
        assert!(suite("Ubuntu", "noble-updates").belongs_with(&suite("Ubuntu", "noble-security")));
        assert!(!trixie.belongs_with(&suite("Debian", "sid")));
        assert!(!trixie.belongs_with(&suite("Debian Backports", "trixie-backports")));
        assert!(!trixie.belongs_with(&suite("Docker", "trixie")));
    }
}
