//! The pager at work: hears CRIU, the kernel and the source, and puts pages in place.
//!
//! One thread alone changes address spaces, so that what the kernel tells of them is understood in its order. Before each
//! page that cannot be put in place for the moment what has happened since is heard: a page of which the program has no
//! use any more must not come back, and one that it has moved belongs elsewhere.

use super::fetch::{Answer, Fetch, Request};
use super::missing::{Missing, Wanted};
use super::restorer::{Restorer, Said};
use super::tell::{Tell, Told};
use super::uffd::{Event, Placed, Uffd};
use super::words::MOST_RANGES;
use super::{PAGE, guard};
use crate::criu::pagemap;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Bytes that come with a page that somebody waits for, itself included.
const AROUND: u64 = 64 << 10;
/// Answers of those that come ahead that are asked for at a time.
const AT_ONCE: usize = 3;
/// How often it is told how far it is, at least, in milliseconds.
const TELLING: u16 = 200;
/// How long an address space that is being changed is waited for before it is tried again, in milliseconds.
const CHANGING: u16 = 5;

/// Why the pager cannot go on. What misses pages stands still then.
#[derive(Debug, thiserror::Error)]
pub enum PagerError {
    /// CRIU's images do not tell what is to come.
    #[error(transparent)]
    Images(#[from] pagemap::PagemapError),
    /// The kernel, or CRIU, says no.
    #[error("the restored memory cannot be cared for")]
    Kernel(#[from] io::Error),
    /// CRIU has ended before it had restored everything.
    #[error("CRIU has ended in the middle of the restore")]
    NotRestored,
}

/// An address space.
struct Space {
    number: u64,
    process: i32,
    uffd: Uffd,
    missing: Missing,
    /// Who waits, by address.
    faults: VecDeque<u64>,
    /// Answers that come ahead and are under way.
    asked: usize,
    is_gone: bool,
}

/// The pager.
pub struct Pager<'a> {
    images: &'a Path,
    fetch: Fetch,
    tell: Tell,
    restorer: Option<Restorer>,
    spaces: Vec<Space>,
    numbers: u64,
    total: u64,
}

impl<'a> Pager<'a> {
    /// One for the processes in `images`.
    pub fn new(images: &'a Path, fetch: Fetch, tell: UnixListener) -> io::Result<Self> {
        let tell = Tell::at(tell)?;
        Ok(Self { images, fetch, tell, restorer: None, spaces: Vec::new(), numbers: 0, total: 0 })
    }

    /// Returns when all pages are in place, or nothing is left that misses any.
    pub fn run(mut self, criu: &UnixListener) -> Result<(), PagerError> {
        let (stream, _) = criu.accept()?;
        self.restorer = Some(Restorer::new(stream));
        while self.restorer.is_some() || !self.spaces.is_empty() {
            self.wait()?;
            self.hear_restorer()?;
            for index in (0..self.spaces.len()).rev() {
                self.hear_space(index)?;
            }
            while let Some(answer) = self.fetch.come() {
                self.put(&answer)?;
            }
            self.ask_ahead();
            self.forget_what_is_whole();
            self.tell.tell(&self.told(false));
        }
        self.tell.tell(&self.told(true));
        Ok(())
    }

    fn told(&self, is_all: bool) -> Told {
        let left = self.spaces.iter().map(|space| space.missing.bytes()).sum();
        Told { total: self.total, left, is_all, problem: self.fetch.problem() }
    }

