//! What apt would do, found with `apt-get --simulate`, which changes nothing and takes no lock.

use std::path::Path;

use super::super::error::{PackageError, Result};
use super::command::{complaint, run};

/// One package that apt would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Simulated {
    /// Its name, with the architecture where that is not the host's.
    pub package: String,
    /// The version that is there.
    pub from: Option<String>,
    /// The version that would be; none where it goes.
    pub to: Option<String>,
}

/// What `apt-get install` would do with these arguments, which ask for `wanted`.
///
/// # Errors
/// [`PackageError::Unsatisfiable`] with apt's own words where it would do nothing.
pub(super) fn simulate(arguments: &[String], wanted: &[String]) -> Result<Vec<Simulated>> {
    let words: Vec<_> = ["--simulate", "install"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let (command, output) = run("apt-get", &words, Path::new("/"))?;
    if !output.status.success() {
        return Err(PackageError::Unsatisfiable { wanted: wanted.to_owned(), log: complaint(&output) });
    }
    parse(&String::from_utf8_lossy(&output.stdout)).map_err(|line| PackageError::Malformed { command, line })
}

/// Reads lines as `Inst runc [1.1.15+ds1-2+b4] (1.3.6+ds1-1 Debian:unstable [amd64]) []` and `Remv tini [0.19.0-3+b8]
/// []`.
/// `Conf` says only when what was installed is configured.
fn parse(text: &str) -> std::result::Result<Vec<Simulated>, String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((verb, rest)) = line.split_once(' ') else { continue };
        let simulated = match verb {
            "Inst" => read(rest).filter(|change| change.to.is_some()),
            "Remv" | "Purg" => read(rest).map(|change| Simulated { to: None, ..change }),
            _ => continue,
        };
        found.push(simulated.ok_or_else(|| line.to_owned())?);
    }
    Ok(found)
}

fn read(rest: &str) -> Option<Simulated> {
    let mut words = rest.split_whitespace().peekable();
    let package = words.next()?.to_owned();
    let from = words.next_if(|word| word.starts_with('[') && *word != "[]");
    let from = from.map(|word| word.trim_matches(['[', ']']).to_owned());
    let to = words.next().and_then(|word| word.strip_prefix('(')).map(str::to_owned);
    Some(Simulated { package, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// apt 3.0, Debian 13 to the next release.
    const TEXT: &str = "\
Reading package lists...
The following packages will be REMOVED:
  tini
4 upgraded, 4 newly installed, 1 to remove and 0 not upgraded.
Inst containerd [1.7.24~ds1-6+deb13u1] (2.1.9+ds1-5 Debian:unstable [amd64])
Inst docker.io [26.1.5+dfsg1-9+deb13u1+b1] (28.5.2+dfsg4-5 Debian:unstable [amd64]) []
Inst libapparmor1 (4.1.0-1 Debian:13.8/stable [amd64]) []
Remv tini [0.19.0-3+b8] []
Inst tini-static (0.19.0-6+b2 Debian:unstable, local-deb [amd64])
Inst libc6:i386 (2.41-12 Debian:13.8/stable [i386])
Conf containerd (2.1.9+ds1-5 Debian:unstable [amd64])
";

    #[test]
    fn changes_are_read() {
        let line = |change: &Simulated| format!("{} {:?} {:?}", change.package, change.from, change.to);
        let found: Vec<_> = parse(TEXT).unwrap().iter().map(line).collect();
        let expected = [
            r#"containerd Some("1.7.24~ds1-6+deb13u1") Some("2.1.9+ds1-5")"#,
            r#"docker.io Some("26.1.5+dfsg1-9+deb13u1+b1") Some("28.5.2+dfsg4-5")"#,
            r#"libapparmor1 None Some("4.1.0-1")"#,
            r#"tini Some("0.19.0-3+b8") None"#,
            r#"tini-static None Some("0.19.0-6+b2")"#,
            r#"libc6:i386 None Some("2.41-12")"#,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_change_that_cannot_be_read_is_told() {
        assert_eq!(parse("Inst runc"), Err("Inst runc".into()));
    }
}
