use super::super::super::engine::role_of;
use super::*;

/// `package: installed, version@origin/suite/priority...`, newest first; `^` marks the candidate, `!` a hold.
struct Host {
    engine: EnginePackages,
    offers: Offers,
}

fn host(lines: &[&str]) -> Host {
    let mut packages = Vec::new();
    let mut offers = Offers::new();
    for line in lines {
        let (name, rest) = line.split_once(": ").unwrap();
        let mut words = rest.split(' ');
        let installed = words.next().unwrap();
        if installed != "-" {
            packages.push(EnginePackage {
                package: name.into(),
                role: role_of(name).unwrap(),
                version: installed.trim_start_matches('!').into(),
                held: installed.starts_with('!'),
            });
        }
        offers.insert(name.into(), words.map(|word| offer(word, installed.trim_start_matches('!'))).collect());
    }
    Host { engine: EnginePackages::of(packages).unwrap(), offers }
}

fn offer(word: &str, installed: &str) -> Offer {
    let (version, suites) = word.trim_start_matches('^').split_once('@').unwrap();
    let suite = |text: &str| {
        let [origin, name, priority] = text.split('/').collect::<Vec<_>>()[..] else { panic!("{text}") };
        Suite { origin: origin.into(), name: name.into(), priority: priority.parse().unwrap() }
    };
    Offer {
        version: version.into(),
        suites: suites.split(',').map(suite).collect(),
        installed: version == installed,
        candidate: word.starts_with('^'),
        forbidden: false,
    }
}

/// A Debian 13 host that also knows the next release, pinned low.
fn debian() -> Host {
    host(&[
        "docker.io: 26.1.5-9 28.5.2-5@Debian/sid/100 ^26.1.5-9@Debian/trixie/500",
        "docker-cli: 26.1.5-9 28.5.2-5@Debian/sid/100 ^26.1.5-9@Debian/trixie/500",
        "containerd: 1.7.24-6 2.1.9-5@Debian/sid/100 ^1.7.24-6@Debian/trixie/500",
        "runc: 1.1.15-2 1.3.6-1@Debian/sid/100 ^1.1.15-2@Debian/trixie/500",
        "criu: 4.1.1-1 4.2.1-1@Debian/sid/100 ^4.1.1-1@Debian/trixie/500",
    ])
}

fn docker() -> Host {
    host(&[
        "docker-ce: 5:27.5.1-1 ^5:28.5.2-1@Docker/trixie/500 5:28.4.0-1@Docker/trixie/500",
        "docker-ce-cli: 5:27.5.1-1 ^5:28.5.2-1@Docker/trixie/500 5:28.4.0-1@Docker/trixie/500",
        "containerd.io: 1.7.25-1 ^1.7.28-1@Docker/trixie/500 1.7.25-1@Docker/trixie/500",
        "docker-compose-plugin: 2.30.0-1 ^2.40.3-1@Docker/trixie/500",
    ])
}

fn to(version: &str) -> Wish {
    Wish { version: Some(version.into()), ..Wish::default() }
}

fn chosen(host: &Host, wish: &Wish) -> Result<Vec<String>> {
    let target = choose(&host.engine, &host.offers, None, wish)?;
    Ok(target.wanted.iter().map(|wanted| format!("{}={}", wanted.package, wanted.to)).collect())
}

#[test]
fn companions_come_from_the_release_that_the_engine_comes_from() {
    let target = choose(&debian().engine, &debian().offers, None, &to("28.5.2")).unwrap();
    assert_eq!(target.suites.iter().map(ToString::to_string).collect::<Vec<_>>(), ["Debian sid"]);
    let expected = ["docker.io=28.5.2-5", "docker-cli=28.5.2-5", "containerd=2.1.9-5", "runc=1.3.6-1"];
    assert_eq!(chosen(&debian(), &to("28")).unwrap(), expected);
}

#[test]
fn criu_changes_only_when_asked() {
    let wish = Wish { criu: true, ..to("28.5.2") };
    assert!(chosen(&debian(), &wish).unwrap().contains(&"criu=4.2.1-1".into()));
}

#[test]
fn without_a_version_it_is_the_candidate() {
    let expected = [
        "docker-ce=5:28.5.2-1",
        "docker-ce-cli=5:28.5.2-1",
        "containerd.io=1.7.28-1",
        "docker-compose-plugin=2.40.3-1",
    ];
    assert_eq!(chosen(&docker(), &Wish::default()).unwrap(), expected);
    let refused = chosen(&debian(), &Wish::default()).unwrap_err();
    let PackageError::AlreadyInstalled { newer, .. } = refused else { panic!("{refused}") };
    assert_eq!(newer, ["28.5.2-5"]);
}

