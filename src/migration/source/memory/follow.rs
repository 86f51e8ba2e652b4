//! CRIU's pages go to the peer while CRIU writes them.

use super::talk::{Counted, Watched};
use crate::archive::blocks::{BlockStream, Cutting, KnownBlocks, PAGE};
use crate::failure::{Failure, OrFail};
use crate::migration::words::{self, Bodies, Here};
use crate::operations::persist::Persistence;
use crate::store::{CheckpointId, layout};
use crate::transport::client::Peer;
use crate::world::cancels::Cancellable;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What is sent at once while more is written; less where no more has been since the last look.
const PART: u64 = 32 << 20;

/// CRIU tells nobody how far it is, and is at little memory for some 20 ms.
const LOOK: Duration = Duration::from_millis(5);

/// How a dump ended, once it has.
#[derive(Debug, Default)]
pub struct Dumped(Mutex<Option<bool>>, Condvar);

impl Dumped {
    /// It has ended, well or not.
    pub fn tell(&self, is_whole: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(is_whole);
        self.1.notify_all();
    }

    fn wait(&self, patience: Duration) -> Option<bool> {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.1.wait_timeout_while(ended, patience, |ended| ended.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Who follows a dump.
pub struct Follow<'a> {
    /// Where to.
    pub peer: Peer,
    /// The migration.
    pub id: CheckpointId,
    /// The checkpoints, with the directories that CRIU writes their images to.
    pub images: Vec<(CheckpointId, PathBuf)>,
    /// What the peer has.
    pub known: Arc<KnownBlocks>,
    /// Whether it is to go on.
    pub cancel: &'a Cancellable,
    /// Going on where the connection breaks.
    pub persistence: Persistence<'a>,
    /// The numbers of what is sent.
    pub bodies: &'a mut Bodies,
}

/// A file of pages that the peer has.
#[derive(Debug)]
pub struct Followed {
    /// The checkpoint that it belongs to.
    pub checkpoint: CheckpointId,
    /// Its path there.
    pub path: String,
    /// Bytes that went over the network for it, before they were compressed.
    pub sent_bytes: u64,
}

/// A file of pages, and how much of it was sent.
struct Pages {
    checkpoint: CheckpointId,
    name: String,
    file: Arc<File>,
    inode: u64,
    /// How much of it there was when it was looked at last.
    seen: u64,
    sent: u64,
    sent_bytes: Arc<AtomicU64>,
}

impl Follow<'_> {
    /// Sends pages as they are written, and what is left of them when the dump has ended.
    pub fn run(&mut self, dumped: &Dumped) -> Result<Vec<Followed>, Failure> {
        let mut all: Vec<Pages> = Vec::new();
        loop {
            let ended = dumped.wait(LOOK);
            if ended == Some(false) {
                return Ok(Vec::new());
            }
            self.find(&mut all)?;
            for pages in &mut all {
                self.send(pages, ended.is_some())?;
            }
            if ended.is_some() {
                return Ok(all.into_iter().map(Pages::followed).collect());
            }
        }
    }

    /// Files that are new since the last look.
    fn find(&self, all: &mut Vec<Pages>) -> Result<(), Failure> {
        for (checkpoint, directory) in &self.images {
            let failed = || format!("{} cannot be looked at", directory.display());
            for entry in std::fs::read_dir(directory).or_fail(failed)? {
                let name = entry.or_fail(failed)?.file_name().to_string_lossy().into_owned();
                if Cutting::of(&name) != Cutting::Pages {
                    continue;
                }
                // One that went meanwhile is looked for again, or goes with all other files.
                let Ok(file) = File::open(directory.join(&name)) else { continue };
                let inode = file.metadata().or_fail(failed)?.ino();
                // Where a dump is made anew its files have the same names.
                all.retain(|pages| pages.checkpoint != *checkpoint || pages.name != name || pages.inode == inode);
                let is_known = |pages: &Pages| pages.checkpoint == *checkpoint && pages.name == name;
                if !all.iter().any(is_known) {
                    let (checkpoint, file) = (checkpoint.clone(), Arc::new(file));
                    all.push(Pages { checkpoint, name, file, inode, seen: 0, sent: 0, sent_bytes: Arc::default() });
                }
            }
        }
        Ok(())
    }

    /// The next part of it, where there is one; all that is left where it is whole.
    fn send(&mut self, pages: &mut Pages, is_whole: bool) -> Result<(), Failure> {
        let failed = || format!("{} cannot be sent to {}", pages.name, self.peer.name());
        let length = pages.file.metadata().or_fail(failed)?.len();
        let until = if is_whole { length } else { length / PAGE as u64 * PAGE as u64 };
        let least = if std::mem::replace(&mut pages.seen, until) == until { 1 } else { PART };
        if !is_whole && until.saturating_sub(pages.sent) < least {
            return Ok(());
        }
        while !self.send_rest(pages, until, is_whole)? {}
        self.persistence.went_on();
        Ok(())
    }

    /// What of it up to byte `until` is not there; whether all of that is there now. Where the connection breaks it says how much
    /// is.
    fn send_rest(&mut self, pages: &mut Pages, until: u64, is_whole: bool) -> Result<bool, Failure> {
        let failed = || format!("{} cannot be sent to {}", pages.name, self.peer.name());
        let stream = BlockStream::new(&pages.file, pages.sent, until, Cutting::Pages, Arc::clone(&self.known));
        let counted = Counted { bytes: stream, done: Arc::clone(&pages.sent_bytes) };
        let body = Watched { bytes: counted, watch: self.cancel.watch() };
        let what = format!("pages/{}/{}", pages.checkpoint, pages.path());
        let path = words::body_path(&self.id, &what, self.bodies.another());
        let (to, put) = (self.peer.clone(), format!("{path}&from={}&length={until}&whole={is_whole}", pages.sent));
        let error = match self.cancel.unless_cancelled(move || to.put::<Value>(&put, body, None))? {
            Ok(_) => {
                pages.sent = until;
                return Ok(true);
            }
            Err(error) => error,
        };
        self.persistence.broke(&error, failed)?;
        let asked = self.peer.clone();
        let here: Here = self.persistence.ask_at_hand(move |left| asked.get_within(&path, left), failed)?;
        if here.is_whole {
            return Ok(true);
        }
        self.persistence.is_there(here.bytes > pages.sent, &error, failed)?;
        pages.sent = here.bytes.min(until);
        Ok(false)
    }
}

impl Pages {
    fn path(&self) -> String {
        format!("{}/{}", layout::IMAGES, self.name)
    }

    fn followed(self) -> Followed {
        let path = self.path();
        Followed { checkpoint: self.checkpoint, path, sent_bytes: self.sent_bytes.load(Ordering::Relaxed) }
    }
}
