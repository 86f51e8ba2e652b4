//! Asking the host that has the memory, until it answers.
//!
//! What somebody waits for has threads of its own, so that it never stands behind what merely comes ahead. Each thread has
//! a connection of its own to the port. A source that cannot be reached is asked again and again: the container stands
//! still on the next page that it misses, and goes on when the link is back.

use super::words::{PROOF, Question, proof};
use super::{PAGE, Source};
use crate::transport::client::{self, Carriage, Flow, Peer, PeerError};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Threads for pages that somebody waits for.
const URGENT: usize = 2;
/// Threads for pages that come ahead.
const AHEAD: usize = 3;
/// All of them.
const THREADS: u64 = (URGENT + AHEAD) as u64;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Bytes that come ahead in one answer, where nothing bounds how fast they come.
const MOST_AHEAD: u64 = 1 << 20;
/// How long such an answer may be under way, where something does, in seconds.
const UNDER_WAY: u64 = 5;

/// Between two tries to reach the source. The network has no event that says when it works again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pages that an address space misses.
#[derive(Debug, Clone)]
pub struct Request {
    /// The address space.
    pub space: u64,
    /// The process that it was dumped of, by its pid in the container.
    pub process: i32,
    /// Where the pages were.
    pub ranges: Vec<Range<u64>>,
}

/// They have come.
#[derive(Debug)]
pub struct Answer {
    /// What was asked for.
    pub request: Request,
    /// The pages, one range behind the other.
    pub pages: Vec<u8>,
}

/// Why pages did not come.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the pages broke off")]
    BrokeOff(#[from] io::Error),
    #[error("the pages are not those that were asked for")]
    Unproved,
}

#[derive(Debug, Default)]
struct Queue {
    requests: Mutex<VecDeque<Request>>,
    filled: Condvar,
}

impl Queue {
    fn push(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        self.filled.notify_one();
    }

    fn pop(&self) -> Request {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match requests.pop_front() {
                Some(request) => return request,
                None => requests = self.filled.wait(requests).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// What is asked for and has come.
#[derive(Debug)]
pub struct Fetch {
    urgent: Arc<Queue>,
    ahead: Arc<Queue>,
    answers: Receiver<Answer>,
    /// Readable when something has come.
    woken: UnixStream,
    problem: Arc<Mutex<Option<String>>>,
    most_ahead: u64,
}

/// What a thread works with.
#[derive(Clone)]
struct Fetcher {
    source: Arc<Source>,
    /// Its own, so that what somebody waits for never stands behind what comes ahead.
    flow: Option<Flow>,
    queue: Arc<Queue>,
    answers: Sender<Answer>,
    wake: Arc<UnixStream>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Fetch {
    /// Begins; the threads end with the process.
    pub fn from(source: Source) -> io::Result<Self> {
        let (answers_in, answers) = channel();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let rate = source.rate.map(|rate| NonZeroU64::new(rate.get() / THREADS).unwrap_or(NonZeroU64::MIN));
        let most_ahead = rate.map_or(MOST_AHEAD, |rate| MOST_AHEAD.min(rate.get() * UNDER_WAY).max(PAGE));
        let (urgent, ahead, problem) = (Arc::default(), Arc::default(), Arc::default());
        let this = Self { urgent, ahead, answers, woken, problem, most_ahead };
        let (source, wake) = (Arc::new(source), Arc::new(wake));
        for (queue, count) in [(&this.urgent, URGENT), (&this.ahead, AHEAD)] {
            for _ in 0..count {
                let fetcher = Fetcher {
                    source: Arc::clone(&source),
                    flow: rate.map(Flow::of),
                    queue: Arc::clone(queue),
                    answers: answers_in.clone(),
                    wake: Arc::clone(&wake),
                    problem: Arc::clone(&this.problem),
                };
                std::thread::Builder::new().name("fetch".into()).spawn(move || fetcher.run())?;
            }
        }
        Ok(this)
    }

    /// Somebody waits for these.
    pub fn urgently(&self, request: Request) {
        self.urgent.push(request);
    }

    /// These come ahead.
    pub fn ahead(&self, request: Request) {
        self.ahead.push(request);
    }

    /// Readable when something has come.
    pub fn woken(&self) -> &UnixStream {
        &self.woken
    }

    /// How many bytes may come ahead in one answer.
    pub fn most_ahead(&self) -> u64 {
        self.most_ahead
    }

    /// What has come, one at a time.
    pub fn come(&self) -> Option<Answer> {
        let mut told = [0; 64];
        // Whatever it holds: the channel is looked at until it is empty.
        while matches!((&self.woken).read(&mut told), Ok(count) if count > 0) {}
        self.answers.try_recv().ok()
    }

    /// Why nothing comes, where nothing does.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Fetcher {
    fn run(self) {
        let carriage = Carriage { compress: self.source.compress, flow: self.flow, patience: None };
        let peer = Peer::named(Path::new(client::SOCKET), &self.source.peer).carried(carriage);
        loop {
            let request = self.queue.pop();
            let pages = self.insist(&peer, &request);
            if self.answers.send(Answer { request, pages }).is_err() {
                return;
            }
            // Where it is full, whoever reads is being woken.
            let _ = (&*self.wake).write(&[1]);
        }
    }

    /// Asks until the pages are there.
    fn insist(&self, peer: &Peer, request: &Request) -> Vec<u8> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let asked = self.ask(peer, request);
            let problem = asked.as_ref().err().map(ToString::to_string);
            if let Some(problem) = &problem {
                tracing::warn!(problem, "pages do not come; asking again");
            }
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
            match asked {
                Ok(pages) => return pages,
                Err(_) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn ask(&self, peer: &Peer, request: &Request) -> Result<Vec<u8>, FetchError> {
        let question = Question {
            checkpoint: self.source.checkpoint.clone(),
            process: request.process,
            ranges: request.ranges.clone(),
        };
        let length: u64 = request.ranges.iter().map(|range| range.end - range.start).sum();
        let mut pages = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + PROOF);
        let stream = peer.post_stream(&self.source.path, &question, LIMIT)?;
        stream.take(length + PROOF as u64 + 1).read_to_end(&mut pages)?;
        let proved = pages.len().checked_sub(PROOF).map(|length| pages.split_off(length));
        match proved.is_some_and(|proved| proved == proof(&question, &pages) && pages.len() as u64 == length) {
            true => Ok(pages),
            false => Err(FetchError::Unproved),
        }
    }
}
