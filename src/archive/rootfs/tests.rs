use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::archive::ArchiveError;
use crate::archive::tar::{Kind, Meta, TarWriter};

/// One change to a tree. Names come from a small pool, so that changes meet.
#[derive(Debug, Clone)]
enum Change {
    File(usize, Vec<u8>),
    Append(usize, Vec<u8>),
    Sparse(usize, u32),
    Directory(usize),
    Symlink(usize, String),
    HardLink(usize, usize),
    Fifo(usize),
    Whiteout(usize),
    Device(usize, u32, u32),
    Remove(usize),
    Rename(usize, usize),
    Mode(usize, u32),
    Owner(usize, u32, u32),
    Xattr(usize, usize, Vec<u8>),
    Time(usize, i32, u32),
}

const NAMES: [&[u8]; 10] = [
    b"a",
    b"b",
    b"dir",
    b"dir/a",
    b"dir/b",
    b"dir/sub",
    b"dir/sub/a",
    b"other",
    b"other/\xff\n\"",
    b"a.txt",
];
const XATTRS: [&str; 4] = [
    "user.comment",
    "user.a=b%",
    "trusted.overlay.opaque",
    "security.test",
];

fn changes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Change>> {
    let at = || 0..NAMES.len();
    let bytes = || vec(any::<u8>(), 0..3000);
    let change = prop_oneof![
        4 => (at(), bytes()).prop_map(|(p, b)| Change::File(p, b)),
        2 => (at(), bytes()).prop_map(|(p, b)| Change::Append(p, b)),
        1 => (at(), 0u32..4_000_000).prop_map(|(p, o)| Change::Sparse(p, o)),
        5 => at().prop_map(Change::Directory),
        2 => (at(), "[a-z/.]{1,150}").prop_map(|(p, t)| Change::Symlink(p, t)),
        2 => (at(), at()).prop_map(|(a, b)| Change::HardLink(a, b)),
        1 => at().prop_map(Change::Fifo),
        2 => at().prop_map(Change::Whiteout),
        1 => (at(), 0u32..4096, 0u32..1 << 20).prop_map(|(p, a, b)| Change::Device(p, a, b)),
        3 => at().prop_map(Change::Remove),
        2 => (at(), at()).prop_map(|(a, b)| Change::Rename(a, b)),
        2 => (at(), 0u32..0o10000).prop_map(|(p, m)| Change::Mode(p, m)),
        2 => (at(), 0..u32::MAX, 0..u32::MAX).prop_map(|(p, u, g)| Change::Owner(p, u, g)),
        3 => (at(), 0..XATTRS.len(), vec(any::<u8>(), 0..40)).prop_map(|(p, n, v)| Change::Xattr(p, n, v)),
        1 => (at(), any::<i32>(), 0u32..1_000_000_000).prop_map(|(p, s, n)| Change::Time(p, s, n)),
    ];
    vec(change, count)
}

fn place(root: &Path, index: usize) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(NAMES[index]))
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

