//! Work inside another network namespace, without moving any thread but one made for it.

use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns};

/// Runs `work` on a thread that has entered the network namespace of `pid`.
pub(crate) fn in_netns<T: Send>(pid: i32, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    on_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Runs `work` on a thread of its own and waits for it; what it changes of itself ends with it.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
