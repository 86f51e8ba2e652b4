//! A configuration, ready to be used.

use super::config::{Config, Remote};
use crate::transport::identity::OwnKey;
use crate::transport::tls::{self, Admission};
use crate::transport::{Fingerprint, PeerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, ServerConfig};
use std::sync::Arc;
use tokio::sync::watch;

/// The configuration that is in force, for whoever has to notice that it changes.
pub type Watch = watch::Receiver<Arc<Active>>;

/// Who is at the other end of a connection from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A peer, by what it is called here.
    Peer(PeerName),
    /// Somebody who was let in to be paired, and for nothing else.
    Stranger,
}

/// A configuration with its keys read.
#[derive(Debug)]
pub struct Active {
    config: Arc<Config>,
    keys: Vec<(Fingerprint, Arc<CertifiedKey>)>,
    server: Arc<ServerConfig>,
}

impl Active {
    /// Reads the keys of a configuration.
    pub fn new(config: Config) -> Result<Self, Error> {
        let config = Arc::new(config);
        let read = |key: &OwnKey| Ok((key.fingerprint, Arc::new(tls::certified(key)?)));
        let keys: Vec<_> = config.keys.iter().map(read).collect::<Result<_, Error>>()?;
        let server = Arc::new(tls::server(keys.clone(), Arc::clone(&config) as Arc<dyn Admission>)?);
        Ok(Self { config, keys, server })
    }

    /// For callers from outside.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For calling whoever has one of the keys `pinned`, by this host's key `own`, or by the one that it has now.
    pub fn client(&self, own: Option<&Fingerprint>, pinned: &[Fingerprint]) -> Result<ClientConfig, Error> {
        let key = match own {
            Some(own) => self.keys.iter().find(|(fingerprint, _)| fingerprint == own),
            None => self.keys.first(),
        };
        let (_, key) = key.ok_or_else(|| Error::General("this host does not have that key any more".into()))?;
        tls::client(Arc::clone(key), pinned.to_vec())
    }

    /// Who has a key; nobody, where it would not be let in now.
    pub fn caller(&self, key: &Fingerprint) -> Option<Caller> {
        match self.config.owner(key) {
            Some(peer) => Some(Caller::Peer(peer.name.clone())),
            None => self.config.strangers.then_some(Caller::Stranger),
        }
    }

    /// The peer of a name.
    pub fn peer(&self, name: &str) -> Option<&Remote> {
        self.config.peer(name)
    }
}

impl Admission for Config {
    fn admits(&self, key: &Fingerprint) -> bool {
        self.strangers || self.owner(key).is_some()
    }
}
