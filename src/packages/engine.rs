//! Which packages make up an engine, whoever packaged it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// dockerd.
    Engine,
    /// `docker`, the client.
    Cli,
    /// containerd; in Docker's own packages runc too.
    Containerd,
    /// runc.
    Runc,
    /// CRIU.
    Criu,
    /// `docker compose`.
    Compose,
    /// `docker buildx`.
    Buildx,
    /// Scripts for running dockerd without root.
    Rootless,
}

/// Who made the packages: they cannot be mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The distribution: `docker.io`.
    Distribution,
    /// Docker Inc.: `docker-ce`.
    Docker,
}

impl Family {
    /// The package that has dockerd in it.
    pub fn engine(self) -> &'static str {
        match self {
            Self::Distribution => "docker.io",
            Self::Docker => "docker-ce",
        }
    }

    /// The package that has `docker`, the client, in it.
    pub fn cli(self) -> &'static str {
        match self {
            Self::Distribution => "docker-cli",
            Self::Docker => "docker-ce-cli",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Distribution => "the distribution's packages",
            Self::Docker => "Docker's own packages",
        })
    }
}

/// All packages that an engine may consist of, on Debian, Ubuntu, and from Docker.
pub(super) const PACKAGES: &[(&str, Role)] = &[
    ("docker.io", Role::Engine),
    ("docker-ce", Role::Engine),
    ("docker-cli", Role::Cli),
    ("docker-ce-cli", Role::Cli),
    ("containerd", Role::Containerd),
    ("containerd.io", Role::Containerd),
    ("runc", Role::Runc),
    ("criu", Role::Criu),
    ("docker-compose", Role::Compose),
    ("docker-compose-v2", Role::Compose),
    ("docker-compose-plugin", Role::Compose),
    ("docker-buildx", Role::Buildx),
    ("docker-buildx-plugin", Role::Buildx),
    ("docker-ce-rootless-extras", Role::Rootless),
];

/// The role of the package, where it has one.
#[cfg(test)]
pub(super) fn role_of(package: &str) -> Option<Role> {
    PACKAGES.iter().find(|(name, _)| *name == package).map(|(_, role)| *role)
}

/// One package of the engine as it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnginePackage {
    /// Its name.
    pub package: String,
    /// What it is for.
    pub role: Role,
    /// The package's full version.
    pub version: String,
    /// Whether somebody has told the manager to leave it alone.
    pub held: bool,
}

/// The packages of an engine as they are installed, the engine first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnginePackages {
    /// Who made them.
    pub family: Family,
    /// All of them, in the order of their roles.
    pub packages: Vec<EnginePackage>,
}

impl EnginePackages {
    /// The packages that are installed as an engine's; none where dockerd is not among them.
    pub(super) fn of(mut packages: Vec<EnginePackage>) -> Option<Self> {
        packages.sort_by_key(|package| package.role);
        let engine = packages.first().filter(|package| package.role == Role::Engine)?;
        let family = match engine.package == Family::Docker.engine() {
            true => Family::Docker,
            false => Family::Distribution,
        };
        Some(Self { family, packages })
    }

    /// The first package with this role.
    pub fn with_role(&self, role: Role) -> Option<&EnginePackage> {
        self.packages.iter().find(|package| package.role == role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> EnginePackage {
        EnginePackage { package: name.into(), role: role_of(name).unwrap(), version: "1".into(), held: false }
    }

    #[test]
    fn the_family_is_that_of_the_package_with_dockerd() {
        let found = EnginePackages::of(vec![package("docker-buildx-plugin"), package("docker-ce")]).unwrap();
        assert_eq!((found.family, found.packages[0].package.as_str()), (Family::Docker, "docker-ce"));
        let found = EnginePackages::of(vec![package("runc"), package("docker.io")]).unwrap();
        assert_eq!(found.family, Family::Distribution);
        assert_eq!(found.with_role(Role::Runc), Some(&package("runc")));
    }

    #[test]
    fn without_dockerd_there_is_no_engine() {
        assert_eq!(EnginePackages::of(vec![package("containerd"), package("runc")]), None);
    }
}
