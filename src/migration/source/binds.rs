//! Directories of the host that containers have mounted: copied along, or there already (`--bind copy|shared[=PATH]`).

use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::migration::tree::Tree;
use crate::migration::words;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What becomes of such a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// Its files are copied; what is here stays.
    Copy,
    /// The peer has the same files at the same path.
    Shared,
}

/// What was asked for: of one path, or of all that nothing else was asked for of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub course: Course,
    /// On the host, as it was given to Docker; none for all others.
    pub path: Option<PathBuf>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bind {
    path: PathBuf,
    course: Course,
    tree: Tree,
}

impl Bind {
    /// What the peer is told of it.
    pub fn told(&self) -> words::Bind {
        words::Bind { path: self.path.clone(), is_brought: self.course == Course::Copy }
    }

    /// Its files, where they are copied.
    pub fn tree(&self) -> Option<&Tree> {
        (self.course == Course::Copy).then_some(&self.tree)
    }

    /// The same, to be copied.
    pub fn tree_mut(&mut self) -> Option<&mut Tree> {
        (self.course == Course::Copy).then_some(&mut self.tree)
    }
}

/// The containers' mounts of their host, each once; refuses those of which nothing was said, and what cannot be copied.
pub fn of(containers: &[Container], rules: &[Rule]) -> Result<Vec<Bind>, Failure> {
    let mut binds: Vec<Bind> = Vec::new();
    // Docker tells them in another order each time.
    let mut open = BTreeMap::new();
    for (container, mount) in containers.iter().flat_map(|one| one.mounts().map(move |mount| (one, mount))) {
        let text = |field: &str| mount[field].as_str().unwrap_or_default();
        let path = PathBuf::from(text("Source"));
        if text("Type") != "bind" || binds.iter().any(|known| known.path == path) {
            continue;
        }
        let Some(course) = course(&path, rules) else {
            open.entry(path).or_insert_with(|| format!("{} at {}", container.name(), text("Destination")));
            continue;
        };
        if course == Course::Copy {
            is_directory(container.name(), &path)?;
        }
        binds.push(Bind { tree: Tree::of(path.clone()), path, course });
    }
    if open.is_empty() { Ok(binds) } else { Err(nothing_said_of(&open)) }
}

/// All of them at once: whoever answers has to do so for each.
fn nothing_said_of(open: &BTreeMap<PathBuf, String>) -> Failure {
    let mounted = open.iter().map(|(path, at)| format!("{} (in {at})", path.display()));
    let answers = open.keys().map(|path| format!("--bind copy={}", path.display()));
    let (mounted, answers) = (mounted.collect::<Vec<_>>().join(", "), answers.collect::<Vec<_>>().join(" "));
    Failure::refused(format!("files of this host are mounted: {mounted}")).remedy(format!(
        "say what becomes of it: {answers}; or --bind shared=PATH instead, where the peer has the same there"
    ))
}

fn course(path: &Path, rules: &[Rule]) -> Option<Course> {
    let own = rules.iter().find(|rule| rule.path.as_deref() == Some(path));
    own.or_else(|| rules.iter().find(|rule| rule.path.is_none())).map(|rule| rule.course)
}

fn is_directory(name: &str, path: &Path) -> Result<(), Failure> {
    let found =
        std::fs::symlink_metadata(path).or_fail(|| format!("{} of {name} cannot be looked at", path.display()))?;
    match found.is_dir() {
        true => Ok(()),
        false => {
            Err(Failure::refused(format!("{} of {name} is no directory, and only those are copied", path.display()))
                .remedy(format!("put it on the peer, then: --bind shared={}", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(source: &str) -> Container {
        Container::new(json!({ "Name": "/web", "Mounts": [
            { "Type": "bind", "Source": source, "Destination": "/data" }, { "Type": "volume", "Name": "v" }] }))
    }

    #[test]
    fn what_nothing_was_said_of_is_refused_and_a_path_of_its_own_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let of = |rules: &[Rule]| super::of(&[container(path), container(path)], rules);
        assert!(of(&[]).unwrap_err().remedy.unwrap().contains("--bind copy="));
        let two = super::of(&[container("/srv/b"), container("/srv/a")], &[]).unwrap_err();
        assert!(two.remedy.unwrap().contains("--bind copy=/srv/a --bind copy=/srv/b"));
        let all = Rule { course: Course::Copy, path: None };
        let own = Rule { course: Course::Shared, path: Some(path.into()) };
        let found = of(&[all.clone(), own]).unwrap();
        assert_eq!((found.len(), found[0].course), (1, Course::Shared));
        assert!(found[0].tree().is_none());
        assert!(of(std::slice::from_ref(&all)).unwrap()[0].tree().is_some());
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(super::of(&[container(file.to_str().unwrap())], &[all]).unwrap_err().what.contains("no directory"));
    }
}
