//! What can go wrong with a request to CRIU.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use super::log::LogExcerpt;

/// Longest message taken from CRIU, in bytes. Real ones stay below 200.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// Why a request to CRIU did not succeed.
#[derive(Debug, Error)]
pub enum CriuError {
    /// No executable `criu` lies in `PATH`.
    #[error("no executable `criu` was found in PATH ({path})")]
    NotFound { path: String },
    /// CRIU's process could not be started.
    #[error("cannot start {} for {request}", program.display())]
    Start {
        program: PathBuf,
        request: &'static str,
        #[source]
        source: io::Error,
    },
    /// A file or directory named in the request could not be opened.
    #[error("cannot open {} for CRIU's {request}", path.display())]
    OpenDirectory {
        path: PathBuf,
        request: &'static str,
        #[source]
        source: io::Error,
    },
    /// The request lacks something, such as the options' `images_dir_fd`.
    #[error("the request {request} to CRIU is incomplete")]
    Encode {
        request: &'static str,
        #[source]
        source: protobuf::Error,
    },
    /// Speaking with CRIU's process failed.
    #[error("cannot talk with CRIU during {request}")]
    Talk {
        request: &'static str,
        #[source]
        source: io::Error,
    },
    /// CRIU closed the connection without an answer.
    #[error("CRIU ended during {request} without an answer ({status}){log}")]
    Died { request: &'static str, status: ExitStatus, log: LogExcerpt },
    /// CRIU took longer than it was given, and was killed.
    #[error("CRIU did not finish {request} within {limit:?} and was killed{log}")]
    TimedOut { request: &'static str, limit: Duration, log: LogExcerpt },
    /// CRIU's answer is longer than any it has to give.
    #[error("CRIU's answer to {request} is longer than {MAX_MESSAGE} bytes")]
    Oversized { request: &'static str },
    /// CRIU's answer is no message of its protocol.
    #[error("CRIU's answer to {request} cannot be decoded")]
    Decode {
        request: &'static str,
        #[source]
        source: protobuf::Error,
    },
    /// CRIU answered something else than was asked.
    #[error("CRIU answered {answer} to {request}")]
    WrongAnswer { request: &'static str, answer: String },
    /// CRIU did what it could and says that it failed.
    #[error("CRIU's {request} failed: {message} (errno {errno}){log}")]
    Failed { request: &'static str, message: String, errno: i32, log: LogExcerpt },
    /// The caller refused one of CRIU's stages, upon which CRIU gave up.
    #[error("{request} was given up at CRIU's stage {stage}")]
    Refused {
        request: &'static str,
        stage: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CriuError {
    /// What CRIU wrote in its log before this error, where it wrote one.
    pub fn log(&self) -> Option<&LogExcerpt> {
        match self {
            Self::Died { log, .. } | Self::TimedOut { log, .. } | Self::Failed { log, .. } => Some(log),
            _ => None,
        }
    }
}
