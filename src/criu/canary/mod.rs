//! The canary: a small process of our own, dumped and restored by CRIU for real, before anything of the operator's
//! is touched.
//!
//! `criu check` proves little: a CRIU that passes it can still be unable to dump a TCP socket on the kernel it runs
//! on. So the canary has a little of everything that containers have, and goes the same way as they do:
//!
//! ```text
//!   run                                         the canary, first of its own pid namespace
//!    | new network namespace, lo up, listener     |
//!    | clone + exec -----------------------------> takes the listener
//!    | seed over TCP ----------------------------> memory, pipe, timer, thread, child, file lock,
//!    |                                            | a TCP connection with bytes on their way
//!    | close <----------------------------------- | ready
//!    | criu DUMP (the network left empty, as for a container)  X
//!    | criu RESTORE; at setup-namespaces: lo up   |
//!    | connect to the restored listener --------> | tells all it has, byte by byte
//!    | compare, SIGKILL -----------------------> X
//! ```
//!
//! Nothing of it is left afterwards, well or not: the processes are ended by pidfd and waited for, the namespaces go
//! with them, the files lie in a directory that is removed. Should *we* be killed on the way, the canary sees its
//! connection end, or nobody ever connects to it and its own alarm ends it.

mod body;
mod error;
mod hatch;
mod life;
mod state;

pub use body::canary_main;
pub use error::CanaryError;
pub use life::{CanaryReport, run, run_with};
