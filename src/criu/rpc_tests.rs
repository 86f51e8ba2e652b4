//! The client against small shell scripts that play CRIU's part, good and bad.

use super::*;
use protobuf::Message;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

const QUERY_LIMIT: Duration = Duration::from_secs(20);

/// A `criu` that runs `script` with the socket's number in `$fd`.
fn played_by(script: &str) -> (tempfile::TempDir, Criu) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("criu");
    std::fs::write(&program, format!("#!/bin/bash\nfd=$2\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (directory, Criu { program })
}

/// Shell text that answers with `message`, in one packet: dd writes what it has read at once.
fn answer(message: &Criu_resp) -> String {
    let bytes = message.write_to_bytes().unwrap();
    let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("printf '{escaped}' | dd iflag=fullblock bs=4096 status=none >&$fd\n")
}

fn response(kind: Criu_req_type, success: bool) -> Criu_resp {
    let mut message = Criu_resp::new();
    message.set_type(kind);
    message.set_success(success);
    message
}

fn options() -> Options {
    let mut options = Options::new();
    options.set_images_dir_fd(-1);
    options
}

const TAKE_REQUEST: &str = "dd bs=65536 count=1 <&$fd >/dev/null 2>&1\n";

#[test]
fn a_version_is_read() {
    let mut message = response(Criu_req_type::VERSION, true);
    let mut version = rust_criu::rust_criu_protobuf::rpc::Criu_version::new();
    version.set_major_number(4);
    version.set_minor_number(2);
    version.set_sublevel(1);
    message.version = Some(version).into();
    let (_directory, criu) = played_by(&format!("{TAKE_REQUEST}{}", answer(&message)));
    let version = criu.version().unwrap();
    assert_eq!(version, Version::new(4, 2, 1));
    assert_eq!(version.to_string(), "4.2.1");
    assert!(version > Version::new(4, 2, 0) && version < Version::new(4, 10, 0));
}

#[test]
fn a_death_without_an_answer_carries_the_status() {
    let (_directory, criu) = played_by("exit 7");
    let error = criu.version().unwrap_err();
    assert!(matches!(&error, CriuError::Died { status, .. } if status.code() == Some(7)), "{error}");
}

#[test]
fn a_failure_carries_message_errno_and_log() {
    let mut message = response(Criu_req_type::DUMP, false);
    message.set_cr_errno(95);
    message.set_cr_errmsg("Can't dump file 3".to_owned());
    let (directory, criu) = played_by(&format!(
        "{TAKE_REQUEST}echo 'Error (criu/files.c:1): no' > ${{0%/*}}/dump.log\n{}",
        answer(&message)
    ));
    let log = directory.path().join("dump.log");
    let error = criu.dump(options(), &log, QUERY_LIMIT, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("Can't dump file 3 (errno 95)"), "{error}");
    assert_eq!(error.log().unwrap().first_error(), Some("Error (criu/files.c:1): no"));
}

#[test]
fn a_silent_criu_is_killed_in_time() {
    let (_directory, criu) = played_by("exec tail -f /dev/null");
    let started = Instant::now();
    let limit = Duration::from_millis(200);
    let error = criu.dump(options(), Path::new("/none"), limit, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, CriuError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn stages_reach_the_caller_and_a_refusal_ends_the_request() {
    let mut notify = response(Criu_req_type::NOTIFY, true);
    let mut stage = rust_criu::rust_criu_protobuf::rpc::Criu_notify::new();
    stage.set_script("setup-namespaces".to_owned());
    stage.set_pid(77);
    notify.notify = Some(stage).into();
    let script =
        format!("{TAKE_REQUEST}{}{TAKE_REQUEST}{}", answer(&notify), answer(&response(Criu_req_type::DUMP, true)));
    let (_directory, criu) = played_by(&script);
    let mut seen = Vec::new();
    let log = Path::new("/none");
    criu.dump(options(), log, QUERY_LIMIT, &mut |notification| {
        seen.push((notification.stage, notification.pid));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [("setup-namespaces".to_owned(), Some(77))]);
    let error = criu.dump(options(), log, QUERY_LIMIT, &mut |_| Err("not now".into())).unwrap_err();
    assert!(matches!(&error, CriuError::Refused { stage, .. } if stage == "setup-namespaces"), "{error}");
}

#[test]
fn answers_of_another_kind_size_or_language_are_refused() {
    let (_directory, criu) = played_by(&format!("{TAKE_REQUEST}{}", answer(&response(Criu_req_type::CHECK, true))));
    assert!(matches!(criu.version().unwrap_err(), CriuError::WrongAnswer { .. }));
    let (_directory, criu) = played_by(&format!("{TAKE_REQUEST}printf garbage >&$fd"));
    assert!(matches!(criu.version().unwrap_err(), CriuError::Decode { .. }));
    let (_directory, criu) =
        played_by(&format!("{TAKE_REQUEST}head -c 80000 /dev/zero | dd bs=80000 iflag=fullblock >&$fd 2>/dev/null"));
    assert!(matches!(criu.version().unwrap_err(), CriuError::Oversized { .. }));
}

#[test]
fn success_then_a_bad_end_is_a_failure() {
    let done = answer(&response(Criu_req_type::DUMP, true));
    let (_directory, criu) = played_by(&format!("{TAKE_REQUEST}{done}exit 3"));
    let error = criu.dump(options(), Path::new("/none"), QUERY_LIMIT, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("reported success"), "{error}");
}

#[test]
fn only_inherited_descriptors_reach_criu() {
    let (given, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let (kept, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let done = answer(&response(Criu_req_type::RESTORE, true));
    let (directory, criu) = played_by(&format!("{TAKE_REQUEST}ls /proc/$$/fd > ${{0%/*}}/fds\n{done}"));
    let mut message = response(Criu_req_type::RESTORE, true);
    message.restore = Some(rust_criu::rust_criu_protobuf::rpc::Criu_restore_resp::new()).into();
    let inherited = [Inherited { key: "extRootNetNS", fd: given.as_fd() }];
    criu.restore(options(), &inherited, Path::new("/none"), QUERY_LIMIT, &mut |_| Ok(())).unwrap();
    let fds = std::fs::read_to_string(directory.path().join("fds")).unwrap();
    let open = |fd: RawFd| fds.lines().any(|line| line == fd.to_string());
    assert!(open(given.as_raw_fd()), "{fds}");
    assert!(!open(kept.as_raw_fd()), "{fds}");
}