    fn wait(&self) -> io::Result<()> {
        let fixed = [self.fetch.woken().as_fd(), self.tell.as_fd()];
        let restorer = self.restorer.iter().map(AsFd::as_fd);
        let spaces = self.spaces.iter().map(|space| space.uffd.as_fd());
        let mut waited: Vec<PollFd<'_>> =
            fixed.into_iter().chain(restorer).chain(spaces).map(|one| PollFd::new(one, PollFlags::POLLIN)).collect();
        match poll(&mut waited, TELLING) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn hear_restorer(&mut self) -> Result<(), PagerError> {
        while let Some(restorer) = self.restorer.as_mut() {
            let mut waited = [PollFd::new(restorer.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waited, PollTimeout::ZERO).map_err(io::Error::from)? == 0 {
                return Ok(());
            }
            match restorer.hear()? {
                Said::Process(process, uffd) => {
                    guard::stand()?;
                    let missing = Missing::of(&pagemap::to_come(self.images, process)?);
                    self.total += missing.bytes();
                    self.add(process, uffd, missing);
                }
                Said::Ended => {}
                Said::Finished => self.restorer = None,
                Said::Gone => return Err(PagerError::NotRestored),
            }
        }
        Ok(())
    }

    fn add(&mut self, process: i32, uffd: Uffd, missing: Missing) {
        let (number, faults) = (self.numbers, VecDeque::new());
        self.numbers += 1;
        tracing::info!(process, bytes = missing.bytes(), "memory is to come");
        self.spaces.push(Space { number, process, uffd, missing, faults, asked: 0, is_gone: false });
    }

    /// What the kernel has to tell of an address space; then whoever waits in it is seen to.
    fn hear_space(&mut self, index: usize) -> io::Result<()> {
        self.hear_events(index)?;
        while let Some(address) = self.spaces[index].faults.pop_front() {
            let space = &mut self.spaces[index];
            match space.missing.want(address, AROUND) {
                Wanted::Comes => {}
                Wanted::Ask(range) => {
                    let request = Request { space: space.number, process: space.process, ranges: vec![range] };
                    self.fetch.urgently(request);
                }
                Wanted::IsEmpty => match space.uffd.zero(address & !(PAGE - 1), PAGE)? {
                    Placed::Bytes(_) | Placed::There | Placed::Nowhere => {}
                    Placed::Gone => space.is_gone = true,
                    Placed::Again => {
                        // What is at this address is told only now.
                        space.faults.push_front(address);
                        self.let_change(index)?;
                    }
                },
            }
        }
        Ok(())
    }

    fn hear_events(&mut self, index: usize) -> io::Result<()> {
        while let Some(event) = self.spaces[index].uffd.event()? {
            let space = &mut self.spaces[index];
            match event {
                Event::Fault(address) => space.faults.push_back(address),
                Event::Moved { from, to, length } => space.missing.moved(from, to, length),
                Event::Unmapped { start, end } => space.missing.given_up(start, end),
                Event::Removed { start, end } => {
                    space.missing.given_up(start, end);
                    space.uffd.let_go(start, end);
                }
                Event::Fork(uffd) => {
                    let (process, missing) = (space.process, space.missing.forked());
                    self.total += missing.bytes();
                    self.add(process, uffd, missing);
                }
            }
        }
        Ok(())
    }

    /// An address space is being changed: waits for its event, and hears it.
    fn let_change(&mut self, index: usize) -> io::Result<()> {
        let mut waited = [PollFd::new(self.spaces[index].uffd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, CHANGING) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => self.hear_events(index),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts pages that have come where they belong by now.
    fn put(&mut self, answer: &Answer) -> io::Result<()> {
        let Request { space, ranges, .. } = &answer.request;
        let Some(index) = self.spaces.iter().position(|other| other.number == *space) else { return Ok(()) };
        self.spaces[index].asked = self.spaces[index].asked.saturating_sub(1);
        let mut rest = answer.pages.as_slice();
        for range in ranges {
            let Some((pages, behind)) =
                usize::try_from(range.end - range.start).ok().and_then(|at| rest.split_at_checked(at))
            else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an answer is shorter than its question"));
            };
            rest = behind;
            self.put_range(index, range.start, pages)?;
        }
        Ok(())
    }

    fn put_range(&mut self, index: usize, start: u64, pages: &[u8]) -> io::Result<()> {
        let end = start + pages.len() as u64;
        // Pages that are no longer one mapping are put in place one by one.
        let mut most = u64::MAX;
        loop {
            let space = &mut self.spaces[index];
            let Some((was, now, length)) = space.missing.first_in(&(start..end)).filter(|_| !space.is_gone) else {
                return Ok(());
            };
            let length = length.min(most);
            let from = usize::try_from(was - start).map_err(io::Error::other)?;
            let until = from + usize::try_from(length).map_err(io::Error::other)?;
            match space.uffd.copy(now, &pages[from..until])? {
                Placed::Bytes(bytes) => {
                    space.missing.has_come(&(was..was + bytes));
                    most = u64::MAX;
                }
                Placed::There | Placed::Nowhere if length > PAGE => most = PAGE,
                // It is there, or the program cannot reach it any more.
                Placed::There | Placed::Nowhere => space.missing.has_come(&(was..was + PAGE)),
                Placed::Gone => space.is_gone = true,
                Placed::Again => self.let_change(index)?,
            }
        }
    }

    fn ask_ahead(&mut self) {
        let mut under_way: usize = self.spaces.iter().map(|space| space.asked).sum();
        for space in &mut self.spaces {
            while under_way < AT_ONCE {
                let ranges = space.missing.next(self.fetch.most_ahead(), MOST_RANGES);
                if ranges.is_empty() {
                    break;
                }
                self.fetch.ahead(Request { space: space.number, process: space.process, ranges });
                space.asked += 1;
                under_way += 1;
            }
        }
    }

    /// What misses nothing any more is the kernel's alone again.
    fn forget_what_is_whole(&mut self) {
        if self.restorer.is_none() {
            self.spaces.retain(|space| !space.is_gone && !space.missing.is_empty());
        }
    }
}
