//! The memory of processes that stand still, read page by page while it follows them to another host.

use super::mend::processes_of;
use crate::process::Identity;
use nix::libc;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Why memory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// There is no such process.
    #[error("there is no process {process} in the container")]
    NoProcess { process: i32 },
    /// It has no such memory, or is gone.
    #[error("the memory of process {process} at {address:#x} cannot be read")]
    Read {
        process: i32,
        address: u64,
        #[source]
        source: io::Error,
    },
}

/// The memory of a frozen container's processes, by their pids in it.
#[derive(Debug)]
pub struct FrozenMemory(HashMap<i32, File>);

impl FrozenMemory {
    /// Opens the memory of every process in the pid namespace of `init`, which must stand still until this is dropped.
    pub fn of(init: &Identity) -> io::Result<Self> {
        if !init.is_alive() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its processes have ended"));
        }
        let mut memories = HashMap::new();
        for pid in processes_of(init.pid) {
            let Some(inner) = inner_pid(pid) else { continue };
            match File::open(format!("/proc/{pid}/mem")) {
                Ok(memory) => drop(memories.insert(inner, memory)),
                // It has ended by now.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(memories))
    }

    /// Appends what is at these addresses of a process.
    pub fn read(&self, process: i32, ranges: &[Range<u64>], into: &mut Vec<u8>) -> Result<(), MemoryError> {
        let memory = self.0.get(&process).ok_or(MemoryError::NoProcess { process })?;
        for range in ranges {
            let failed = |source| MemoryError::Read { process, address: range.start, source };
            let length = usize::try_from(range.end - range.start).map_err(|error| failed(io::Error::other(error)))?;
            let begun = into.len();
            into.resize(begun + length, 0);
            // A process that has ended reads as the end of a file.
            memory.read_exact_at(&mut into[begun..], range.start).map_err(failed)?;
        }
        Ok(())
    }
}

/// The pid in the innermost namespace; none where it has ended by now.
fn inner_pid(pid: u32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    #[test]
    fn memory_is_read_where_it_is_and_nowhere_else() {
        let own = Identity::of(std::process::id().cast_signed()).unwrap();
        let pid = inner_pid(std::process::id()).unwrap();
        let memory = FrozenMemory::of(&own).unwrap();
        let text = *b"here it is";
        let at = text.as_ptr() as u64;
        let mut read = vec![1];
        memory.read(pid, &[at..at + 4, at + 5..at + 7], &mut read).unwrap();
        assert_eq!(read, b"\x01hereit");
        assert!(matches!(memory.read(pid, from_ref(&(0..1)), &mut read), Err(MemoryError::Read { .. })));
        assert!(matches!(memory.read(-1, from_ref(&(0..1)), &mut read), Err(MemoryError::NoProcess { .. })));
    }
}
