//! Installs a set from its files, and repairs what a killed installation left.
//!
//! apt does it rather than `dpkg --install`, since it knows the order in which packages that replace each other come
//! and go. It is shown no source but the files of the set: so it needs no network, it cannot pull in anything else,
//! and the way back is the same as the way forward. What it would do is simulated first and compared with the set.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::difference::Difference;
use super::super::error::{PackageError, Result};
use super::super::problem::Problem;
use super::super::set::PackageSet;
use super::super::{Event, Watch};
use super::command::{feed, query};
use super::installed::{InstalledPackages, installed};
use super::simulate::{Simulated, simulate};
use super::{state, watched};

const LOG: &str = "install.log";

/// How long somebody else may keep the manager busy: long enough for an upgrade that runs by itself at night.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often locks are looked at. The kernel lets one wait for a lock, but only by taking it.
const LOOK: Duration = Duration::from_millis(200);

/// Neither the host's sources nor its preferences: the files say which versions it is to be.
const NO_SOURCES: &[&str] = &[
    "Dir::Etc::SourceList=/dev/null",
    "Dir::Etc::SourceParts=/dev/null",
    "Dir::Etc::Preferences=/dev/null",
    "Dir::Etc::PreferencesParts=/dev/null",
    // The host's caches are made from its sources. They are neither used nor overwritten.
    "Dir::Cache::pkgcache=",
    "Dir::Cache::srcpkgcache=",
];

const OPTIONS: &[&str] = &[
    "APT::Install-Recommends=false",
    "APT::Install-Suggests=false",
    "APT::Get::AutomaticRemove=false",
    // The files are in a directory of root's alone.
    "APT::Sandbox::User=root",
    "Dpkg::Use-Pty=false",
    "DPkg::Options::=--force-confdef",
    "DPkg::Options::=--force-confold",
];

/// Installs the set; returns the packages that were to go and stay.
pub(super) fn install(set: &PackageSet, watch: Watch<'_>) -> Result<Vec<String>> {
    set.verify()?;
    let arguments = arguments_that_do_as_planned(set, &[])?;
    apt_install(set, &arguments, watch)
}

/// Finishes what was begun, then installs the set.
pub(super) fn repair(set: &PackageSet, watch: Watch<'_>) -> Result<Vec<String>> {
    set.verify()?;
    wait_until_free(watch)?;
    let log = set.directory.join(LOG);
    let arguments = ["--configure", "-a", "--force-confdef", "--force-confold"].map(str::to_owned);
    // It fails where a package lies there unpacked without what it depends on. The set brings that; apt judges.
    watched::dpkg(&arguments, &log, watch)?;
    let (to_remove, to_unpack) = torn_of(set, &installed(&[])?);
    // apt does nothing at all while a package is torn whose version it has no file of.
    let mut mend = |options: &[&str], packages: &[String]| -> Result<()> {
        let options = options.iter().map(|option| (*option).to_owned());
        let arguments: Vec<_> = options.chain(packages.iter().cloned()).collect();
        if !packages.is_empty() {
            watched::dpkg(&arguments, &log, watch)?;
        }
        Ok(())
    };
    // What depends on these goes with the set too, or is replaced by it.
    mend(&["--remove", "--force-remove-reinstreq", "--force-depends"], &to_remove)?;
    mend(&["--unpack", "--auto-deconfigure", "--force-confdef", "--force-confold"], &to_unpack)?;
    let arguments = arguments_that_do_as_planned(set, &["--fix-broken"])?;
    apt_install(set, &arguments, watch)
}

/// The torn packages that go with the set, by name, and those that it has, by the paths of their files.
fn torn_of(set: &PackageSet, all: &InstalledPackages) -> (Vec<String>, Vec<String>) {
    let is_torn = |package: &str| all.get(package).is_some_and(|found| found.torn);
    let to_remove = set.removed.iter().filter(|package| is_torn(package)).cloned().collect();
    let to_unpack = set.archives.iter().filter(|archive| is_torn(&archive.package));
    (to_remove, to_unpack.map(|archive| set.path(archive).to_string_lossy().into_owned()).collect())
}

/// Where the host differs from the set.
pub(super) fn differences(set: &PackageSet) -> Result<Vec<Difference>> {
    let found = installed_of(set)?;
    let differs = set.archives.iter().filter_map(|archive| {
        let found = found.get(&archive.package);
        let configured = found.is_some_and(|found| found.configured);
        let found = found.map(|found| found.version.clone());
        let (package, wanted) = (archive.package.clone(), archive.version.clone());
        (!configured || found.as_ref() != Some(&wanted)).then_some(Difference { package, wanted, found, configured })
    });
    Ok(differs.collect())
}

fn apt_install(set: &PackageSet, arguments: &[String], watch: Watch<'_>) -> Result<Vec<String>> {
    let arguments = [&["install".to_owned()], arguments].concat();
    let ended = watched::apt_get(&arguments, Path::new("/"), &set.directory.join(LOG), watch)?;
    if !ended.status.success() {
        return Err(match state::locked() {
            Some(Problem::Locked { lock, holder }) => PackageError::Locked { lock, holder },
            _ => PackageError::Install { status: ended.status, log: ended.log },
        });
    }
    keep_marks(set)?;
    forget_removals(set)?;
    let differences = differences(set)?;
    if !differences.is_empty() {
        return Err(PackageError::Incomplete { differences });
    }
    still_there(set)
}

