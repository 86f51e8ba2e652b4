//! Files of packages as apt's indexes describe them: name, size, digest.

use std::collections::BTreeMap;

use super::super::error::{PackageError, Result};
use super::command::query;
use super::installed::apt_name;
use super::offers::offers;

/// A package's file that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexed {
    /// The package's name, with the architecture where that is not the host's.
    pub package: String,
    /// Its full version.
    pub version: String,
    /// Where it lies.
    pub uri: String,
    /// The name that apt gives the file.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, as hexadecimal digits; none where the index has another digest.
    pub sha256: Option<String>,
}

/// Those of the packages, each with a version, that some index has.
pub(super) fn indexed(packages: &[(String, String)]) -> Result<Vec<Indexed>> {
    let names: Vec<_> = packages.iter().map(|(package, _)| package.as_str()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let offers = offers(&names)?;
    let is_indexed = |package: &str, version: &str| {
        let offers = offers.get(package).map_or(&[][..], Vec::as_slice);
        offers.iter().any(|offer| offer.version == version && !offer.suites.is_empty())
    };
    let known = packages.iter().filter(|(package, version)| is_indexed(package, version));
    let words: Vec<_> = known.map(|(package, version)| format!("{package}={version}")).collect();
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let native = query("dpkg", &["--print-architecture"])?;
    // Run in `/`: apt leaves out files that are in the working directory, whatever is in them.
    let arguments: Vec<_> =
        ["-qq", "--print-uris", "download"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let text = query("apt-get", &arguments)?;
    let lines = text.lines().map(|line| {
        let malformed =
            || PackageError::Malformed { command: "apt-get --print-uris download".into(), line: line.into() };
        parse(line, native.trim()).ok_or_else(malformed)
    });
    lines.collect()
}

/// `'http://.../runc_1.3.6%2bds1-1_amd64.deb' runc_1.3.6+ds1-1_amd64.deb 6707796 SHA256:8e95...`
fn parse(line: &str, native: &str) -> Option<Indexed> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split(' ');
    let (file, bytes) = (words.next()?, words.next()?.parse().ok()?);
    let sha256 = words.next().and_then(|digest| digest.strip_prefix("SHA256:")).map(str::to_owned);
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    // It becomes the name of a file of ours.
    if file.contains('/') || parts.next().is_some() {
        return None;
    }
    Some(Indexed {
        package: apt_name(name, architecture, native),
        version: version.replace("%3a", ":"),
        uri: uri.into(),
        file: file.into(),
        bytes,
        sha256,
    })
}

/// Bytes that each of these packages takes once unpacked, as the index says.
pub(super) fn unpacked_bytes(packages: &[(String, String)]) -> Result<BTreeMap<String, u64>> {
    if packages.is_empty() {
        return Ok(BTreeMap::new());
    }
    let words: Vec<_> = packages.iter().map(|(package, version)| format!("{package}={version}")).collect();
    let arguments: Vec<_> = ["show"].into_iter().chain(words.iter().map(String::as_str)).collect();
    Ok(parse_sizes(&query("apt-cache", &arguments)?))
}

fn parse_sizes(text: &str) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    let mut package = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Package: ") {
            package = name;
        } else if let Some(kibibytes) = line.strip_prefix("Installed-Size: ").and_then(|size| size.parse::<u64>().ok())
        {
            sizes.insert(package.to_owned(), kibibytes.saturating_mul(1024));
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let line =
            "'http://deb.example/dmsetup_1.02.205-2_i386.deb' dmsetup_2%3a1.02.205-2_i386.deb 82344 SHA256:4771f7";
        let expected = Indexed {
            package: "dmsetup:i386".into(),
            version: "2:1.02.205-2".into(),
            uri: "http://deb.example/dmsetup_1.02.205-2_i386.deb".into(),
            file: "dmsetup_2%3a1.02.205-2_i386.deb".into(),
            bytes: 82344,
            sha256: Some("4771f7".into()),
        };
        assert_eq!(parse(line, "amd64"), Some(expected));
        let line = "'file:/srv/x/./runc_1.3.6%2bds1-1_amd64.deb' runc_1.3.6+ds1-1_amd64.deb 6707796 MD5Sum:706f";
        assert_eq!(parse(line, "amd64").map(|found| (found.package, found.sha256)), Some(("runc".into(), None)));
        for wrong in ["", "'x' ../../x_1_amd64.deb 1 SHA256:1", "'x' x.deb 1", "'x' x_1_amd64.deb y"] {
            assert_eq!(parse(wrong, "amd64"), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_for_each_package() {
        let text = "\
Package: docker.io
Version: 28.5.2+dfsg4-5
Installed-Size: 80705

Package: meta

Package: runc
Installed-Size: 21
";
        let expected = BTreeMap::from([("docker.io".into(), 80705 * 1024), ("runc".into(), 21 * 1024)]);
        assert_eq!(parse_sizes(text), expected);
    }
}
