//! The memory of a container's processes, read while they run.
//!
//! What a dump would store of it: pages of the processes' own, and those of shared memory that has no file. Pages of files
//! are not, nor pages that were never touched. What changes while it is read is read again by whoever dumps: nothing that
//! is decided here can be wrong, only of no use.

use super::mend::processes_of;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A page of memory, in bytes.
pub const PAGE: usize = 4096;

/// What is read at once, in bytes: with one piece of `/proc/PID/pagemap` and one call for all pages.
pub const SPAN: usize = 1 << 20;

/// Longer mappings are reserved and hardly used, as by sanitizers; looking through one would take longer than it is worth.
const LONGEST: u64 = 64 << 30;

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const OF_FILE_OR_SHARED: u64 = 1 << 61;

/// The memory of all processes of a container, span by span.
#[derive(Debug)]
pub struct Spans {
    processes: Vec<i32>,
    /// Shared memory that was read already, by another process.
    seen: HashSet<(u64, u64)>,
    pagemap: Option<Arc<File>>,
    mappings: Vec<Mapping>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    pid: i32,
    start: u64,
    end: u64,
    /// The inode and the offset in it, of shared memory.
    shared: Option<(u64, u64)>,
}

/// A part of a process' memory.
#[derive(Debug, Clone)]
pub struct Span {
    pid: i32,
    start: u64,
    length: usize,
    is_shared: bool,
    pagemap: Arc<File>,
}

/// Bytes of memory that processes have for themselves or share without a file, about: what a dump would store.
pub fn resident_bytes(inits: &[i32]) -> u64 {
    let processes: BTreeSet<u32> = inits.iter().flat_map(|init| processes_of(*init)).collect();
    let of = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |status| kibibytes(&status));
    processes.iter().map(of).sum::<u64>() << 10
}

/// `RssAnon` and `RssShmem` of `/proc/PID/status` (proc_pid_status(5)), in KiB.
fn kibibytes(status: &str) -> u64 {
    let named = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    named("RssAnon:") + named("RssShmem:")
}

impl Spans {
    /// The memory of the processes in the pid namespace of each `init`.
    pub fn of(inits: &[i32]) -> Self {
        let processes: BTreeSet<i32> =
            inits.iter().flat_map(|init| processes_of(*init)).filter_map(|pid| pid.try_into().ok()).collect();
        Self {
            processes: processes.into_iter().rev().collect(),
            seen: HashSet::new(),
            pagemap: None,
            mappings: Vec::new(),
        }
    }

    /// Goes on to the next process that there still is.
    fn next_process(&mut self) -> Option<()> {
        loop {
            let pid = self.processes.pop()?;
            let (Ok(maps), Ok(pagemap)) =
                (std::fs::read_to_string(format!("/proc/{pid}/maps")), File::open(format!("/proc/{pid}/pagemap")))
            else {
                continue;
            };
            let mut mappings: Vec<Mapping> = maps.lines().filter_map(|line| mapping(pid, line)).collect();
            mappings.retain(|mapping| mapping.shared.is_none_or(|shared| self.seen.insert(shared)));
            // From the lowest address on, as a dump goes: what is dumped in a row then lies in a row where it was sent.
            mappings.reverse();
            (self.mappings, self.pagemap) = (mappings, Some(Arc::new(pagemap)));
            return Some(());
        }
    }
}

impl Iterator for Spans {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        loop {
            if let (Some(mapping), Some(pagemap)) = (self.mappings.last_mut(), &self.pagemap) {
                let length = (mapping.end - mapping.start).min(SPAN as u64) as usize;
                let (pid, start, is_shared) = (mapping.pid, mapping.start, mapping.shared.is_some());
                mapping.start += length as u64;
                let pagemap = Arc::clone(pagemap);
                if mapping.start == mapping.end {
                    self.mappings.pop();
                }
                return Some(Span { pid, start, length, is_shared, pagemap });
            }
            self.next_process()?;
        }
    }
}