/// Does what can be done; a change that does not fit the tree is passed over.
fn mutate(root: &Path, change: &Change) {
    let at = |index: &usize| place(root, *index);
    let is_link = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|metadata| metadata.is_symlink())
    };
    match change {
        Change::File(p, bytes) => {
            remove(&at(p));
            let _ = fs::write(at(p), bytes);
        }
        Change::Append(p, bytes) if at(p).symlink_metadata().is_ok_and(|m| m.is_file()) => {
            let old = fs::read(at(p)).unwrap();
            fs::write(at(p), [old.as_slice(), bytes].concat()).unwrap();
        }
        Change::Sparse(p, offset) => {
            remove(&at(p));
            if let Ok(file) = fs::File::create(at(p)) {
                file.write_all_at(b"data", u64::from(*offset)).unwrap();
                file.set_len(u64::from(*offset) + 100_000).unwrap();
            }
        }
        Change::Directory(p) => _ = fs::create_dir(at(p)),
        Change::Symlink(p, target) => {
            remove(&at(p));
            let _ = symlink(target, at(p));
        }
        Change::HardLink(a, b) if a != b => {
            let _ = fs::remove_file(at(b));
            let _ = fs::hard_link(at(a), at(b));
        }
        Change::Fifo(p) => _ = nix::unistd::mkfifo(&at(p), Mode::S_IRWXU),
        Change::Whiteout(p) => {
            remove(&at(p));
            let _ = mknod(&at(p), SFlag::S_IFCHR, Mode::empty(), 0);
        }
        Change::Device(p, major, minor) => {
            let _ = mknod(
                &at(p),
                SFlag::S_IFBLK,
                Mode::S_IRUSR,
                makedev((*major).into(), (*minor).into()),
            );
        }
        Change::Remove(p) => remove(&at(p)),
        Change::Rename(a, b) => _ = fs::rename(at(a), at(b)),
        Change::Mode(p, mode) if !is_link(&at(p)) => {
            let _ = fs::set_permissions(at(p), fs::Permissions::from_mode(*mode));
        }
        Change::Owner(p, uid, gid) => _ = std::os::unix::fs::lchown(at(p), Some(*uid), Some(*gid)),
        Change::Xattr(p, name, value) => _ = xattr::set(at(p), XATTRS[*name], value),
        Change::Time(p, seconds, nanoseconds) => {
            let time = TimeSpec::new((*seconds).into(), (*nanoseconds).into());
            let cwd = nix::fcntl::AT_FDCWD;
            let _ = utimensat(cwd, &at(p), &time, &time, UtimensatFlags::NoFollowSymlink);
        }
        _ => {}
    }
}

/// Everything about a path that is to survive.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    rdev: u64,
    contents: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// All names of the same file.
    names: Vec<PathBuf>,
}

fn paths(root: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    found.push(below.to_owned());
    let path = root.join(below);
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            paths(root, &below.join(entry.unwrap().file_name()), found);
        }
    }
}

fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = Vec::new();
    paths(root, Path::new(""), &mut found);
    found.sort();
    let inode = |path: &Path| root.join(path).symlink_metadata().unwrap().ino();
    let seen = |below: &PathBuf| {
        let path = root.join(below);
        let metadata = path.symlink_metadata().unwrap();
        let contents = match () {
            () if metadata.is_file() => fs::read(&path).unwrap(),
            () if metadata.is_symlink() => fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            () => Vec::new(),
        };
        let xattrs = xattr::list(&path).unwrap();
        let xattrs = xattrs
            .map(|n| {
                (
                    n.as_bytes().to_vec(),
                    xattr::get(&path, &n).unwrap().unwrap(),
                )
            })
            .collect();
        Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            rdev: metadata.rdev(),
            contents,
            xattrs,
            names: found
                .iter()
                .filter(|other| inode(other) == metadata.ino())
                .cloned()
                .collect(),
        }
    };
    found
        .iter()
        .map(|below| (below.clone(), seen(below)))
        .collect()
}

fn tree(changes: &[Change]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let upper = dir.path().join("upper");
    fs::create_dir(&upper).unwrap();
    changes.iter().for_each(|change| mutate(&upper, change));
    (dir, upper)
}

fn applied(
    dir: &Path,
    base: &[u8],
    delta: Option<&[u8]>,
) -> Result<BTreeMap<PathBuf, Seen>, ArchiveError> {
    let dest = dir.join("dest");
    fs::create_dir(&dest).unwrap();
    apply(base, delta, &dest)?;
    Ok(look(&dest))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_tree_at_rest_survives(before in changes(0..40)) {
        let (dir, upper) = tree(&before);
        let (base, snapshot, report) = capture(&upper, Vec::new()).unwrap();
        let seen = look(&upper);
        prop_assert_eq!(snapshot.len(), seen.len());
        prop_assert_eq!(report.members as usize, seen.len());
        prop_assert_eq!(applied(dir.path(), &base, None).unwrap(), seen);
    }

    #[test]
    fn damaged_tars_never_panic_nor_write_elsewhere(
        before in changes(5..30), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(),
    ) {
        let (dir, upper) = tree(&before);
        let (mut base, _, _) = capture(&upper, Vec::new()).unwrap();
        base.truncate(base.len().min(cut.index(base.len()).max(1024)));
        let at = at.index(base.len());
        base[at] ^= 1 << bit;
        let _ = applied(dir.path(), &base, None);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

proptest! {
    // Fewer, since each waits.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn base_and_delta_make_the_final_tree(before in changes(0..40), after in changes(0..15)) {
        let (dir, upper) = tree(&before);
        settle();
        let (base, snapshot, _) = capture(&upper, Vec::new()).unwrap();
        after.iter().for_each(|change| mutate(&upper, change));
        let (delta, _) = capture_delta(&upper, Vec::new(), &snapshot, &HashSet::new()).unwrap();
        prop_assert_eq!(applied(dir.path(), &base, Some(&delta)).unwrap(), look(&upper));
    }
}

/// Lets the kernel's tick pass, so that what was made before is settled.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(80));
}

