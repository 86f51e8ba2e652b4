//! Whether the repositories that packages would be fetched from answer, found out before anything begins.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::error::{PackageError, Result};
use super::super::plan::Plan;
use super::command::{complaint, exists, query, run};
use super::fetch::{cache_directory, new, present};
use super::index::indexed;

/// apt's own program for single files.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// What lies on this host, or in its drive.
const LOCAL: [&str; 3] = ["file:", "copy:", "cdrom:"];

/// Asks each repository of the plan's packages for the file that it begins with, unless all of them lie in apt's cache.
pub(super) fn reach(plan: &Plan) -> Result<()> {
    let cache = cache_directory()?;
    let mut files = indexed(&new(plan))?;
    files.extend(indexed(&present(plan))?);
    let is_cached = |file: &str, bytes| cache.join(file).metadata().is_ok_and(|found| found.len() == bytes);
    let uris: Vec<_> =
        files.into_iter().filter(|file| !is_cached(&file.file, file.bytes)).map(|file| file.uri).collect();
    if uris.is_empty() || !exists(HELPER) {
        return Ok(());
    }
    let listed = query("apt-get", &["indextargets", "--format", "$(REPO_URI) $(BASE_URI)", "Created-By: Packages"])?;
    let scratch = tempfile::tempdir().map_err(PackageError::io("make a directory in", &std::env::temp_dir()))?;
    asked(&listed, &uris).into_iter().try_for_each(|(repository, release)| ask(repository, release, scratch.path()))
}

/// The repositories of these files, each with where one of its releases is described.
fn asked<'a>(listed: &'a str, uris: &[String]) -> BTreeMap<&'a str, &'a str> {
    let repositories = listed.lines().filter_map(|line| line.split_once(' '));
    let is_local = |repository: &str| LOCAL.iter().any(|scheme| repository.starts_with(scheme));
    let is_asked = |repository: &str| !is_local(repository) && uris.iter().any(|uri| uri.starts_with(repository));
    repositories.filter(|(repository, _)| is_asked(repository)).collect()
}

fn ask(repository: &str, release: &str, scratch: &Path) -> Result<()> {
    let (file, target) = (format!("{release}InRelease"), scratch.join("InRelease"));
    // For each address that the repository has.
    let patience = ["-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10", "-o", "Acquire::Retries=0"];
    let what = ["-o", "APT::Sandbox::User=root", "download-file", &file, &target.to_string_lossy()];
    let (_, output) = run(HELPER, &[&patience[..], &what[..]].concat(), scratch)?;
    let log = complaint(&output);
    match output.status.success() || is_an_answer(&log) {
        true => Ok(()),
        false => Err(PackageError::Unreachable { repository: repository.to_owned(), log }),
    }
}

/// Not every repository has that file, or shows it: any status of HTTP comes from one that is there.
fn is_an_answer(log: &[String]) -> bool {
    let is_status =
        |word: &str| word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|byte| byte.is_ascii_digit());
    log.iter().any(|line| line.contains("Failed to fetch") && line.split(' ').any(is_status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repository_of_what_is_needed_is_asked_once_and_what_lies_here_is_not() {
        let listed = "http://deb.example/debian/ http://deb.example/debian/dists/trixie/\n\
                      http://deb.example/debian/ http://deb.example/debian/dists/sid/\n\
                      http://other.example/ http://other.example/dists/sid/\n\
                      file:/srv/packages/ file:/srv/packages/dists/sid/\n";
        let uris =
            ["http://deb.example/debian/pool/r/runc.deb", "file:/srv/packages/pool/docker.deb"].map(str::to_owned);
        let expected = BTreeMap::from([("http://deb.example/debian/", "http://deb.example/debian/dists/sid/")]);
        assert_eq!(asked(listed, &uris), expected);
    }

    #[test]
    fn a_repository_that_says_no_has_answered() {
        let log = |line: &str| [line.to_owned()];
        assert!(is_an_answer(&log("E: Failed to fetch http://x/InRelease  404  Not Found [IP: 10.0.0.1 80]")));
        assert!(is_an_answer(&log("E: Failed to fetch http://x/InRelease  403  Forbidden [IP: 10.0.0.1 80]")));
        assert!(!is_an_answer(&log("E: Failed to fetch http://x/InRelease  Could not connect to 127.0.0.1:80")));
    }
}
