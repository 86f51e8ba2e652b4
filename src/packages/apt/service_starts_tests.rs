use super::*;

struct Host {
    _root: tempfile::TempDir,
    place: PathBuf,
    saved: PathBuf,
}

fn host() -> Host {
    let root = tempfile::tempdir().unwrap();
    let (sbin, saved) = (root.path().join("sbin"), root.path().join("saved"));
    std::fs::create_dir(&sbin).unwrap();
    std::fs::create_dir(&saved).unwrap();
    Host { place: sbin.join("policy-rc.d"), saved, _root: root }
}

impl Host {
    fn defer(&self) {
        defer(&self.place, &self.saved).unwrap();
        let ran = loop {
            match std::process::Command::new(&self.place).status() {
                // What another test starts just now has all open files until it has become its own program.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                other => break other.unwrap(),
            }
        };
        assert_eq!(ran.code(), Some(101));
    }

    /// Twice, and nothing of ours is left anywhere.
    fn allow(&self) {
        allow(&self.place, &self.saved).unwrap();
        allow(&self.place, &self.saved).unwrap();
        assert_eq!(std::fs::read_dir(&self.saved).unwrap().count(), 0);
        let others = std::fs::read_dir(self.place.parent().unwrap()).unwrap();
        assert!(others.flatten().all(|entry| entry.path() == self.place));
    }
}

#[test]
fn where_there_was_nothing_there_is_nothing() {
    let host = host();
    host.defer();
    host.defer();
    host.allow();
    assert!(host.place.symlink_metadata().is_err());
}

#[test]
fn a_file_comes_back_byte_for_byte_with_its_owner_mode_and_time() {
    let host = host();
    std::fs::write(&host.place, b"#!/bin/sh\n# \xff no newline\nexit 0").unwrap();
    let file = File::options().write(true).open(&host.place).unwrap();
    file.set_times(FileTimes::new().set_modified(time(1_234_567_890, 987_654_321))).unwrap();
    if nix::unistd::geteuid().is_root() {
        fchown(&file, Some(12), Some(34)).unwrap();
    }
    std::fs::set_permissions(&host.place, Permissions::from_mode(0o4751)).unwrap();
    let before = describe(&host.place.metadata().unwrap());
    host.defer();
    host.defer();
    host.allow();
    assert_eq!(std::fs::read(&host.place).unwrap(), b"#!/bin/sh\n# \xff no newline\nexit 0");
    assert_eq!(describe(&host.place.metadata().unwrap()), before);
}

#[test]
fn a_link_comes_back_as_a_link_and_what_it_names_is_not_touched() {
    let host = host();
    let behind = host.saved.parent().unwrap().join("alternative");
    std::fs::write(&behind, "exit 0").unwrap();
    symlink("../alternative", &host.place).unwrap();
    host.defer();
    host.allow();
    assert_eq!(std::fs::read_link(&host.place).unwrap(), Path::new("../alternative"));
    assert_eq!(std::fs::read_to_string(&behind).unwrap(), "exit 0");
}

#[test]
fn a_crash_anywhere_leaves_what_the_next_start_can_put_back() {
    for found in [None, Some("exit 0")] {
        // Killed while it saved, while it replaced, while it put back, while it tidied up.
        let left: [&dyn Fn(&Host); 4] = [
            &|host| std::fs::write(host.saved.join(CONTENT), "half").unwrap(),
            &|host| {
                save(&host.place, &host.saved).unwrap();
                std::fs::write(temporary(&host.place), "half").unwrap();
            },
            &|host| {
                host.defer();
                std::fs::write(temporary(&host.place), "half").unwrap();
            },
            &|host| {
                host.defer();
                put_back(&host.place, &host.saved, &load(&host.place, &host.saved).unwrap().unwrap()).unwrap();
            },
        ];
        for crash in left {
            let host = host();
            if let Some(text) = found {
                std::fs::write(&host.place, text).unwrap();
            }
            crash(&host);
            host.allow();
            assert_eq!(std::fs::read_to_string(&host.place).ok().as_deref(), found);
        }
    }
}

#[test]
fn what_somebody_else_has_put_there_since_stays() {
    let host = host();
    host.defer();
    std::fs::write(&host.place, "theirs").unwrap();
    host.allow();
    assert_eq!(std::fs::read_to_string(&host.place).unwrap(), "theirs");
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_nothing_is_touched() {
    let host = host();
    host.defer();
    std::fs::write(host.saved.join(RECORD), "{").unwrap();
    assert!(matches!(allow(&host.place, &host.saved), Err(PackageError::Record { .. })));
    assert_eq!(std::fs::read_to_string(&host.place).unwrap(), DENY_ALL);
}
