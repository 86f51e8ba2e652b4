//! What can go wrong with the canary.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::criu::error::CriuError;
use crate::criu::images::ImageError;
use crate::criu::log::LogExcerpt;

/// Why the canary did not live through it; each name tells how far it came.
#[derive(Debug, Error)]
pub enum CanaryError {
    #[error("cannot make the canary's directory in {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a network namespace for the canary")]
    Network {
        #[source]
        source: io::Error,
    },
    #[error("cannot start {} as the canary", program.display())]
    Hatch {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the canary does not answer before its dump")]
    Prepare {
        #[source]
        source: io::Error,
    },
    #[error("the canary could not gather what it is to carry: {said}")]
    Gather { said: String },
    #[error("CRIU is not usable")]
    Criu {
        #[source]
        source: CriuError,
    },
    #[error("the canary cannot be dumped on this host")]
    Dump {
        #[source]
        source: CriuError,
    },
    #[error("the canary cannot be restored on this host")]
    Restore {
        #[source]
        source: CriuError,
    },
    #[error("CRIU left no statistics of the canary")]
    Statistics {
        #[source]
        source: ImageError,
    },
    #[error("the canary was restored, yet does not answer")]
    Silent {
        #[source]
        source: io::Error,
    },
    #[error("the canary was restored, yet {what}")]
    Changed { what: String },
    #[error("the canary's directory {} cannot be removed", path.display())]
    CleanUp {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl CanaryError {
    /// The telling lines of CRIU's log, where CRIU failed.
    pub fn log(&self) -> Option<&LogExcerpt> {
        match self {
            Self::Criu { source } | Self::Dump { source } | Self::Restore { source } => source.log(),
            _ => None,
        }
    }
}
