//! What is installed, as `dpkg-query` tells.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::error::{PackageError, Result};
use super::command::{query, run};

const FORMAT: &str = "${db:Status-Abbrev}\\t${Package}\\t${Architecture}\\t${Version}\\t${Installed-Size}\\n";

/// A package that dpkg knows and that is not gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    /// Its full version.
    pub version: String,
    /// Its architecture, `all` for those that run on each.
    pub architecture: String,
    /// Whether somebody has told dpkg to leave it alone.
    pub held: bool,
    /// Whether dpkg has a note that it is to go: apt makes one for all that it is about to remove.
    pub to_go: bool,
    /// Whether it is installed in full and configured.
    pub configured: bool,
    /// Whether dpkg was killed in the middle of its files, so that it has to be unpacked again or removed.
    pub torn: bool,
    /// Bytes that it takes on disk, as its maker counted them.
    pub bytes: u64,
}

/// Packages by the name that apt gives them: with the architecture where that is not the host's.
pub(super) type InstalledPackages = BTreeMap<String, Installed>;

/// Those of `packages` that are installed, in whatever state; all packages where none is named.
pub(super) fn installed(packages: &[&str]) -> Result<InstalledPackages> {
    let native = query("dpkg", &["--print-architecture"])?;
    let arguments = [&["-W", "-f", FORMAT], packages].concat();
    // Exit status 1 says that dpkg has never heard of some of them, which is an answer.
    let (command, output) = run("dpkg-query", &arguments, Path::new("/"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && output.status.code() != Some(1) {
        let log = super::command::complaint(&output);
        return Err(PackageError::Failed { command, status: output.status, log });
    }
    parse(&text, native.trim()).map_err(|line| PackageError::Malformed { command, line })
}

/// The name that apt gives a package.
pub(super) fn apt_name(package: &str, architecture: &str, native: &str) -> String {
    match architecture == native || architecture == "all" || architecture.is_empty() {
        true => package.to_owned(),
        false => format!("{package}:{architecture}"),
    }
}

fn parse(text: &str, native: &str) -> std::result::Result<InstalledPackages, String> {
    let mut found = InstalledPackages::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [status, package, architecture, version, kibibytes] = fields[..] else { return Err(line.into()) };
        // What is wanted, what is, and whether it must be installed again; see dpkg-query(1).
        let mut status = status.chars();
        let (want, is, broken) = (status.next(), status.next(), status.next());
        if matches!(is, Some('n' | 'c')) {
            continue;
        }
        let package = apt_name(package, architecture, native);
        let installed = Installed {
            version: version.into(),
            architecture: architecture.into(),
            held: want == Some('h'),
            to_go: matches!(want, Some('r' | 'p')),
            configured: is == Some('i') && broken != Some('R'),
            torn: is == Some('H') || broken == Some('R'),
            bytes: kibibytes.parse::<u64>().unwrap_or(0).saturating_mul(1024),
        };
        found.insert(package, installed);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ii \tcontainerd\tamd64\t1.7.24~ds1-6+deb13u1\t126080
un \tdocker-ce\t\t\t
iU \tdocker-cli\tamd64\t28.5.2+dfsg4-5\t29385
hi \tdocker.io\tamd64\t26.1.5+dfsg1-9+deb13u1+b1\t94955
iHR\trunc\tamd64\t1.3.6+ds1-1\t21000
rc \tsystemd\tamd64\t257.13-1~deb13u1\t10855
ii \tlibc6\tamd64\t2.41-12+deb13u5\t13223
ii \tlibc6\ti386\t2.41-12+deb13u5\t13223
ii \ttzdata\tall\t2026f-0+deb13u1\t1500
ri \ttini\tamd64\t0.19.0-3+b8\t800
";

    #[test]
    fn states_are_read() {
        let found = parse(TEXT, "amd64").unwrap();
        assert_eq!(found.len(), 8);
        let seen = |name: &str| (found[name].held, found[name].configured, found[name].torn);
        assert_eq!(seen("containerd"), (false, true, false));
        assert_eq!(seen("docker.io"), (true, true, false));
        assert_eq!(seen("docker-cli"), (false, false, false));
        assert_eq!(seen("runc"), (false, false, true));
        assert!(found["tini"].to_go && found["tini"].configured && !found["runc"].to_go);
        assert_eq!(found["docker.io"].bytes, 94955 * 1024);
        assert!(found.contains_key("libc6") && found.contains_key("libc6:i386") && found.contains_key("tzdata"));
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        assert_eq!(parse("ii\tlibc6", "amd64"), Err("ii\tlibc6".into()));
    }
}
