//! Brings packages onto disk: the new ones, and the present ones for the way back.
//!
//! A new package comes from where apt has it. A present one comes from apt's cache, else from where apt has it, else it
//! is rebuilt from the files of the host, where dpkg-repack is there to do that.
//!
//! What an index describes is compared with the index's SHA-256. apt does so too when it fetches, but takes a file that
//! is there already by its size (seen with apt 3.0).

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::error::{PackageError, Result};
use super::super::plan::Plan;
use super::super::set::{Archive, Fetched, PackageSet, measure};
use super::super::{Event, Watch};
use super::command::{exists, query, run};
use super::index::{Indexed, indexed};
use super::installed::{apt_name, installed};
use super::{space, watched};

const FORWARD: &str = "new";
const BACKWARD: &str = "present";
const LOG: &str = "apt.log";

/// Names of packages, each with a version.
type Versions = Vec<(String, String)>;

/// Brings both ways of the plan into `directory`.
pub(super) fn fetch(plan: &Plan, directory: &Path, watch: Watch<'_>) -> Result<Fetched> {
    make_directory(directory)?;
    space::refuse_shortage(&plan.space, directory)?;
    let changes = || plan.changes.iter();
    let new = Side::at(directory.join(FORWARD), new(plan))?;
    let present = Side::at(directory.join(BACKWARD), present(plan))?;
    let mut progress = Progress { done: 0, of: new.bytes() + present.bytes(), watch };
    new.bring(&mut progress)?;
    present.bring(&mut progress)?;
    present.rebuild_the_rest(&mut progress)?;
    let goes = |gone: fn(&super::super::plan::Change) -> bool| {
        changes().filter(move |change| gone(change)).map(|change| change.package.clone()).collect()
    };
    let automatic: Vec<_> = changes().filter(|change| change.automatic).map(|change| change.package.clone()).collect();
    let fetched = Fetched {
        forward: new.into_set(goes(|change| change.to.is_none()), &automatic, false)?,
        backward: present.into_set(goes(|change| change.from.is_none()), &automatic, true)?,
    };
    let sync = || Ok(nix::unistd::syncfs(File::open(directory)?)?);
    sync().map_err(PackageError::io("write out the file system of", directory))?;
    Ok(fetched)
}

/// The packages that the plan installs.
pub(super) fn new(plan: &Plan) -> Versions {
    plan.changes.iter().filter_map(|change| Some((change.package.clone(), change.to.clone()?))).collect()
}

/// Those that it replaces or removes.
pub(super) fn present(plan: &Plan) -> Versions {
    plan.changes.iter().filter_map(|change| Some((change.package.clone(), change.from.clone()?))).collect()
}

/// Bytes here and bytes needed, over both sides.
struct Progress<'a> {
    done: u64,
    of: u64,
    watch: Watch<'a>,
}

impl Progress<'_> {
    fn tell(&mut self, more: u64) {
        (self.watch)(Event::Fetched { bytes: (self.done + more).min(self.of), of: self.of });
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.tell(0);
    }
}

/// The packages of one way, and the directory that they go to.
struct Side {
    directory: PathBuf,
    versions: Versions,
    indexed: Vec<Indexed>,
}

impl Side {
    fn at(directory: PathBuf, versions: Versions) -> Result<Self> {
        make_directory(&directory)?;
        let indexed = indexed(&versions)?;
        Ok(Self { directory, versions, indexed })
    }

    fn bytes(&self) -> u64 {
        self.indexed.iter().map(|file| file.bytes).sum()
    }

    /// Brings what apt has somewhere.
    fn bring(&self, progress: &mut Progress<'_>) -> Result<()> {
        let cache = cache_directory()?;
        let mut missing = Vec::new();
        for file in &self.indexed {
            let (here, cached) = (self.directory.join(&file.file), cache.join(&file.file));
            if is_as_indexed(&here, file)? {
                progress.add(file.bytes);
            } else if is_as_indexed(&cached, file)? {
                copy(&cached, &here)?;
                progress.add(file.bytes);
            } else {
                remove_file(&here)?;
                missing.push(file);
            }
        }
        self.download(&missing, progress)
    }