#[test]
fn a_delta_holds_what_changed_and_nothing_else() {
    let (_dir, upper) = tree(&[]);
    fs::create_dir(upper.join("kept")).unwrap();
    for name in ["kept/same", "written", "linked", "gone", "moved"] {
        fs::write(upper.join(name), name).unwrap();
    }
    fs::hard_link(upper.join("linked"), upper.join("kept/link")).unwrap();
    settle();
    let (_, snapshot, report) = capture(&upper, Vec::new()).unwrap();
    assert_eq!((report.members, report.unsettled), (8, 0));
    let (_, quiet) = capture_delta(&upper, Vec::new(), &snapshot, &HashSet::new()).unwrap();
    assert_eq!((quiet.members, quiet.deleted, quiet.bytes), (0, 0, 0));

    fs::write(upper.join("written"), "again").unwrap();
    fs::remove_file(upper.join("gone")).unwrap();
    fs::rename(upper.join("moved"), upper.join("there")).unwrap();
    xattr::set(upper.join("kept/link"), "user.x", b"y").unwrap();
    let (_, delta) = capture_delta(&upper, Vec::new(), &snapshot, &HashSet::new()).unwrap();
    // The root, `written`, `there`, and both names of the linked file.
    assert_eq!((delta.members, delta.deleted), (5, 2));
}

#[test]
fn files_mapped_shared_are_stored_whatever_their_times_say() {
    let (_dir, upper) = tree(&[]);
    fs::write(upper.join("mapped"), "x").unwrap();
    settle();
    let (_, snapshot, _) = capture(&upper, Vec::new()).unwrap();
    let metadata = upper.join("mapped").metadata().unwrap();
    let always = HashSet::from([(metadata.dev(), metadata.ino())]);
    assert_eq!(
        capture_delta(&upper, Vec::new(), &snapshot, &always)
            .unwrap()
            .1
            .members,
        1
    );
}

#[test]
fn a_change_in_the_tick_of_its_capture_is_not_lost() {
    let (dir, upper) = tree(&[]);
    fs::write(upper.join("f"), "1").unwrap();
    let (base, snapshot, report) = capture(&upper, Vec::new()).unwrap();
    assert!(report.unsettled > 0);
    fs::write(upper.join("f"), "2").unwrap();
    let (delta, _) = capture_delta(&upper, Vec::new(), &snapshot, &HashSet::new()).unwrap();
    assert_eq!(
        applied(dir.path(), &base, Some(&delta)).unwrap(),
        look(&upper)
    );
}

#[test]
fn a_tree_that_changes_under_the_first_pass_does_not_fail_it() {
    let (dir, upper) = tree(&[]);
    let changes: Vec<Change> = {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        changes(3000..3001).new_tree(&mut runner).unwrap().current()
    };
    let (base, snapshot) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| changes.iter().for_each(|change| mutate(&upper, change)));
        let mut last = capture(&upper, Vec::new()).unwrap();
        while !writer.is_finished() {
            last = capture(&upper, Vec::new()).unwrap();
        }
        (last.0, last.1)
    });
    let (delta, _) = capture_delta(&upper, Vec::new(), &snapshot, &HashSet::new()).unwrap();
    assert_eq!(
        applied(dir.path(), &base, Some(&delta)).unwrap(),
        look(&upper)
    );
}

