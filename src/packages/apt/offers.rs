//! Which versions apt knows, as `apt-cache policy` tells.

use std::collections::BTreeMap;

use super::super::error::Result;
use super::super::plan::{Offer, Suite};
use super::command::query;
use super::version;

/// What apt knows of each package, newest version first.
pub(super) type Offers = BTreeMap<String, Vec<Offer>>;

/// The versions of `packages` that apt knows.
pub(super) fn offers(packages: &[&str]) -> Result<Offers> {
    let releases = parse_releases(&query("apt-cache", &["policy"])?);
    let text = query("apt-cache", &[&["policy"], packages].concat())?;
    Ok(parse_versions(&text, &releases))
}

/// Where an index comes from, by the text that apt describes it with: `http://... sid/main amd64 Packages`.
type Releases = BTreeMap<String, Suite>;

/// Reads `apt-cache policy` without arguments: each index, its priority, and on the next line its `Release` file's
/// fields.
fn parse_releases(text: &str) -> Releases {
    let mut releases = Releases::new();
    let mut index = None;
    for line in text.lines() {
        if let Some(fields) = line.trim_start().strip_prefix("release ") {
            let field = |key: &str| {
                let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
                fields.find(|(found, _)| *found == key).map(|(_, value)| value.to_owned())
            };
            if let Some((priority, index)) = index.take() {
                let described = describe(index, priority);
                let origin = field("o").unwrap_or(described.origin);
                let name = field("n").or_else(|| field("a")).unwrap_or(described.name);
                releases.insert(index.to_owned(), Suite { origin, name, priority });
            }
        } else {
            index = priority_and_index(line);
        }
    }
    releases
}

/// Reads `apt-cache policy PACKAGE...`.
fn parse_versions(text: &str, releases: &Releases) -> Offers {
    let mut offers = Offers::new();
    let mut package: Option<&mut Vec<Offer>> = None;
    let mut candidate = "";
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = Some(offers.entry(name.to_owned()).or_default());
            continue;
        }
        let Some(package) = package.as_deref_mut() else { continue };
        if let Some(version) = line.strip_prefix("  Candidate: ") {
            candidate = version;
        } else if let Some((version, priority, installed)) = version_line(line) {
            package.push(Offer {
                version: version.into(),
                suites: Vec::new(),
                installed,
                candidate: version == candidate,
                forbidden: priority < 0,
            });
        } else if let (Some((priority, index)), Some(offer)) = (priority_and_index(line), package.last_mut())
            && !index.starts_with('/')
        {
            let suite = releases.get(index).cloned().unwrap_or_else(|| describe(index, priority));
            if !offer.suites.contains(&suite) {
                offer.suites.push(suite);
            }
        }
    }
    for package in offers.values_mut() {
        package.sort_by(|one, other| version::compare(&other.version, &one.version));
    }
    offers
}

/// `     28.5.2+dfsg4-5 100`, or with `***` in front where it is installed. What comes after the priority, as in
/// `(phased 20%)` on Ubuntu, is passed over.
fn version_line(line: &str) -> Option<(&str, i32, bool)> {
    let (text, installed) = match (line.strip_prefix(" *** "), line.strip_prefix("     ")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) if !rest.starts_with(' ') => (rest, false),
        _ => return None,
    };
    let mut words = text.split_whitespace();
    Some((words.next()?, words.next()?.parse().ok()?, installed))
}

/// `        100 http://... sid/main amd64 Packages`.
fn priority_and_index(line: &str) -> Option<(i32, &str)> {
    let (priority, index) = line.trim().split_once(' ')?;
    Some((priority.parse().ok()?, index.trim()))
}

/// An index whose `Release` file says nothing, as of a bare directory of packages.
fn describe(index: &str, priority: i32) -> Suite {
    let mut words = index.split(' ');
    let origin = words.next().unwrap_or_default().to_owned();
    let name = words.next().and_then(|word| word.split('/').next()).unwrap_or_default().to_owned();
    Suite { origin, name, priority }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASES: &str = "\
Package files:
 100 /var/lib/dpkg/status
     release a=now
 100 http://deb.example/debian sid/main amd64 Packages
     release o=Debian,a=unstable,n=sid,l=Debian,c=main,b=amd64
     origin deb.example
 500 http://deb.example/debian trixie/main amd64 Packages
     release v=13.8,o=Debian,a=stable,n=trixie,l=Debian,c=main,b=amd64
     origin deb.example
 500 https://download.example/linux/debian trixie/stable amd64 Packages
     release o=Docker,a=trixie,l=Docker CE,c=stable,b=amd64
     origin download.example
 500 file:/srv/packages ./ Packages
     release c=
Pinned packages:
";

    const VERSIONS: &str = "\
docker.io:
  Installed: 26.1.5+dfsg1-9+deb13u1+b1
  Candidate: 26.1.5+dfsg1-9+deb13u1+b1
  Version table:
     28.5.2+dfsg4-5 100
        100 http://deb.example/debian sid/main amd64 Packages
        500 file:/srv/packages ./ Packages
 *** 26.1.5+dfsg1-9+deb13u1+b1 500
        500 http://deb.example/debian trixie/main amd64 Packages
        100 /var/lib/dpkg/status
criu:
  Installed: 4.2.1-1
  Candidate: 4.2.1-1
  Version table:
 *** 4.2.1-1 100
        100 /var/lib/dpkg/status
     4.1.1-1 500 (phased 20%)
        500 http://deb.example/debian trixie/main amd64 Packages
     3.17.1-2 -1
        500 http://deb.example/debian bookworm/main amd64 Packages
docker-ce:
  Installed: (none)
  Candidate: (none)
  Version table:
";

    fn suite(origin: &str, name: &str, priority: i32) -> Suite {
        Suite { origin: origin.into(), name: name.into(), priority }
    }

    #[test]
    fn versions_are_read_with_where_they_come_from() {
        let offers = parse_versions(VERSIONS, &parse_releases(RELEASES));
        let [newest, present] = &offers["docker.io"][..] else { panic!("{offers:?}") };
        assert_eq!(newest.version, "28.5.2+dfsg4-5");
        assert_eq!(newest.suites, [suite("Debian", "sid", 100), suite("file:/srv/packages", ".", 500)]);
        assert!(!newest.installed && !newest.candidate && !newest.forbidden);
        assert_eq!(present.suites, [suite("Debian", "trixie", 500)]);
        assert!(present.installed && present.candidate);
        assert!(offers["docker-ce"].is_empty());
    }

    #[test]
    fn what_is_installed_only_comes_from_nowhere_and_what_is_pinned_away_is_forbidden() {
        let offers = parse_versions(VERSIONS, &parse_releases(RELEASES));
        let [installed, phased, forbidden] = &offers["criu"][..] else { panic!("{offers:?}") };
        assert!(installed.installed && installed.suites.is_empty());
        assert!(!phased.forbidden && phased.suites == [suite("Debian", "trixie", 500)]);
        assert!(forbidden.forbidden);
        assert_eq!(forbidden.suites, [suite("http://deb.example/debian", "bookworm", 500)]);
    }

    #[test]
    fn the_release_is_its_code_name_or_what_it_calls_itself() {
        let releases = parse_releases(RELEASES);
        assert_eq!(
            releases["https://download.example/linux/debian trixie/stable amd64 Packages"],
            suite("Docker", "trixie", 500)
        );
    }
}
