//! This host's keys and its book together, and what its port is to know because of them.
//!
//! Whoever changes something writes it down first, then wishes for a port that goes by it ([`Wish`]). The helper has a
//! thread that fulfils wishes.

use super::Fingerprint;
use super::book::{Book, BookFault, Peer};
use super::file::FileError;
use super::identity::{Identity, IdentityError};
use super::port::config::{Config, Remote};
use super::protocol::Problem;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// In the store.
const DIRECTORY: &str = "peers";
const IDENTITY: &str = "identity.json";
const BOOK: &str = "book.json";

/// What a port may take to go by another configuration. It may have to be started for it.
const PORT_PATIENCE: Duration = Duration::from_secs(15);

/// Why something about peers could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The keys cannot be read or kept.
    #[error("this host's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// The book cannot be read or kept.
    #[error("the book of peers cannot be used")]
    Book(#[from] FileError),
    /// The book does not take it.
    #[error(transparent)]
    Refused(#[from] BookFault),
    /// The port could not be made to go by it.
    #[error("the port of this host does not work: {}", .0.sentence())]
    Port(Problem),
    /// The port has not said that it goes by it.
    #[error("the port of this host has not answered for {} s", PORT_PATIENCE.as_secs())]
    PortIsSilent,
}

/// Identity and book, as they are on disk.
#[derive(Debug, Clone)]
pub struct State {
    /// This host's keys.
    pub identity: Identity,
    /// Its peers and invitations.
    pub book: Book,
}

/// Who this host is, and whom it knows.
#[derive(Debug)]
pub struct Peers {
    directory: PathBuf,
    state: Mutex<Option<State>>,
    joining: Mutex<usize>,
    /// What the port should be.
    pub wish: Wish,
}

impl Peers {
    /// Those of the store at `root`. Nothing is read yet: a damaged book is in nobody's way who asks for no peer.
    pub fn of(root: &Path) -> Self {
        Self {
            directory: root.join(DIRECTORY),
            state: Mutex::default(),
            joining: Mutex::default(),
            wish: Wish::default(),
        }
    }

    /// Identity and book as they are now.
    pub fn state(&self) -> Result<State, PeersError> {
        self.loaded(&mut self.lock()).cloned()
    }

    /// Whether any of them may fetch the checkpoint with this id.
    pub fn share(&self, checkpoint: &str) -> bool {
        let may = |state: State| state.book.peers().iter().any(|peer| peer.permissions.shared.contains(checkpoint));
        // Where the book cannot be read, peers cannot ask either.
        self.state().is_ok_and(may)
    }

    /// One peer as it is now.
    pub fn peer(&self, name: &str) -> Result<Option<Peer>, PeersError> {
        Ok(self.state()?.book.peer(name).cloned())
    }

    /// Changes identity and book, writes down what is another now, and wishes for a port that goes by it. Where `change`
    /// fails nothing is changed. Returns the number of the wish as well.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, PeersError>) -> Result<(T, u64), PeersError> {
        let mut kept = self.lock();
        let before = self.loaded(&mut kept)?.clone();
        let mut after = before.clone();
        after.book.forget_expired(Timestamp::now());
        let done = change(&mut after)?;
        // A key that the book speaks of is on disk before the book, and goes after it.
        let added = after.identity.fingerprint() != before.identity.fingerprint();
        if added {
            after.identity.save(&self.directory.join(IDENTITY))?;
        }
        if after.book != before.book {
            after.book.save(&self.directory.join(BOOK))?;
        }
        if !added && after.identity != before.identity {
            after.identity.save(&self.directory.join(IDENTITY))?;
        }
        *kept = Some(after);
        let number = self.publish(&mut kept)?;
        Ok((done, number))
    }

    /// A peer has used a key: where that is the one that it had announced, it has no other any more.
    pub fn used(&self, name: &str, key: &Fingerprint) -> Result<(), PeersError> {
        let is_news = |peer: &Peer| peer.next.as_ref() == Some(key);
        if !self.loaded(&mut self.lock())?.book.peer(name).is_some_and(is_news) {
            return Ok(());
        }
        self.change(|state| Ok(state.book.used(name, key))).map(drop)
    }

    /// Wishes for a port as identity and book say now: at the helper's start, and when an invitation has expired.
    pub fn refresh(&self) -> Result<(), PeersError> {
        self.change(|_| Ok(())).map(drop)
    }

    /// Waits until the port goes by what was wished for.
    pub fn wait_for_port(&self, number: u64) -> Result<(), PeersError> {
        self.wish.wait_until_done(number, PORT_PATIENCE)
    }

    /// Keeps the port running while this host joins another, when it may have no peer yet.
    pub fn join(&self) -> Result<Joining<'_>, PeersError> {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let joining = Joining(self);
        let number = self.publish(&mut self.lock())?;
        self.wait_for_port(number)?;
        Ok(joining)
    }

    /// When the next invitation expires.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let state = self.lock();
        let invitations = state.as_ref().map(|state| state.book.invitations()).unwrap_or_default();
        invitations.iter().map(|invitation| invitation.expires).min()
    }

    fn publish(&self, kept: &mut Option<State>) -> Result<u64, PeersError> {
        let state = self.loaded(kept)?;
        let is_joining = *self.joining.lock().unwrap_or_else(PoisonError::into_inner) > 0;
        let has_need = is_joining || !state.book.peers().is_empty() || !state.book.invitations().is_empty();
        Ok(self.wish.make(has_need.then(|| config(state))))
    }

    fn loaded<'a>(&self, kept: &'a mut Option<State>) -> Result<&'a State, PeersError> {
        let state = match kept.take() {
            Some(state) => state,
            None => {
                let identity = Identity::open(&self.directory.join(IDENTITY))?;
                State { identity, book: Book::open(&self.directory.join(BOOK))? }
            }
        };
        Ok(kept.insert(state))
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number is the wish's own.
fn config(state: &State) -> Config {
    let own = state.identity.fingerprint();
    let remote = |peer: &Peer| Remote {
        name: peer.name.clone(),
        keys: std::iter::once(peer.fingerprint).chain(peer.next).collect(),
        addresses: peer.addresses.clone(),
        own: peer.knows.first().copied().unwrap_or(own),
    };
    Config {
        number: 0,
        keys: state.identity.keys().to_vec(),
        peers: state.book.peers().iter().map(remote).collect(),
        strangers: !state.book.invitations().is_empty(),
    }
}

