//! Bytes that come, for as long as somebody wants them.

use super::Fetch;
use crate::world::cancels::Watch;
use crate::world::fetches::Fetching;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An error of the reader once a person has cancelled the fetch here, or whoever has asked for it does not want it any more.
pub struct Watched<R> {
    come: R,
    fetching: Arc<Fetching>,
    watch: Watch,
}

impl<R> Watched<R> {
    /// What comes for a fetch.
    pub fn for_fetch(fetch: &Fetch, fetching: &Arc<Fetching>, come: R) -> Self {
        Self { come, fetching: Arc::clone(fetching), watch: fetch.cancel.watch() }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.watch.go_on()?;
        match self.fetching.is_unwanted.load(Ordering::Relaxed) {
            true => Err(io::Error::other("it is not wanted any more")),
            false => self.come.read(buffer),
        }
    }
}
