use super::*;
use std::os::fd::AsRawFd;

#[test]
fn a_status_is_read_from_the_innermost_namespace() {
    let text = "Name:\tmy app\nState:\tD (disk sleep)\nPPid:\t9\nTracerPid:\t4\nNSpid:\t900\t7\nNSsid:\t900\t0\n\
                RssAnon:\t      12 kB\nRssShmem:\t       4 kB\nVmSwap:\t       8 kB\nThreads:\t3\n";
    let facts = parse_status(900, text);
    assert_eq!((facts.name.as_str(), facts.state, facts.tracer), ("my app", 'D', 4));
    assert_eq!((facts.inner_pid, facts.inner_session, facts.parent), (7, 0, 9));
    assert_eq!((facts.anonymous, facts.shared, facts.swapped, facts.threads), (12288, 4096, 8192, 3));
}

#[test]
fn watches_are_read() {
    let text = "pos:\t0\ninotify wd:1 ino:9ac002 sdev:fe00000 mask:fff ignored_mask:0 fhandle-bytes:8 \
                fhandle-type:1 f_handle:02c0\ninotify wd:2 ino:7 sdev:41 mask:2 ignored_mask:0 fhandle-bytes:24 \
                fhandle-type:f8 f_handle:00\nfanotify flags:10 event-flags:0\n\
                fanotify ino:f sdev:41 mflags:0 mask:1 ignored_mask:0 fhandle-bytes:c fhandle-type:f8 f_handle:0\n";
    let watches = parse_watches(text);
    assert_eq!(watches.len(), 3);
    assert_eq!(watches[0], Watch { device: (254, 0), inode: 0x9ac002, handle_type: 1 });
    assert_eq!(watches[1], Watch { device: (0, 0x41), inode: 7, handle_type: 0xf8 });
    assert_eq!(watches[2].inode, 0xf);
}

#[test]
fn our_own_files_are_classified() {
    let mut deleted = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut deleted, &[7; 10_000]).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let facts = facts(std::process::id() as i32).unwrap().unwrap();
    let kind = |fd: i32| &facts.files.iter().find(|file| file.fd == fd).unwrap().kind;
    assert!(matches!(kind(deleted.as_raw_fd()), FileKind::Deleted(file) if file.bytes >= 8192));
    assert!(matches!(kind(null.as_raw_fd()), FileKind::Device { major: 1, minor: 3, block: false, .. }));
    assert!(matches!(kind(socket.as_raw_fd()), FileKind::Socket { protocol, .. } if protocol == "UDP"));
    assert!(facts.namespaces.contains_key("net") && facts.anonymous > 0 && !facts.command.is_empty());
}

#[test]
fn a_process_that_is_gone_is_nobody() {
    // Pid numbers end before this one.
    assert_eq!(facts(i32::MAX).unwrap(), None);
}

#[test]
fn links_are_understood() {
    let kind = |link: &str| classify(1, 0, Path::new("/nonexistent"), link);
    assert_eq!(kind("pipe:[12]"), None);
    assert_eq!(kind("net:[4026531840]"), None);
    assert_eq!(kind("/memfd:x (deleted)"), None);
    assert_eq!(kind("anon_inode:[io_uring]"), Some(FileKind::Anonymous { name: "io_uring".to_owned() }));
    assert_eq!(kind("pidfd:[77]"), Some(FileKind::Anonymous { name: "pidfd".to_owned() }));
    assert_eq!(kind("/dmabuf:"), Some(FileKind::Anonymous { name: "dmabuf".to_owned() }));
    assert!(matches!(kind("what is this"), Some(FileKind::Unknown { .. })));
}
