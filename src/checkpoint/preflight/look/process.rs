//! One process, as /proc shows it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::maps;
use super::stat::{socket_protocol, status};
use crate::checkpoint::preflight::facts::{DeletedFile, DeviceNumber, FileKind, OpenFile, ProcessFacts, Watch};

/// Most bytes read of any text file in /proc.
const MAX_TEXT: u64 = 64 * 1024 * 1024;
/// Arguments kept of a command line.
const MAX_ARGUMENTS: usize = 64;

/// What can be seen of `pid`; `None` when it is gone or goes meanwhile.
pub(super) fn facts(pid: i32) -> io::Result<Option<ProcessFacts>> {
    match look(pid) {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if has_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

fn look(pid: i32) -> io::Result<ProcessFacts> {
    let mut facts = parse_status(pid, &read_text(&format!("/proc/{pid}/status"))?);
    let command = fs::read(format!("/proc/{pid}/cmdline"))?;
    facts.command = command
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .take(MAX_ARGUMENTS)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    facts.terminal_taken = terminal_taken(&read_text(&format!("/proc/{pid}/stat"))?);
    if facts.state != 'Z' {
        facts.namespaces = namespaces(pid)?;
        facts.files = files(pid)?;
        facts.maps = maps::facts(pid, &read_text(&format!("/proc/{pid}/maps"))?);
    }
    Ok(facts)
}

/// A text file of /proc. Its bytes are the kernel's, so odd ones are replaced rather than refused.
pub(super) fn read_text(path: &str) -> io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse_status(pid: i32, text: &str) -> ProcessFacts {
    let field = |key: &str| {
        let line = text.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
        line.map_or("", |line| line[key.len() + 1..].trim())
    };
    let number = |key: &str| field(key).split_whitespace().next().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
    let innermost = |key: &str| field(key).split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0);
    let bytes = |key: &str| number(key).unsigned_abs() * 1024;
    ProcessFacts {
        pid,
        parent: number("PPid") as i32,
        inner_pid: innermost("NSpid"),
        inner_session: innermost("NSsid"),
        name: field("Name").to_owned(),
        state: field("State").chars().next().unwrap_or('?'),
        threads: number("Threads") as u32,
        tracer: number("TracerPid") as i32,
        anonymous: bytes("RssAnon"),
        shared: bytes("RssShmem"),
        swapped: bytes("VmSwap"),
        ..ProcessFacts::default()
    }
}

/// From `/proc/PID/stat` (proc_pid_stat(5)): the session is its sixth field, the terminal's foreground group its eighth.
fn terminal_taken(stat: &str) -> bool {
    // The name in the second field may hold anything, closing brackets included.
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split_whitespace().skip(3);
    let mut number = || fields.next().and_then(|field| field.parse::<i32>().ok()).unwrap_or_default();
    let (session, _terminal, foreground) = (number(), number(), number());
    foreground > 0 && foreground != session
}

fn namespaces(pid: i32) -> io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/ns"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(inode) = namespace(&pid.to_string(), &name) {
            found.insert(name, inode);
        }
    }
    Ok(found)
}

/// The inode of one namespace of a process; `process` is a number or `self`.
pub(super) fn namespace(process: &str, name: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{process}/ns/{name}")).ok()?;
    inode_of(&link.to_string_lossy())
}

/// The number in `kind:[number]`.
fn inode_of(link: &str) -> Option<u64> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

fn files(pid: i32) -> io::Result<Vec<OpenFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let Some(fd) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Descriptors are closed while they are counted; that is nobody's fault.
        let Ok(link) = fs::read_link(&path) else {
            continue;
        };
        if let Some(kind) = classify(pid, fd, &path, &link.to_string_lossy()) {
            found.push(OpenFile { fd, kind });
        }
    }
    Ok(found)
}

/// What the descriptor is, where some rule cares.
fn classify(pid: i32, fd: i32, path: &Path, link: &str) -> Option<FileKind> {
    if let Some(name) = link.strip_prefix("anon_inode:") {
        let name = name.trim_start_matches('[').trim_end_matches(']');
        return Some(match name {
            "inotify" | "fanotify" => {
                let text = read_text(&format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
                FileKind::Watcher { fanotify: name == "fanotify", watches: parse_watches(&text) }
            }
            _ => FileKind::Anonymous { name: name.to_owned() },
        });
    }
    if link.starts_with("socket:[") {
        let protocol = socket_protocol(path).unwrap_or_default();
        return Some(FileKind::Socket { inode: inode_of(link)?, protocol });
    }
    if link.starts_with("pidfd:[") {
        return Some(FileKind::Anonymous { name: "pidfd".to_owned() });
    }
    if link.starts_with('/') || link.starts_with("(unreachable)") {
        return classify_path(path, link);
    }
    // Pipes and namespaces (`pipe:[1]`, `net:[1]`) are dumped like any file.
    if inode_of(link).is_some() { None } else { Some(FileKind::Unknown { link: link.to_owned() }) }
}

fn classify_path(path: &Path, link: &str) -> Option<FileKind> {
    let anonymous = |name: &str| Some(FileKind::Anonymous { name: name.to_owned() });
    if link.starts_with("/memfd:") || link.starts_with("/[aio]") {
        return None;
    }
    if link.starts_with("/dmabuf:") {
        return anonymous("dmabuf");
    }
    if link.starts_with("/secretmem") {
        return anonymous("secretmem");
    }
    let status = status(path).ok()?;
    if status.is(libc::S_IFCHR) || status.is(libc::S_IFBLK) {
        let (major, minor) = status.own_device;
        let block = status.is(libc::S_IFBLK);
        return Some(FileKind::Device { path: link.to_owned(), block, major, minor, on: status.device });
    }
    (status.is(libc::S_IFREG) && status.links == 0).then(|| {
        FileKind::Deleted(DeletedFile {
            path: link.trim_end_matches(" (deleted)").to_owned(),
            device: status.device,
            inode: status.inode,
            bytes: status.bytes,
        })
    })
}

/// The watches in the fdinfo of an inotify or fanotify descriptor.
fn parse_watches(text: &str) -> Vec<Watch> {
    let lines = text.lines().filter(|line| line.starts_with("inotify ") || line.starts_with("fanotify ino:"));
    lines
        .filter_map(|line| {
            let hexadecimal = |key: &str| {
                let word = line.split(' ').find_map(|word| word.strip_prefix(key))?;
                u64::from_str_radix(word, 16).ok()
            };
            Some(Watch {
                device: kernel_device(hexadecimal("sdev:")?),
                inode: hexadecimal("ino:")?,
                handle_type: hexadecimal("fhandle-type:").unwrap_or(0) as u32,
            })
        })
        .collect()
}

/// Major and minor as the kernel itself packs them: 20 bits of minor.
fn kernel_device(number: u64) -> DeviceNumber {
    ((number >> 20) as u32, (number & 0xf_ffff) as u32)
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