#[test]
fn sockets_are_left_out_and_named() {
    let (dir, upper) = tree(&[]);
    let _socket = std::os::unix::net::UnixListener::bind(upper.join("s")).unwrap();
    let (base, snapshot, report) = capture(&upper, Vec::new()).unwrap();
    assert_eq!(
        (report.sockets, report.socket_paths),
        (1, vec![PathBuf::from("s")])
    );
    assert_eq!(snapshot.len(), 1);
    assert_eq!(applied(dir.path(), &base, None).unwrap().len(), 1);
}

#[test]
fn holes_stay_holes_and_gnu_tar_reads_the_result() {
    let (dir, upper) = tree(&[]);
    let file = fs::File::create(upper.join("sparse")).unwrap();
    file.write_all_at(b"x", 1 << 30).unwrap();
    file.set_len(3 << 30).unwrap();
    let long = "n".repeat(200);
    fs::write(upper.join(&long), "long").unwrap();
    let (base, _, report) = capture(&upper, Vec::new()).unwrap();
    assert!(base.len() < 100_000 && report.bytes < 10_000);
    fs::create_dir(dir.path().join("dest")).unwrap();
    apply(base.as_slice(), None::<&[u8]>, &dir.path().join("dest")).unwrap();
    let found = dir.path().join("dest/sparse").metadata().unwrap();
    assert_eq!((found.len(), found.blocks() < 100), (3 << 30, true));
    fs::write(dir.path().join("base.tar"), &base).unwrap();
    let listed = Command::new("tar")
        .arg("-tvf")
        .arg(dir.path().join("base.tar"))
        .output()
        .unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.status.success() && text.contains(" 3221225472 ") && text.contains(&long),
        "{text}"
    );
}

fn archive(members: &[Meta]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    members.iter().for_each(|meta| tar.member(meta, 0).unwrap());
    tar.finish().unwrap()
}

#[test]
fn nothing_leads_out_of_the_destination() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let plain = Meta::plain_file;
    let link = |path: &str, to: &str| Meta {
        kind: Kind::Symlink,
        link: to.into(),
        ..plain(path)
    };
    let hard = |path: &str, to: &str| Meta {
        kind: Kind::HardLink,
        link: to.into(),
        ..plain(path)
    };
    let inside = link("out", target);
    fs::write(outside.path().join("f"), "").unwrap();
    for members in [
        vec![plain("../f")],
        vec![plain("/tmp/f")],
        vec![plain("a/../../f")],
        vec![plain("")],
        vec![plain(".")],
        vec![inside.clone(), plain("out/new")],
        vec![
            inside.clone(),
            Meta {
                kind: Kind::Directory,
                ..plain("out/new")
            },
        ],
        vec![inside.clone(), hard("h", "out/f")],
        vec![hard("h", "../f")],
        vec![hard("h", "/etc/passwd")],
        vec![plain("twice"), plain("twice")],
        vec![Meta {
            uid: u64::from(u32::MAX),
            ..plain("f")
        }],
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            applied(dir.path(), &archive(&members), None).is_err(),
            "{members:?}"
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_delta_deletes_nothing_outside_and_only_empty_directories() {
    use std::io::Write;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "").unwrap();
    let directory = |path: &str| Meta {
        kind: Kind::Directory,
        ..Meta::plain_file(path)
    };
    let link = Meta {
        kind: Kind::Symlink,
        link: outside.path().to_str().unwrap().into(),
        ..Meta::plain_file("out")
    };
    let base = archive(&[directory("d"), Meta::plain_file("d/f"), link]);
    for list in ["out/f\0", "../x\0", ".\0", "\0", "d\0", "missing\0", "d/f"] {
        let mut tar = TarWriter::new(Vec::new());
        tar.member(&Meta::plain_file(DELETED), list.len() as u64)
            .unwrap();
        tar.write_all(list.as_bytes()).unwrap();
        let delta = tar.finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert!(
            applied(dir.path(), &base, Some(&delta)).is_err(),
            "{list:?}"
        );
        assert!(outside.path().join("f").exists());
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(
        applied(dir.path(), &base, Some(&base)).is_err(),
        "took a base for a delta"
    );
}

#[test]
fn the_destination_has_to_be_empty() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), "").unwrap();
    assert!(matches!(
        Applier::new(dir.path()),
        Err(ArchiveError::NotEmpty { .. })
    ));
}
