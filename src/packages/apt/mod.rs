//! apt and dpkg, on Debian, Ubuntu and what comes from them.
//!
//! Their programs are run, rather than their library used, since what they print is documented and stays, and a crash
//! of theirs is not ours. What is printed is read by pure functions, beside which stand tests on real output.

mod choose;
mod command;
mod fetch;
mod index;
mod install;
mod installed;
mod offers;
mod plan;
mod reach;
mod service_starts;
mod simulate;
mod space;
mod state;
mod version;
mod watched;

pub use version::without_epoch;

use std::path::Path;

use super::difference::Difference;
use super::engine::{EnginePackage, EnginePackages, PACKAGES};
use super::error::{PackageError, Result};
use super::plan::{Offer, Plan, Target, Wish};
use super::problem::Problem;
use super::set::{Fetched, PackageSet};
use super::{PackageManager, Watch};

/// The package manager of Debian.
#[derive(Debug, Clone, Copy)]
pub struct Apt;

impl Apt {
    /// Whether this host is managed by it. (dpkg alone can be there as a guest of another manager.)
    pub fn is_here() -> bool {
        ["/var/lib/dpkg/status", "/usr/bin/apt-get"].iter().all(|path| Path::new(path).is_file())
    }
}

impl PackageManager for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn engine(&self) -> Result<EnginePackages> {
        let names: Vec<_> = PACKAGES.iter().map(|(name, _)| *name).collect();
        let mut found = installed::installed(&names)?;
        let packages = PACKAGES.iter().filter_map(|(name, role)| {
            let installed = found.remove(*name)?;
            let (package, version, held) = ((*name).to_owned(), installed.version, installed.held);
            Some(EnginePackage { package, role: *role, version, held })
        });
        EnginePackages::of(packages.collect()).ok_or(PackageError::NoEngine)
    }

    fn problems(&self, packages: &[String]) -> Result<Vec<Problem>> {
        state::problems(packages)
    }

    fn versions(&self, package: &str) -> Result<Vec<Offer>> {
        Ok(offers::offers(&[package])?.remove(package).unwrap_or_default())
    }

    fn target(&self, wish: &Wish) -> Result<Target> {
        let engine = self.engine()?;
        let split = choose::split_client(&engine, owner("/usr/bin/docker")?.as_deref());
        let names: Vec<_> = engine.packages.iter().map(|package| package.package.as_str()).chain(split).collect();
        choose::choose(&engine, &offers::offers(&names)?, split, wish)
    }

    fn plan(&self, target: &Target) -> Result<Plan> {
        plan::plan(target)
    }

    fn reach(&self, plan: &Plan) -> Result<()> {
        reach::reach(plan)
    }

    fn fetch(&self, plan: &Plan, directory: &Path, watch: Watch<'_>) -> Result<Fetched> {
        fetch::fetch(plan, directory, watch)
    }

    fn defer_service_starts(&self, saved: &Path) -> Result<()> {
        service_starts::defer(Path::new(service_starts::POLICY), saved)
    }

    fn allow_service_starts(&self, saved: &Path) -> Result<()> {
        service_starts::allow(Path::new(service_starts::POLICY), saved)
    }

    fn install(&self, set: &PackageSet, watch: Watch<'_>) -> Result<Vec<String>> {
        install::install(set, watch)
    }

    fn repair(&self, set: &PackageSet, watch: Watch<'_>) -> Result<Vec<String>> {
        install::repair(set, watch)
    }

    fn differences(&self, set: &PackageSet) -> Result<Vec<Difference>> {
        install::differences(set)
    }
}

/// The package that a file came with.
fn owner(path: &str) -> Result<Option<String>> {
    let (_, output) = command::run("dpkg-query", &["--search", path], Path::new("/"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let owner = text.lines().find_map(|line| line.split_once(": ")).map(|(package, _)| package.to_owned());
    Ok(owner.filter(|_| output.status.success()))
}
