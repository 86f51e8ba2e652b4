//! The peers, what each may do here, and the invitations that are open.

use super::file::{self, FileError, Kind};
use super::token::Secret;
use super::{Address, Fingerprint, PeerName};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::path::Path;

const KIND: Kind = Kind { name: "transship-peers", version: 1 };

/// More peers than anybody pairs by hand.
pub const MAX_PEERS: usize = 256;
/// Invitations that are open at once.
pub const MAX_INVITATIONS: usize = 64;

/// What cannot be done to the book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookFault {
    /// There are too many peers.
    #[error("this host has {MAX_PEERS} peers already")]
    TooManyPeers,
    /// There are too many open invitations.
    #[error("{MAX_INVITATIONS} invitations are open already")]
    TooManyInvitations,
    /// No open invitation has this secret: it was used, it has expired, or there never was one.
    #[error("no open invitation is like this: it was used already, or has expired")]
    NotInvited,
}

/// Another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// What it is called here.
    pub name: PeerName,
    /// Of its key.
    pub fingerprint: Fingerprint,
    /// Of the key that it has announced and not used yet. Until then both are valid, so that whichever of the two
    /// hosts dies in between, they still know each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Fingerprint>,
    /// Where it listens, to be tried in this order.
    pub addresses: Vec<Address>,
    /// By which of this host's keys it knows this host. The first is used to speak to it; a second one it may still
    /// expect when it calls.
    pub knows: Vec<Fingerprint>,
    /// What it may do.
    pub permissions: Permissions,
    /// When it was paired.
    pub since: Timestamp,
}

/// What this host lets a peer do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// It may move containers here.
    pub accepts_containers: bool,
    /// It may store checkpoints here.
    pub accepts_checkpoints: bool,
    /// It may have containers back that came from it.
    #[serde(default = "yes")]
    pub takes_back: bool,
    /// Checkpoints of this host that it may fetch, by id.
    #[serde(default)]
    pub shared: BTreeSet<String>,
}

/// A book that was written before there was a choice.
fn yes() -> bool {
    true
}

impl Default for Permissions {
    /// Pairing is done by the operators of both hosts, for this.
    fn default() -> Self {
        Self { accepts_containers: true, accepts_checkpoints: true, takes_back: true, shared: BTreeSet::new() }
    }
}

/// An invitation that was not used yet. The secret itself is nowhere but in the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    digest: blake3::Hash,
    /// Until when it can be used.
    pub expires: Timestamp,
    /// What whoever uses it will be called here; else it is called what it calls itself.
    pub name: Option<PeerName>,
}

/// A host that has just been paired.
#[derive(Debug, Clone)]
pub struct Paired {
    /// What it should be called.
    pub name: PeerName,
    /// Of its key.
    pub fingerprint: Fingerprint,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// The key of this host that it knows.
    pub knows: Fingerprint,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    peers: Vec<Peer>,
    invitations: Vec<Invitation>,
}

