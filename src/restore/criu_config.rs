//! CRIU's options for a restore that `runc restore` has no words for.

use std::io;
use std::path::Path;

/// What becomes of connections that were open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// They live on: the container is the one that had them.
    Kept,
    /// They are closed: the container is another one, with another address.
    Closed,
}

/// Writes the configuration file.
///
/// `leave-stopped` keeps every task stopped after `runc restore`, until its network is in place (I6).
pub fn write(path: &Path, connections: Connections) -> io::Result<()> {
    let close = match connections {
        Connections::Kept => "",
        Connections::Closed => "tcp-close\n",
    };
    std::fs::write(path, format!("leave-stopped\nghost-limit 1073741824\n{close}"))
}

/// Options for `runc restore` itself. Memory that follows is asked of the pager.
pub fn runc_options(connections: Connections, memory_follows: bool) -> Vec<String> {
    let mut options = vec!["--file-locks".to_owned()];
    if memory_follows {
        options.push("--lazy-pages".to_owned());
    }
    if connections == Connections::Kept {
        options.push("--tcp-established".to_owned());
    }
    options
}