/// This host is joining another one, until dropped.
#[derive(Debug)]
pub struct Joining<'a>(&'a Peers);

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        *self.0.joining.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        // What cannot be read now is told to whoever asks next.
        let _ = self.0.publish(&mut self.0.lock());
    }
}

/// What the port should be, and whether it is.
#[derive(Debug, Default)]
pub struct Wish {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    number: u64,
    /// None: there should be no port.
    config: Option<Config>,
    /// The newest wish that was seen to, and how that went.
    seen_to: (u64, Option<Problem>),
}

impl Wish {
    fn make(&self, config: Option<Config>) -> u64 {
        let mut inner = self.lock();
        inner.number += 1;
        let number = inner.number;
        inner.config = config.map(|config| Config { number, ..config });
        self.changed.notify_all();
        number
    }

    /// Waits for a wish that is newer than `known`; none after `limit`.
    pub fn newer(&self, known: u64, limit: Duration) -> Option<(u64, Option<Config>)> {
        let inner = self.changed.wait_timeout_while(self.lock(), limit, |inner| inner.number <= known);
        let (inner, _) = inner.unwrap_or_else(PoisonError::into_inner);
        (inner.number > known).then(|| (inner.number, inner.config.clone()))
    }

    /// Says how a wish was seen to.
    pub fn seen_to(&self, number: u64, outcome: Result<(), Problem>) {
        let mut inner = self.lock();
        if number >= inner.seen_to.0 {
            inner.seen_to = (number, outcome.err());
            self.changed.notify_all();
        }
    }

    fn wait_until_done(&self, number: u64, limit: Duration) -> Result<(), PeersError> {
        let inner = self.changed.wait_timeout_while(self.lock(), limit, |inner| inner.seen_to.0 < number);
        let (inner, _) = inner.unwrap_or_else(PoisonError::into_inner);
        match &inner.seen_to {
            (seen, _) if *seen < number => Err(PeersError::PortIsSilent),
            (_, Some(problem)) => Err(PeersError::Port(problem.clone())),
            (_, None) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::Paired;
    use super::super::token::Secret;
    use super::*;
    use jiff::ToSpan;

    fn wished(peers: &Peers) -> Option<Config> {
        peers.wish.newer(0, Duration::ZERO).unwrap().1
    }

    fn pair(state: &mut State) -> Result<(), PeersError> {
        let knows = state.identity.fingerprint();
        let fingerprint = super::super::Fingerprint::from([1; 32]);
        let paired = Paired { name: "beta".parse().unwrap(), fingerprint, addresses: vec![], knows };
        Ok(state.book.add(paired, Timestamp::now()).map(drop)?)
    }

    #[test]
    fn there_is_no_port_before_the_first_peer_and_after_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::of(dir.path());
        peers.refresh().unwrap();
        assert_eq!(wished(&peers), None);
        peers.change(pair).unwrap();
        let config = wished(&peers).unwrap();
        assert_eq!((config.peers.len(), config.strangers), (1, false));
        peers.change(|state| Ok(state.book.remove("beta"))).unwrap();
        assert_eq!(wished(&peers), None);
    }

    #[test]
    fn strangers_may_pair_while_an_invitation_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::of(dir.path());
        let expires = Timestamp::now() + 200.milliseconds();
        peers.change(|state| Ok(state.book.invite(&Secret::generate().unwrap(), expires, None)?)).unwrap();
        assert!(wished(&peers).unwrap().strangers);
        assert_eq!(peers.next_expiry(), Some(expires));
        std::thread::sleep(Duration::from_millis(250));
        peers.refresh().unwrap();
        assert_eq!(wished(&peers), None);
    }

    #[test]
    fn what_is_changed_is_there_after_a_restart_and_what_failed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::of(dir.path());
        peers.change(pair).unwrap();
        let failed = peers.change(|state| {
            state.book.remove("beta");
            Err::<(), _>(PeersError::PortIsSilent)
        });
        assert!(failed.is_err());
        let again = Peers::of(dir.path());
        assert!(again.peer("beta").unwrap().is_some() && peers.peer("beta").unwrap().is_some());
        assert_eq!(again.state().unwrap().identity, peers.state().unwrap().identity);
    }

    #[test]
    fn whoever_wishes_hears_how_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::of(dir.path());
        let ((), number) = peers.change(pair).unwrap();
        peers.wish.seen_to(number, Err(Problem::new("the address is taken")));
        assert!(matches!(peers.wait_for_port(number), Err(PeersError::Port(_))));
        peers.wish.seen_to(number, Ok(()));
        peers.wait_for_port(number).unwrap();
        let silent = peers.wish.wait_until_done(number + 1, Duration::from_millis(10));
        assert!(matches!(silent, Err(PeersError::PortIsSilent)));
    }
}