#[test]
fn the_client_takes_the_very_version_of_the_engine() {
    assert!(
        chosen(&docker(), &to("28.4"))
            .unwrap()
            .starts_with(&["docker-ce=5:28.4.0-1".into(), "docker-ce-cli=5:28.4.0-1".into()])
    );
}

#[test]
fn an_engine_that_is_new_already_does_not_keep_runc_old() {
    let host = host(&[
        "docker.io: 26.1.5-9 ^26.1.5-9@Debian/trixie/500",
        "containerd: 1.7.24-6 ^1.7.24-7@Debian/trixie-security/500 1.7.24-6@Debian/trixie/500",
    ]);
    assert_eq!(chosen(&host, &Wish::default()).unwrap(), ["containerd=1.7.24-7"]);
    assert_eq!(chosen(&host, &to("26.1.5")).unwrap(), ["containerd=1.7.24-7"]);
}

#[test]
fn a_companion_that_is_newer_already_stays() {
    let host = host(&[
        "docker.io: 26.1.5-9 ^28.5.2-5@Debian/sid/500",
        "runc: 1.4.0-1 ^1.3.6-1@Debian/sid/500",
        "containerd: 1.7.24-6 1.7.30-1@Docker/trixie/500",
    ]);
    assert_eq!(chosen(&host, &Wish::default()).unwrap(), ["docker.io=28.5.2-5"]);
}

#[test]
fn a_version_in_two_releases_counts_for_the_preferred_one() {
    let host = host(&[
        "docker.io: 26.1.5-9 ^28.5.2-5@Debian/sid/100,Debian/trixie/500",
        "runc: 1.1.15-2 1.3.6-1@Debian/sid/100 ^1.2.0-1@Debian/trixie/500",
    ]);
    assert_eq!(chosen(&host, &Wish::default()).unwrap(), ["docker.io=28.5.2-5", "runc=1.2.0-1"]);
}

#[test]
fn an_unknown_version_is_refused_with_those_there_are() {
    let refused = chosen(&debian(), &to("29")).unwrap_err();
    assert_eq!(refused.to_string(), "there is no version 29 of docker.io; known: 28.5.2-5, 26.1.5-9");
    assert!(refused.is_refusal() && refused.remedy().is_some());
}

#[test]
fn going_back_must_be_allowed_and_then_takes_the_companions_along() {
    let lines = [
        "docker.io: 28.5.2-5 ^28.5.2-5@Debian/sid/500 26.1.5-9@Debian/trixie/100",
        "containerd: 2.1.9-5 ^2.1.9-5@Debian/sid/500 1.7.24-6@Debian/trixie/100",
    ];
    let refused = chosen(&host(&lines), &to("26.1.5")).unwrap_err();
    assert!(matches!(refused, PackageError::Downgrade { .. }), "{refused}");
    let wish = Wish { allow_downgrade: true, ..to("26.1.5") };
    assert_eq!(chosen(&host(&lines), &wish).unwrap(), ["docker.io=26.1.5-9", "containerd=1.7.24-6"]);
}

#[test]
fn what_is_on_hold_is_refused_when_it_would_change() {
    let lines = [
        "docker.io: 26-1 ^28-1@Debian/sid/500",
        "containerd: !1-1 ^2-1@Debian/sid/500",
        "runc: !1-1 ^1-1@Debian/sid/500",
    ];
    let refused = chosen(&host(&lines), &to("28")).unwrap_err();
    let PackageError::Held { packages } = refused else { panic!("{refused}") };
    assert_eq!(packages, ["containerd"]);
}

#[test]
fn a_client_that_has_split_off_comes_along() {
    let host =
        host(&["docker.io: 20.10.24-1 ^26.1.5-9@Debian/trixie/500", "docker-cli: - ^26.1.5-9@Debian/trixie/500"]);
    let split = split_client(&host.engine, Some("docker.io"));
    let target = choose(&host.engine, &host.offers, split, &Wish::default()).unwrap();
    let expected = Wanted { package: "docker-cli".into(), role: Role::Cli, from: None, to: "26.1.5-9".into() };
    assert_eq!(target.wanted[1], expected);
    assert_eq!(split_client(&host.engine, Some("docker-cli")), None);
    assert_eq!(split_client(&host.engine, None), None);
}
