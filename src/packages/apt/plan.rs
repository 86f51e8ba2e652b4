//! Everything that changes on the way to a target, found by simulating it.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::super::error::{PackageError, Result};
use super::super::plan::{Change, Direction, Plan, Reason, Space, Target};
use super::command::query;
use super::index::{indexed, unpacked_bytes};
use super::installed::{InstalledPackages, installed};
use super::simulate::{Simulated, simulate};
use super::version::compare;

/// Simulates the way to `target` with the host's own sources, preferences and settings: also whether recommended
/// packages come along is the host's to say.
pub(super) fn plan(target: &Target) -> Result<Plan> {
    let wanted: Vec<_> = target.wanted.iter().map(|wanted| format!("{}={}", wanted.package, wanted.to)).collect();
    let simulate = |more: &[&str]| simulate(&[options(target, more), wanted.clone()].concat(), &wanted);
    let (preferring, simulated) = least_change(target, simulate)?;
    let required = match follows_recommendations()? {
        true => simulate(&[preferring.as_slice(), &["--no-install-recommends"]].concat())?,
        false => simulated.clone(),
    };
    let names: Vec<_> = simulated.iter().map(|change| change.package.as_str()).collect();
    let present = installed(&names)?;
    refuse_held(&present)?;
    let automatic = automatic(&simulated)?;
    let changes = classify(target, &simulated, &required, &automatic);
    let space = space(&simulated, &present)?;
    Ok(Plan { target: target.clone(), changes, space })
}

/// What apt would do, and the options that it took to find a way.
///
/// First only the versions that are wanted are named. A suite that the host prefers less, as it does backports, then
/// gives nothing else, and what they need from it is not found. So it is then preferred, as `apt-get -t` does: of the
/// packages that are there, those change that have to.
fn least_change(
    target: &Target,
    simulate: impl Fn(&[&str]) -> Result<Vec<Simulated>>,
) -> Result<(Vec<&str>, Vec<Simulated>)> {
    let refused = match simulate(&[]) {
        Err(refused @ PackageError::Unsatisfiable { .. }) => refused,
        other => return Ok((Vec::new(), other?)),
    };
    // A bare directory of packages has no name to prefer it by.
    let suites = target.suites.iter().filter(|suite| suite.name.starts_with(char::is_alphanumeric));
    for preferring in suites.map(|suite| vec!["-t", suite.name.as_str()]) {
        match simulate(&preferring) {
            Err(PackageError::Unsatisfiable { .. }) => {}
            other => return Ok((preferring, other?)),
        }
    }
    Err(refused)
}

fn options(target: &Target, more: &[&str]) -> Vec<String> {
    // Holds are refused later, by name; apt itself would only say that it finds no way.
    let options = ["-y", "-o", "APT::Get::AutomaticRemove=false", "--ignore-hold", "--allow-change-held-packages"];
    let downgrade = target.downgrade.then_some("--allow-downgrades");
    options.into_iter().chain(downgrade).chain(more.iter().copied()).map(str::to_owned).collect()
}

fn follows_recommendations() -> Result<bool> {
    Ok(!query("apt-config", &["shell", "recommends", "APT::Install-Recommends/b"])?.contains("'false'"))
}

fn refuse_held(present: &InstalledPackages) -> Result<()> {
    let packages: Vec<_> = present.iter().filter(|(_, package)| package.held).map(|(name, _)| name.clone()).collect();
    match packages.is_empty() {
        true => Ok(()),
        false => Err(PackageError::Held { packages }),
    }
}

/// Those that are there and that apt may remove once nothing needs them.
fn automatic(simulated: &[Simulated]) -> Result<BTreeSet<String>> {
    let present = simulated.iter().filter(|change| change.from.is_some()).map(|change| change.package.as_str());
    let arguments: Vec<_> = ["showauto"].into_iter().chain(present).collect();
    match arguments.len() {
        // Without a name it would list all.
        1 => Ok(BTreeSet::new()),
        _ => Ok(query("apt-mark", &arguments)?.lines().map(str::to_owned).collect()),
    }
}

fn classify(
    target: &Target,
    simulated: &[Simulated],
    required: &[Simulated],
    automatic: &BTreeSet<String>,
) -> Vec<Change> {
    let is_wanted = |package: &str| target.wanted.iter().any(|wanted| wanted.package == package);
    let is_required = |package: &str| required.iter().any(|change| change.package == package);
    let change = |change: &Simulated| Change {
        package: change.package.clone(),
        from: change.from.clone(),
        to: change.to.clone(),
        direction: direction(change),
        reason: match (is_wanted(&change.package), is_required(&change.package)) {
            (true, _) => Reason::Wanted,
            (false, true) => Reason::Required,
            (false, false) => Reason::Recommended,
        },
        automatic: match change.from {
            Some(_) => automatic.contains(&change.package),
            None => !is_wanted(&change.package),
        },
    };
    simulated.iter().map(change).collect()
}