/// Which of the packages that go with the set are there.
fn still_there(set: &PackageSet) -> Result<Vec<String>> {
    let removed: Vec<_> = set.removed.iter().map(String::as_str).collect();
    match removed.is_empty() {
        true => Ok(Vec::new()),
        false => Ok(installed(&removed)?.into_keys().collect()),
    }
}

/// apt takes what is installed from a file for what somebody wanted by name.
fn keep_marks(set: &PackageSet) -> Result<()> {
    if set.automatic.is_empty() {
        return Ok(());
    }
    let arguments: Vec<_> = ["auto"].into_iter().chain(set.automatic.iter().map(String::as_str)).collect();
    query("apt-mark", &arguments).map(drop)
}

/// An apt that was killed before it removed a package leaves a note with dpkg that it is to go. A later one may act on
/// it.
fn forget_removals(set: &PackageSet) -> Result<()> {
    let archives = set.archives.iter().map(|archive| archive.package.as_str());
    let names: Vec<_> = archives.chain(set.removed.iter().map(String::as_str)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let stay = installed(&names)?.into_iter().filter(|(_, package)| package.to_go);
    let selections: String = stay.map(|(package, _)| format!("{package} install\n")).collect();
    match selections.is_empty() {
        true => Ok(()),
        false => feed("dpkg", &["--set-selections"], &selections),
    }
}

/// The arguments with which apt does what the set says and nothing else.
///
/// What is to go is named first. If something that came later needs it by now, it stays, unless the set cannot be
/// installed beside it.
fn arguments_that_do_as_planned(set: &PackageSet, more: &[&str]) -> Result<Vec<String>> {
    let found = installed_of(set)?;
    let wanted: Vec<_> =
        set.archives.iter().map(|archive| format!("{}={}", archive.package, archive.version)).collect();
    let judge = |arguments: &[String]| simulate(arguments, &wanted).and_then(|all| judge(set, &found, &all));
    // Of what is not there, apt may not even know the name.
    let removed = still_there(set)?;
    let with_removals = arguments(set, &removed, more);
    let judged = judge(&with_removals);
    if judged.is_ok() || removed.is_empty() {
        return judged.map(|()| with_removals);
    }
    let without = arguments(set, &[], more);
    judge(&without).map(|()| without)
}

fn arguments(set: &PackageSet, removed: &[String], more: &[&str]) -> Vec<String> {
    let patience = format!("DPkg::Lock::Timeout={}", PATIENCE.as_secs());
    let options = NO_SOURCES.iter().chain(OPTIONS).copied().chain([patience.as_str()]);
    let mut arguments: Vec<_> = options.flat_map(|option| ["-o".to_owned(), option.to_owned()]).collect();
    // The set names each version, so an older one is meant.
    arguments.extend(["-y", "--allow-downgrades"].map(str::to_owned));
    arguments.extend(set.way_back.then(|| "--allow-change-held-packages".to_owned()));
    arguments.extend(more.iter().map(|option| (*option).to_owned()));
    arguments.extend(set.archives.iter().map(|archive| set.path(archive).to_string_lossy().into_owned()));
    arguments.extend(removed.iter().map(|package| format!("{package}-")));
    arguments
}

/// Refuses what apt would do beyond the set, and what it would leave out.
fn judge(set: &PackageSet, found: &InstalledPackages, simulated: &[Simulated]) -> Result<()> {
    let is_planned = |change: &&Simulated| match &change.to {
        Some(version) => set.version_of(&change.package) == Some(version),
        None => set.removed.contains(&change.package),
    };
    let beyond = simulated.iter().filter(|change| !is_planned(change)).map(|change| match &change.to {
        Some(version) => format!("{} {version} would be installed", change.package),
        None => format!("{} would be removed", change.package),
    });
    let would_be = |package: &str, version: &str| {
        let changes = simulated.iter().any(|change| change.package == package && change.to.is_some());
        changes || found.get(package).is_some_and(|found| found.version == version)
    };
    let left_out = set.archives.iter().filter(|archive| !would_be(&archive.package, &archive.version));
    let left_out = left_out.map(|archive| format!("{} {} would not be installed", archive.package, archive.version));
    let unexpected: Vec<_> = beyond.chain(left_out).collect();
    match unexpected.is_empty() {
        true => Ok(()),
        false => Err(PackageError::NotAsPlanned { unexpected }),
    }
}

fn installed_of(set: &PackageSet) -> Result<InstalledPackages> {
    let names: Vec<_> = set.archives.iter().map(|archive| archive.package.as_str()).collect();
    match names.is_empty() {
        true => Ok(InstalledPackages::new()),
        false => installed(&names),
    }
}

/// Returns when nobody keeps the manager busy; above all not an apt that outlived whoever started it.
fn wait_until_free(watch: Watch<'_>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = None;
    while let Some(problem) = state::locked() {
        if told.as_ref() != Some(&problem) {
            watch(Event::Line(format!("waiting: {}", problem.reason())));
            told = Some(problem.clone());
        }
        if let (true, Problem::Locked { lock, holder }) = (Instant::now() > deadline, problem) {
            return Err(PackageError::Locked { lock, holder });
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