/// What a line of `/proc/PID/maps` (proc_pid_maps(5)) maps, where a dump would store any of it.
fn mapping(pid: i32, line: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let (inode, name) = (fields.nth(1)?, fields.next().unwrap_or_default());
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end, offset, inode) = (hex(start)?, hex(end)?, hex(offset)?, inode.parse().ok()?);
    let is_nameless = ["/dev/zero", "/memfd:", "/SYSV"].iter().any(|begin| name.starts_with(begin));
    let shared = match permissions.ends_with('s') {
        true if is_nameless => Some((inode, offset)),
        true => return None,
        false => None,
    };
    let is_of_kernel = ["[vvar", "[vdso", "[vsyscall"].iter().any(|begin| name.starts_with(begin));
    let is_wanted = permissions.starts_with('r') && !is_of_kernel && end > start && end - start <= LONGEST;
    is_wanted.then_some(Mapping { pid, start, end, shared })
}

impl Span {
    /// Reads its pages one behind the other into `pages`, which is emptied first. Pages that went meanwhile are left out.
    pub fn read(&self, pages: &mut Vec<u8>) {
        pages.clear();
        let runs = self.runs();
        let wanted: usize = runs.iter().map(|run| run.len).sum();
        if wanted == 0 {
            return;
        }
        pages.resize(wanted, 0);
        // It ends early at a page that is not there any more; what comes behind that is left out.
        let read = process_vm_readv(Pid::from_raw(self.pid), &mut [IoSliceMut::new(pages)], &runs).unwrap_or(0);
        pages.truncate(read / PAGE * PAGE);
    }

    /// Runs of pages that are in memory. Those that are swapped out stay so: a dump will read them once.
    fn runs(&self) -> Vec<RemoteIoVec> {
        let mut entries = vec![0; self.length / PAGE * 8];
        if self.pagemap.read_exact_at(&mut entries, self.start / PAGE as u64 * 8).is_err() {
            return Vec::new();
        }
        let mut runs: Vec<RemoteIoVec> = Vec::new();
        for (number, entry) in entries.chunks_exact(8).enumerate() {
            let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
            let is_own = entry & OF_FILE_OR_SHARED == 0;
            if entry & PRESENT == 0 || is_own == self.is_shared {
                continue;
            }
            let base = self.start as usize + number * PAGE;
            match runs.last_mut().filter(|run| run.base + run.len == base) {
                Some(run) => run.len += PAGE,
                None => runs.push(RemoteIoVec { base, len: PAGE }),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn memory_is_counted_without_that_of_files() {
        assert_eq!(kibibytes("VmRSS:\t  9 kB\nRssAnon:\t  4 kB\nRssFile:\t 3 kB\nRssShmem:\t 2 kB\n"), 6);
        assert_eq!(kibibytes("Name:\tkthreadd\n"), 0);
    }

    #[test]
    fn what_a_dump_would_store_is_looked_at_and_nothing_else() {
        let is_looked_at = |line| mapping(1, line).is_some();
        assert!(is_looked_at("5600-5800 rw-p 00000000 00:00 0 [heap]"));
        assert!(is_looked_at("5600-5800 r--p 00000000 fe:00 77 /bin/program"));
        assert!(is_looked_at("5600-5800 rw-s 00000000 00:01 9 /dev/zero (deleted)"));
        assert!(!is_looked_at("5600-5800 rw-s 00000000 fe:00 77 /data/db"));
        assert!(!is_looked_at("5600-5800 ---p 00000000 00:00 0"));
        assert!(!is_looked_at("5600-5800 r--p 00000000 00:00 0 [vvar]"));
        assert!(!is_looked_at("10000000000-20000000000 rw-p 00000000 00:00 0"));
        let shared = mapping(1, "5600-5800 rw-s 00001000 00:01 9 /memfd:ball (deleted)").unwrap();
        assert_eq!((shared.start, shared.end, shared.shared), (0x5600, 0x5800, Some((9, 0x1000))));
    }

    #[test]
    fn the_memory_of_a_process_that_runs_is_read() {
        let marked = "a word that is in the memory of that process and in no file";
        let script = "read go; word=\"$1 $go\"; echo ready; read end";
        let mut shell = Command::new("sh")
            .args(["-c", script, "-", marked])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"put together there\n").unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let spans = Spans { processes: vec![pid], seen: HashSet::new(), pagemap: None, mappings: Vec::new() };
        let (mut pages, mut found) = (Vec::new(), false);
        let wanted = format!("{marked} put together there");
        for span in spans {
            span.read(&mut pages);
            assert_eq!(pages.len() % PAGE, 0);
            found |= pages.windows(wanted.len()).any(|window| window == wanted.as_bytes());
        }
        drop(input);
        shell.wait().unwrap();
        assert!(found);
    }
}