    fn download(&self, missing: &[&Indexed], progress: &mut Progress<'_>) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let bytes: u64 = missing.iter().map(|file| file.bytes).sum();
        let packages: Vec<_> = missing.iter().map(|file| format!("{}={}", file.package, file.version)).collect();
        // The user that apt otherwise fetches as cannot reach a directory of root's alone. apt would fall back to root
        // by itself, with a warning.
        let options = ["-q", "-y", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download"];
        let arguments: Vec<_> = options.into_iter().map(str::to_owned).chain(packages.iter().cloned()).collect();
        let mut heard = |event| match event {
            // `as` saturates, and a percentage beyond 100 would not matter.
            Event::Percent(percent) => progress.tell((bytes as f64 * f64::from(percent) / 100.0) as u64),
            other => (progress.watch)(other),
        };
        let ended = watched::apt_get(&arguments, &self.directory, &self.directory.join(LOG), &mut heard)?;
        if !ended.status.success() {
            // What apt tries once more is told again if it fails for good.
            let log = ended.log.into_iter().filter(|line| !line.starts_with("Ign:")).collect();
            return Err(PackageError::Fetch { packages, log });
        }
        for file in missing {
            let path = self.directory.join(&file.file);
            if file.sha256.is_some() && !is_as_indexed(&path, file)? {
                return Err(PackageError::Digest { path });
            }
        }
        progress.add(bytes);
        Ok(())
    }

    /// Present versions that no index has any more.
    fn rebuild_the_rest(&self, progress: &mut Progress<'_>) -> Result<()> {
        let is_indexed = |package: &str| self.indexed.iter().any(|file| file.package == package);
        for (package, version) in self.versions.iter().filter(|(package, _)| !is_indexed(package)) {
            let file = file_name(package, version)?;
            let (here, cached) = (self.directory.join(&file), cache_directory()?.join(&file));
            if check(&here, package, version).is_ok() {
                continue;
            }
            if check(&cached, package, version).is_ok() {
                copy(&cached, &here)?;
                continue;
            }
            // It can take a minute for each.
            (progress.watch)(Event::Line(format!("rebuilding {package} {version} from its files on this host")));
            self.repack(package, version, &here)?;
        }
        Ok(())
    }

    fn repack(&self, package: &str, version: &str, to: &Path) -> Result<()> {
        let no_way_back = || PackageError::NoWayBack { package: package.into(), version: version.into() };
        if !exists("dpkg-repack") {
            return Err(no_way_back());
        }
        // In a directory of its own, so that a file that was made half is never taken for a whole one.
        let scratch = tempfile::tempdir_in(&self.directory).map_err(PackageError::io("write to", &self.directory))?;
        let (_, output) = run("dpkg-repack", &[package], scratch.path())?;
        let built = files(scratch.path())?.into_iter().find(|path| check(path, package, version).is_ok());
        let built = built.filter(|_| output.status.success()).ok_or_else(no_way_back)?;
        std::fs::rename(&built, to).map_err(PackageError::io("write", to))
    }

    fn into_set(self, removed: Vec<String>, automatic: &[String], way_back: bool) -> Result<PackageSet> {
        let found: BTreeMap<_, _> =
            files(&self.directory)?.into_iter().filter_map(|path| Some((read(&path).ok()?, path))).collect();
        let archives: Vec<_> = self
            .versions
            .iter()
            .map(|key| {
                let (package, version) = key.clone();
                let missing =
                    || PackageError::Fetch { packages: vec![format!("{package}={version}")], log: Vec::new() };
                let path = found.get(key).ok_or_else(missing)?;
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let (bytes, digest) = measure(path)?;
                Ok(Archive { package, version, file, bytes, digest })
            })
            .collect::<Result<_>>()?;
        let automatic = automatic.iter().filter(|name| archives.iter().any(|archive| archive.package == **name));
        let automatic = automatic.cloned().collect();
        Ok(PackageSet { directory: self.directory, archives, removed, automatic, way_back })
    }
}

/// Whether the file is there and has the size and the digest that the index says.
fn is_as_indexed(path: &Path, file: &Indexed) -> Result<bool> {
    let Some(sha256) = &file.sha256 else { return Ok(false) };
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(PackageError::io("look at", path))?,
    };
    if !metadata.is_file() || metadata.len() != file.bytes {
        return Ok(false);
    }
    Ok(query("sha256sum", &["--", &path.to_string_lossy()])?.split_whitespace().next() == Some(sha256))
}

/// The name and version of the package in a file.
fn read(path: &Path) -> Result<(String, String)> {
    let native = query("dpkg", &["--print-architecture"])?;
    let format = "--showformat=${Package}\t${Version}\t${Architecture}";
    let text = query("dpkg-deb", &["--show", format, &path.to_string_lossy()])?;
    match text.trim().split('\t').collect::<Vec<_>>()[..] {
        [package, version, architecture] => Ok((apt_name(package, architecture, native.trim()), version.into())),
        _ => Err(PackageError::Malformed { command: format!("dpkg-deb --show {}", path.display()), line: text }),
    }
}

fn check(path: &Path, package: &str, version: &str) -> Result<()> {
    let (found, found_version) = read(path)?;
    match (found.as_str(), found_version.as_str()) == (package, version) {
        true => Ok(()),
        false => Err(PackageError::WrongPackage {
            path: path.to_owned(),
            wanted: format!("{package} {version}"),
            found: format!("{found} {found_version}"),
        }),
    }
}

/// The name that apt gives the file of an installed package.
fn file_name(package: &str, version: &str) -> Result<String> {
    let architecture = installed(&[package])?.remove(package).map(|found| found.architecture).unwrap_or_default();
    let name = package.split(':').next().unwrap_or_default();
    Ok(format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a")))
}

/// Where apt keeps what it has fetched.
pub(super) fn cache_directory() -> Result<PathBuf> {
    let text = query("apt-config", &["shell", "directory", "Dir::Cache::archives/d"])?;
    let path = text.trim().strip_prefix("directory='").and_then(|rest| rest.strip_suffix('\''));
    let malformed = || PackageError::Malformed { command: "apt-config shell".into(), line: text.clone() };
    path.map(PathBuf::from).ok_or_else(malformed)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = || std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let files = list().map_err(PackageError::io("list", directory))?;
    Ok(files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(PackageError::io("make the directory", path))
}

/// Through another name, so that a copy that was made half is never taken for a whole one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let partial = to.with_extension("partial");
    let copy = || std::fs::copy(from, &partial).and_then(|_| std::fs::rename(&partial, to));
    copy().map_err(PackageError::io("write", to))
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PackageError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
