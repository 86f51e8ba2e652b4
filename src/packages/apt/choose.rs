//! Chooses the versions that the engine's packages are to have.
//!
//! The engine's version is what was asked for. Its companions take the newest version from the engine's own release, so
//! that what runs together was made and tried together; the client takes the engine's very version where there is one.

use std::cmp::Ordering;

use super::super::engine::{EnginePackage, EnginePackages, Family, Role};
use super::super::error::{PackageError, Result};
use super::super::plan::{Offer, Suite, Target, Wanted, Wish};
use super::offers::Offers;
use super::version::{compare, names};

/// The versions that `wish` means, of what `offers` has. `split` is a package that has split off the installed
/// engine's: without it the new engine would come without its client.
pub(super) fn choose(engine: &EnginePackages, offers: &Offers, split: Option<&str>, wish: &Wish) -> Result<Target> {
    let [present, companions @ ..] = &engine.packages[..] else { return Err(PackageError::NoEngine) };
    let chosen = engine_version(present, of(offers, &present.package), wish)?;
    let direction = compare(&chosen.version, &present.version);
    if direction.is_lt() && !wish.allow_downgrade {
        let (from, to) = (present.version.clone(), chosen.version.clone());
        return Err(PackageError::Downgrade { package: present.package.clone(), from, to });
    }
    let suites = preferred(&chosen.suites);
    let step = Step { offers, suites: &suites, engine: &chosen.version, older: direction.is_lt() };
    let mut wanted: Vec<Wanted> = Vec::new();
    if direction.is_ne() {
        wanted.push(want(present, &chosen.version));
    }
    let may_change = |package: &&EnginePackage| package.role != Role::Criu || wish.criu;
    let companions = companions.iter().filter(may_change);
    wanted.extend(companions.filter_map(|companion| Some(want(companion, step.version_for(companion)?))));
    wanted.extend(split.and_then(|cli| {
        let to = step.newest(cli, Role::Cli)?.to_owned();
        Some(Wanted { package: cli.into(), role: Role::Cli, from: None, to })
    }));
    refuse_held(engine, &wanted)?;
    if wanted.is_empty() {
        return Err(already_installed(present, of(offers, &present.package)));
    }
    Ok(Target { family: engine.family, suites, wanted, downgrade: direction.is_lt() })
}

/// The package that the client has split into, where it is in the engine's package now. (Debian 13 and later.)
pub(super) fn split_client(engine: &EnginePackages, owner_of_client: Option<&str>) -> Option<&'static str> {
    let in_engine = owner_of_client == Some(engine.family.engine());
    (engine.family == Family::Distribution && in_engine).then(|| engine.family.cli())
}

fn of<'a>(offers: &'a Offers, package: &str) -> &'a [Offer] {
    offers.get(package).map_or(&[], Vec::as_slice)
}

fn can_be_had(offer: &&Offer) -> bool {
    !offer.suites.is_empty() && !offer.forbidden
}

fn engine_version(present: &EnginePackage, known: &[Offer], wish: &Wish) -> Result<Offer> {
    let installed = || Offer {
        version: present.version.clone(),
        suites: known.iter().find(|offer| offer.installed).map(|offer| offer.suites.clone()).unwrap_or_default(),
        installed: true,
        candidate: false,
        forbidden: false,
    };
    let Some(version) = &wish.version else {
        let candidate = known.iter().filter(can_be_had).find(|offer| offer.candidate);
        let newer = candidate.filter(|offer| compare(&offer.version, &present.version).is_gt());
        return Ok(newer.cloned().unwrap_or_else(installed));
    };
    // Newest first, so `28` means the newest 28.
    let meant = known.iter().filter(|offer| offer.installed || can_be_had(offer));
    meant.clone().find(|offer| names(version, &offer.version)).cloned().ok_or_else(|| PackageError::NoSuchVersion {
        package: present.package.clone(),
        version: version.clone(),
        known: meant.map(|offer| offer.version.clone()).collect(),
    })
}

/// Where the same version is in several releases, those that this host prefers.
fn preferred(suites: &[Suite]) -> Vec<Suite> {
    let highest = suites.iter().map(|suite| suite.priority).max();
    suites.iter().filter(|suite| Some(suite.priority) == highest).cloned().collect()
}

/// One step of the engine, which its companions take with it.
struct Step<'a> {
    offers: &'a Offers,
    suites: &'a [Suite],
    engine: &'a str,
    older: bool,
}

impl Step<'_> {
    /// None where the companion stays as it is. It becomes older only together with the engine.
    fn version_for(&self, companion: &EnginePackage) -> Option<&str> {
        let version = self.newest(&companion.package, companion.role)?;
        match compare(version, &companion.version) {
            Ordering::Greater => Some(version),
            Ordering::Less if self.older => Some(version),
            _ => None,
        }
    }

    fn newest(&self, package: &str, role: Role) -> Option<&str> {
        let belongs =
            |offer: &&Offer| offer.suites.iter().any(|one| self.suites.iter().any(|suite| one.belongs_with(suite)));
        let mut offers = of(self.offers, package).iter().filter(can_be_had).filter(belongs);
        let same = match role {
            Role::Cli | Role::Rootless => offers.clone().find(|offer| offer.version == self.engine),
            _ => None,
        };
        same.or_else(|| offers.next()).map(|offer| offer.version.as_str())
    }
}

fn want(present: &EnginePackage, to: &str) -> Wanted {
    let EnginePackage { package, role, version, .. } = present;
    Wanted { package: package.clone(), role: *role, from: Some(version.clone()), to: to.into() }
}

fn refuse_held(engine: &EnginePackages, wanted: &[Wanted]) -> Result<()> {
    let is_wanted = |package: &&EnginePackage| wanted.iter().any(|wanted| wanted.package == package.package);
    let held = engine.packages.iter().filter(|package| package.held).filter(is_wanted);
    let packages: Vec<_> = held.map(|package| package.package.clone()).collect();
    match packages.is_empty() {
        true => Ok(()),
        false => Err(PackageError::Held { packages }),
    }
}

fn already_installed(present: &EnginePackage, known: &[Offer]) -> PackageError {
    let newer = known.iter().filter(can_be_had).filter(|offer| compare(&offer.version, &present.version).is_gt());
    PackageError::AlreadyInstalled {
        package: present.package.clone(),
        version: present.version.clone(),
        newer: newer.map(|offer| offer.version.clone()).collect(),
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