impl Book {
    /// Reads the book at `path`; an empty one where there is none.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Ok(file::read(path, KIND)?.unwrap_or_default())
    }

    /// Writes the book to `path`.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        file::write(path, KIND, self)
    }

    /// Every peer.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The open invitations.
    pub fn invitations(&self) -> &[Invitation] {
        &self.invitations
    }

    /// One peer, by what it is called here.
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name.as_str() == name)
    }

    /// The same, to change it.
    pub fn peer_mut(&mut self, name: &str) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.name.as_str() == name)
    }

    /// Adds a peer and returns what it is called. A host that is here already, by its key, keeps its name and what it may
    /// do; a second one of the same name gets a number.
    pub fn add(&mut self, paired: Paired, now: Timestamp) -> Result<PeerName, BookFault> {
        if let Some(known) = self.peers.iter_mut().find(|peer| peer.has_key(&paired.fingerprint)) {
            known.fingerprint = paired.fingerprint;
            known.addresses = paired.addresses;
            known.knows = vec![paired.knows];
            known.next = None;
            return Ok(known.name.clone());
        }
        if self.peers.len() >= MAX_PEERS {
            return Err(BookFault::TooManyPeers);
        }
        let name = self.free_name(paired.name);
        self.peers.push(Peer {
            name: name.clone(),
            fingerprint: paired.fingerprint,
            next: None,
            addresses: paired.addresses,
            knows: vec![paired.knows],
            permissions: Permissions::default(),
            since: now,
        });
        Ok(name)
    }

    fn free_name(&self, wanted: PeerName) -> PeerName {
        let is_free = |name: &PeerName| self.peer(name.as_str()).is_none();
        if is_free(&wanted) {
            return wanted;
        }
        // One of so many names is free: there are fewer peers.
        (2..MAX_PEERS + 2).map(|number| wanted.numbered(number)).find(is_free).unwrap_or(wanted)
    }

    /// Takes a peer out.
    pub fn remove(&mut self, name: &str) -> Option<Peer> {
        let index = self.peers.iter().position(|peer| peer.name.as_str() == name)?;
        Some(self.peers.remove(index))
    }

    /// A peer has announced another key. One that another peer has is nobody's to announce.
    pub fn announce(&mut self, name: &str, next: Fingerprint) -> bool {
        let is_taken = |peer: &Peer| peer.name.as_str() != name && peer.has_key(&next);
        if self.peers.iter().any(is_taken) {
            return false;
        }
        let Some(peer) = self.peer_mut(name) else { return false };
        peer.next = Some(next).filter(|next| *next != peer.fingerprint);
        true
    }

    /// A peer has used a key. If it is the one that it had announced, its former one is worth nothing from now on.
    pub fn used(&mut self, name: &str, key: &Fingerprint) -> bool {
        let Some(peer) = self.peer_mut(name).filter(|peer| peer.next.as_ref() == Some(key)) else { return false };
        peer.fingerprint = *key;
        peer.next = None;
        true
    }

    /// Opens an invitation.
    pub fn invite(&mut self, secret: &Secret, expires: Timestamp, name: Option<PeerName>) -> Result<(), BookFault> {
        if self.invitations.len() >= MAX_INVITATIONS {
            return Err(BookFault::TooManyInvitations);
        }
        self.invitations.push(Invitation { digest: secret.digest(), expires, name });
        Ok(())
    }

    /// Uses an invitation up.
    pub fn redeem(&mut self, secret: &Secret, now: Timestamp) -> Result<Invitation, BookFault> {
        self.forget_expired(now);
        let digest = secret.digest();
        // Hashes compare in constant time, and what is compared is not the secret itself.
        let index = self.invitations.iter().position(|one| one.digest == digest).ok_or(BookFault::NotInvited)?;
        Ok(self.invitations.remove(index))
    }

    /// Closes the invitations whose time has come; says whether there were any.
    pub fn forget_expired(&mut self, now: Timestamp) -> bool {
        let before = self.invitations.len();
        self.invitations.retain(|invitation| invitation.expires > now);
        self.invitations.len() < before
    }

    /// Closes every invitation; says how many there were.
    pub fn close_invitations(&mut self) -> usize {
        std::mem::take(&mut self.invitations).len()
    }
}

impl Peer {
    /// Whether a key is this peer's.
    pub fn has_key(&self, key: &Fingerprint) -> bool {
        self.fingerprint == *key || self.next.as_ref() == Some(key)
    }
}

fn write_digest<S: Serializer>(digest: &blake3::Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(digest.to_hex().as_str())
}

