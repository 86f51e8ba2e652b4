//! Talking with the helper at a claim's gate: one line of JSON each way.
//!
//! A claim says that a container's next `create` restores a checkpoint. Whether the checkpoint is whole, where
//! its images lie and when the container may run is the helper's to say; the interposer asks at the socket that
//! the claim names. Without an answer nothing is restored and nothing is started.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where the helper listens for claims and dumps of its own.
pub const SOCKET: &str = "/run/transship/gate.sock";

/// An answer is a few paths and addresses; a longer one is not ours.
const LONGEST_LINE: u64 = 1 << 20;

/// What the interposer asks or tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Its dump is complete and its processes stand still: does the dump count?
    Dumped { container: String },
    /// May this container be restored now, and from where?
    Create {
        container: String,
        checkpoint: String,
        /// BLAKE3 of the checkpoint's manifest as the claim has it.
        manifest: String,
    },
    /// It is restored and stopped; its first process has this pid.
    Restored { container: String, pid: i32 },
    /// It could not be restored.
    Failed { container: String, reason: String },
    /// Docker has set up the network and wants it to run.
    Start { container: String },
}

/// What the helper answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Restore it like this.
    Restore(Images),
    /// Let the real runc create it; it asks again before it is started.
    Create,
    /// Noted.
    Done,
    /// Its network is in place and its hold is lifted: continue its processes.
    Go {
        /// Pids, in the container's namespace, of processes that were stopped when it was frozen.
        stay_stopped: Vec<i32>,
    },
    /// Docker may take it as started; the helper continues it when the rest of its group is there.
    Later,
    /// It must not be.
    Refused { reason: String },
}

/// What `runc restore` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Images {
    /// Directory of verified CRIU images.
    pub images: PathBuf,
    /// Directory for CRIU's log and statistics.
    pub work: PathBuf,
    /// CRIU configuration file for this restore.
    pub criu_config: PathBuf,
    /// The container's addresses, for the time before dockerd has set up its interfaces.
    pub addresses: Vec<std::net::IpAddr>,
    /// Further options for `runc restore`.
    pub options: Vec<String>,
}

/// Asks one question and returns the answer.
pub fn ask(gate: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(gate)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    read_line(&stream)
}

/// Reads one line of JSON, bounded.
pub fn read_line<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> io::Result<T> {
    use std::io::Read;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side hung up"));
    }
    Ok(serde_json::from_str(&line)?)
}
