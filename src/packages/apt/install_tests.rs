use super::super::super::set::Archive;
use super::super::installed::Installed;
use super::*;

fn set(archives: &[(&str, &str)], removed: &[&str], way_back: bool) -> PackageSet {
    let archive = |(package, version): &(&str, &str)| Archive {
        package: (*package).into(),
        version: (*version).into(),
        file: format!("{package}_{version}_amd64.deb"),
        bytes: 0,
        digest: String::new(),
    };
    PackageSet {
        directory: "/var/lib/x/new".into(),
        archives: archives.iter().map(archive).collect(),
        removed: removed.iter().map(|name| (*name).into()).collect(),
        automatic: Vec::new(),
        way_back,
    }
}

fn change(package: &str, from: Option<&str>, to: Option<&str>) -> Simulated {
    Simulated { package: package.into(), from: from.map(Into::into), to: to.map(Into::into) }
}

fn found(package: &str, version: &str) -> InstalledPackages {
    let installed = Installed {
        version: version.into(),
        architecture: "amd64".into(),
        held: false,
        configured: true,
        torn: false,
        to_go: false,
        bytes: 0,
    };
    InstalledPackages::from([(package.into(), installed)])
}

fn unexpected(set: &PackageSet, found: &InstalledPackages, simulated: &[Simulated]) -> Vec<String> {
    match judge(set, found, simulated) {
        Ok(()) => Vec::new(),
        Err(PackageError::NotAsPlanned { unexpected }) => unexpected,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_apt_would_do_beyond_the_set_is_refused() {
    let set = set(&[("runc", "2")], &["tini"], false);
    let planned = [change("runc", Some("1"), Some("2")), change("tini", Some("1"), None)];
    assert_eq!(unexpected(&set, &found("runc", "1"), &planned), [""; 0]);
    let more = [planned.as_slice(), &[change("docker.io", Some("1"), None), change("dbus", None, Some("1"))]].concat();
    let expected = ["docker.io would be removed", "dbus 1 would be installed"];
    assert_eq!(unexpected(&set, &found("runc", "1"), &more), expected);
}

#[test]
fn what_apt_would_leave_out_is_refused() {
    let set = set(&[("runc", "2")], &[], false);
    assert_eq!(unexpected(&set, &found("runc", "1"), &[]), ["runc 2 would not be installed"]);
    let other = [change("runc", Some("1"), Some("3"))];
    assert_eq!(unexpected(&set, &found("runc", "1"), &other), ["runc 3 would be installed"]);
    // Half of it was done before, by a run that was killed.
    assert_eq!(unexpected(&set, &found("runc", "2"), &[]), [""; 0]);
}

#[test]
fn holds_bar_the_way_forward_and_not_the_way_back() {
    let held = "--allow-change-held-packages".to_owned();
    assert!(!arguments(&set(&[], &[], false), &[], &[]).contains(&held));
    let set = set(&[("runc", "2")], &["tini"], true);
    let arguments = arguments(&set, &set.removed, &["--fix-broken"]);
    assert!(arguments.contains(&held));
    let expected = ["--fix-broken", "/var/lib/x/new/runc_2_amd64.deb", "tini-"];
    assert_eq!(arguments[arguments.len() - 3..], expected);
}

#[test]
fn torn_packages_are_unpacked_again_where_the_set_has_them_and_removed_where_they_go() {
    let set = set(&[("runc", "2"), ("docker.io", "2")], &["systemd", "dbus"], true);
    let torn = |package: &str| {
        let (name, installed) = found(package, "1").pop_first().unwrap();
        (name, Installed { torn: true, ..installed })
    };
    let mut all = found("dbus", "1");
    all.extend([torn("systemd"), torn("runc"), torn("somebody-elses")]);
    let expected = (vec!["systemd".to_owned()], vec!["/var/lib/x/new/runc_2_amd64.deb".to_owned()]);
    assert_eq!(torn_of(&set, &all), expected);
}