fn read_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<blake3::Hash, D::Error> {
    blake3::Hash::from_hex(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn later() -> Timestamp {
        now() + 10.minutes()
    }

    fn key(number: u8) -> Fingerprint {
        Fingerprint::from([number; 32])
    }

    fn paired(name: &str, number: u8) -> Paired {
        let addresses = vec!["10.0.0.1:7423".parse().unwrap()];
        Paired { name: name.parse().unwrap(), fingerprint: key(number), addresses, knows: key(0) }
    }

    #[test]
    fn a_book_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers/book.json");
        let mut book = Book::open(&path).unwrap();
        assert_eq!(book, Book::default());
        book.add(paired("beta", 1), now()).unwrap();
        book.invite(&Secret::generate().unwrap(), later(), Some("gamma".parse().unwrap())).unwrap();
        book.announce("beta", key(2));
        book.save(&path).unwrap();
        assert_eq!(Book::open(&path).unwrap(), book);
    }

    #[test]
    fn an_invitation_is_used_once_and_by_nobody_else() {
        let mut book = Book::default();
        let secret = Secret::generate().unwrap();
        book.invite(&secret, later(), Some("gamma".parse().unwrap())).unwrap();
        assert_eq!(book.redeem(&Secret::generate().unwrap(), now()), Err(BookFault::NotInvited));
        assert_eq!(book.redeem(&secret, now()).unwrap().name.unwrap().as_str(), "gamma");
        assert_eq!(book.redeem(&secret, now()), Err(BookFault::NotInvited));
    }

    #[test]
    fn an_invitation_that_has_expired_is_gone() {
        let mut book = Book::default();
        let secret = Secret::generate().unwrap();
        book.invite(&secret, later(), None).unwrap();
        assert_eq!(book.redeem(&secret, later()), Err(BookFault::NotInvited));
        assert!(book.invitations().is_empty());
    }

    #[test]
    fn two_peers_never_have_one_name() {
        let mut book = Book::default();
        assert_eq!(book.add(paired("web", 1), now()).unwrap().as_str(), "web");
        assert_eq!(book.add(paired("web", 2), now()).unwrap().as_str(), "web-2");
        assert_eq!(book.add(paired("web", 3), now()).unwrap().as_str(), "web-3");
    }

    #[test]
    fn a_host_that_is_paired_again_keeps_its_name_and_what_it_may_do() {
        let mut book = Book::default();
        book.add(paired("web", 1), now()).unwrap();
        book.peer_mut("web").unwrap().permissions.accepts_containers = false;
        assert_eq!(book.add(paired("other", 1), later()).unwrap().as_str(), "web");
        assert_eq!(book.peers().len(), 1);
        assert!(!book.peer("web").unwrap().permissions.accepts_containers);
    }

    #[test]
    fn a_former_key_is_valid_until_the_next_one_is_used() {
        let mut book = Book::default();
        book.add(paired("web", 1), now()).unwrap();
        assert!(book.announce("web", key(2)));
        assert!(!book.used("web", &key(1)));
        assert!(book.peer("web").unwrap().has_key(&key(1)) && book.peer("web").unwrap().has_key(&key(2)));
        assert!(book.used("web", &key(2)));
        assert!(!book.peer("web").unwrap().has_key(&key(1)));
    }

    #[test]
    fn nobody_announces_the_key_of_another() {
        let mut book = Book::default();
        book.add(paired("web", 1), now()).unwrap();
        book.add(paired("db", 2), now()).unwrap();
        assert!(!book.announce("web", key(2)));
        assert!(!book.announce("nobody", key(3)));
    }

    #[test]
    fn books_have_an_end() {
        let mut book = Book::default();
        for _ in 0..MAX_INVITATIONS {
            book.invite(&Secret::generate().unwrap(), later(), None).unwrap();
        }
        let more = book.invite(&Secret::generate().unwrap(), later(), None);
        assert_eq!(more, Err(BookFault::TooManyInvitations));
        for number in 0..MAX_PEERS {
            let fingerprint = Fingerprint::of(&number.to_be_bytes());
            book.add(Paired { fingerprint, ..paired("web", 0) }, now()).unwrap();
        }
        assert_eq!(book.add(paired("web", 1), now()), Err(BookFault::TooManyPeers));
    }
}