fn direction(change: &Simulated) -> Direction {
    match (&change.from, &change.to) {
        (None, _) => Direction::Installed,
        (Some(_), None) => Direction::Removed,
        (Some(from), Some(to)) => match compare(from, to) {
            Ordering::Less => Direction::Upgraded,
            Ordering::Equal => Direction::Reinstalled,
            Ordering::Greater => Direction::Downgraded,
        },
    }
}

fn space(simulated: &[Simulated], present: &InstalledPackages) -> Result<Space> {
    let versions = |version: fn(&Simulated) -> &Option<String>| -> Vec<_> {
        simulated.iter().filter_map(|change| Some((change.package.clone(), version(change).clone()?))).collect()
    };
    let (new, old) = (versions(|change| &change.to), versions(|change| &change.from));
    let forward = indexed(&new)?.iter().map(|file| file.bytes).sum();
    // Where no index has it, it is copied or rebuilt, and a file is smaller than what is unpacked from it.
    let known = indexed(&old)?;
    let backward = old.iter().map(|(package, _)| {
        let file = known.iter().find(|file| file.package == *package).map(|file| file.bytes);
        file.or_else(|| present.get(package).map(|found| found.bytes)).unwrap_or(0)
    });
    let unpacked = unpacked_bytes(&new)?;
    let growth = unpacked
        .iter()
        .map(|(package, bytes)| bytes.saturating_sub(present.get(package).map_or(0, |found| found.bytes)));
    // dpkg writes each package beside the one that it replaces.
    let largest = unpacked.values().max().copied().unwrap_or(0);
    Ok(Space { forward, backward: backward.sum(), unpacking: growth.sum::<u64>() + largest })
}

#[cfg(test)]
mod tests {
    use super::super::super::engine::{Family, Role};
    use super::super::super::plan::{Suite, Wanted};
    use super::*;

    fn simulated(package: &str, from: Option<&str>, to: Option<&str>) -> Simulated {
        Simulated { package: package.into(), from: from.map(Into::into), to: to.map(Into::into) }
    }

    fn target() -> Target {
        let wanted =
            Wanted { package: "docker.io".into(), role: Role::Engine, from: Some("26-1".into()), to: "28-1".into() };
        Target { family: Family::Distribution, suites: vec![], wanted: vec![wanted], downgrade: false }
    }

    #[test]
    fn each_change_says_which_way_and_why() {
        let all = [
            simulated("docker.io", Some("26-1"), Some("28-1")),
            simulated("tini", Some("0.19-3"), None),
            simulated("tini-static", None, Some("0.19-6")),
            simulated("dbus", None, Some("1.16-2")),
            simulated("libfoo", Some("2-1"), Some("1-1")),
        ];
        let automatic = BTreeSet::from(["libfoo".to_owned()]);
        let changes = classify(&target(), &all, &[&all[..3], &all[4..]].concat(), &automatic);
        let seen: Vec<_> = changes.iter().map(|change| (change.direction, change.reason, change.automatic)).collect();
        let expected = [
            (Direction::Upgraded, Reason::Wanted, false),
            (Direction::Removed, Reason::Required, false),
            (Direction::Installed, Reason::Required, true),
            (Direction::Installed, Reason::Recommended, true),
            (Direction::Downgraded, Reason::Required, true),
        ];
        assert_eq!(seen, expected);
        let plan = Plan { target: target(), changes, space: Space::default() };
        assert_eq!(plan.removed().map(|change| change.package.as_str()).collect::<Vec<_>>(), ["tini"]);
    }

    fn unsatisfiable(log: &str) -> PackageError {
        PackageError::Unsatisfiable { wanted: vec![], log: vec![log.into()] }
    }

    fn from_sid() -> Target {
        let suite = |name: &str| Suite { origin: "Debian".into(), name: name.into(), priority: 100 };
        Target { suites: vec![suite("."), suite("sid")], ..target() }
    }

    #[test]
    fn the_suite_is_preferred_only_where_there_is_no_way_otherwise() {
        let target = from_sid();
        let (preferring, _) = least_change(&target, |_| Ok(vec![])).unwrap();
        assert_eq!(preferring, [""; 0]);
        let only_preferring = |more: &[&str]| match more {
            ["-t", "sid"] => Ok(vec![simulated("libsystemd0", Some("257-1"), Some("262-1"))]),
            _ => Err(unsatisfiable("")),
        };
        let (preferring, changes) = least_change(&target, only_preferring).unwrap();
        assert_eq!((preferring.as_slice(), changes.len()), (&["-t", "sid"][..], 1));
    }

    #[test]
    fn where_there_is_no_way_at_all_the_first_refusal_is_told() {
        let refused = least_change(&from_sid(), |more| Err(unsatisfiable(&more.concat()))).unwrap_err();
        assert_eq!(refused.log(), [""]);
    }

    #[test]
    fn packages_become_older_only_where_the_target_says_so() {
        let allowed =
            |downgrade| options(&Target { downgrade, ..target() }, &[]).contains(&"--allow-downgrades".into());
        assert!(allowed(true) && !allowed(false));
    }
}
