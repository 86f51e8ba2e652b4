//! How far the pager is, for whoever wants to know: lines of JSON on a socket.

use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How often it is told, at most.
const PACE: Duration = Duration::from_millis(100);

/// How far it is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Bytes that were to come.
    pub total: u64,
    /// Bytes that are still to come.
    pub left: u64,
    /// Whether nothing is missing any more.
    pub is_all: bool,
    /// Why nothing comes, where nothing does.
    pub problem: Option<String>,
}

/// Who wants to know.
#[derive(Debug)]
pub struct Tell {
    listener: UnixListener,
    heard_by: Vec<UnixStream>,
    told: Option<(Instant, Told)>,
}

impl Tell {
    /// Tells whoever calls.
    pub fn at(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, heard_by: Vec::new(), told: None })
    }

    /// Tells what is new, to those who call now as well.
    pub fn tell(&mut self, told: &Told) {
        let mut new = Vec::new();
        while let Ok((stream, _)) = self.listener.accept() {
            new.extend(stream.set_nonblocking(true).is_ok().then_some(stream));
        }
        let is_due = match &self.told {
            None => true,
            Some((at, before)) => before != told && (told.is_all || at.elapsed() >= PACE),
        };
        let Ok(mut line) = serde_json::to_vec(told) else { return };
        line.push(b'\n');
        if is_due {
            self.told = Some((Instant::now(), told.clone()));
            // Who does not listen is not waited for.
            self.heard_by.retain(|stream| hear(stream, &line));
        }
        self.heard_by.extend(new.into_iter().filter(|stream| hear(stream, &line)));
    }
}

fn hear(mut stream: &UnixStream, line: &[u8]) -> bool {
    stream.write_all(line).is_ok()
}

impl AsFd for Tell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
