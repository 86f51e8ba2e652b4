//! What connections between hosts have in common.

use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::TcpStream;

/// What a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a peer may be silent before it is asked whether it is there, how often it is asked, and how many times.
const IDLE_SECONDS: u32 = 15;
const INTERVAL_SECONDS: u32 = 5;
const PROBES: u32 = 4;

/// What was sent is acknowledged within this time, or the peer is gone. As long as the probes take.
const UNACKNOWLEDGED_MS: u32 = (IDLE_SECONDS + INTERVAL_SECONDS * PROBES) * 1000;

/// What is taken from the kernel at once: TLS by itself asks for 4 KiB each time.
const TAKEN_AT_ONCE: usize = 128 << 10;

/// A connection, to speak TLS on.
pub type Wire = BufReader<TcpStream>;

/// Sends small messages at once, and notices when the other host is gone: an answer may take as long as an operation, so
/// silence alone says nothing.
pub fn prepared(stream: TcpStream) -> io::Result<Wire> {
    stream.set_nodelay(true)?;
    setsockopt(&stream, sockopt::KeepAlive, &true)?;
    setsockopt(&stream, sockopt::TcpKeepIdle, &IDLE_SECONDS)?;
    setsockopt(&stream, sockopt::TcpKeepInterval, &INTERVAL_SECONDS)?;
    setsockopt(&stream, sockopt::TcpKeepCount, &PROBES)?;
    setsockopt(&stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS)?;
    Ok(BufReader::with_capacity(TAKEN_AT_ONCE, stream))
}
