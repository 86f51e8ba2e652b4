//! This host's key pairs.
//!
//! The first is the host's own. Older ones stay as long as there are peers that know the host by them and could not be
//! told of the newest.

use super::Fingerprint;
use super::file::{self, FileError, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::Path;

const KIND: Kind = Kind { name: "transship-identity", version: 1 };

/// Certificates have to name somebody; nobody looks at it.
const SUBJECT: &str = "transship.invalid";

/// Why a host has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("this host's keys cannot be kept")]
    File(#[from] FileError),
    /// The file is there and holds no key.
    #[error("the file of this host's keys has none")]
    Empty,
    /// A key could not be made.
    #[error("cannot make a key")]
    Make(#[from] rcgen::Error),
}

/// A private key and the certificate that carries its public half, as the port is given them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnKey {
    /// By which peers know it.
    pub fingerprint: Fingerprint,
    /// X.509, self-signed, in DER.
    pub certificate: Der,
    /// PKCS #8 in DER.
    pub private_key: Der,
}

/// Bytes in DER; base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

/// The keys, the host's own first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    keys: Vec<OwnKey>,
}

impl Identity {
    /// Reads the keys at `path`, or makes the first one.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        match file::read::<Self>(path, KIND)? {
            Some(identity) if identity.keys.is_empty() => Err(IdentityError::Empty),
            Some(identity) => Ok(identity),
            None => {
                let identity = Self::generate()?;
                identity.save(path)?;
                Ok(identity)
            }
        }
    }

    /// An identity that nobody knows yet.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self { keys: vec![OwnKey::generate()?] })
    }

    /// Writes the keys to `path`.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        Ok(file::write(path, KIND, self)?)
    }

    /// All keys, the host's own first.
    pub fn keys(&self) -> &[OwnKey] {
        &self.keys
    }

    /// By which new peers get to know this host.
    pub fn fingerprint(&self) -> Fingerprint {
        // Neither `open` nor `generate` makes one without keys, nor does `retain` leave none.
        self.keys[0].fingerprint
    }

    /// A new own key; the former ones stay behind it.
    pub fn rotate(&mut self) -> Result<Fingerprint, IdentityError> {
        self.keys.insert(0, OwnKey::generate()?);
        Ok(self.fingerprint())
    }

    /// Forgets the former keys that are not needed any more.
    pub fn retain(&mut self, is_needed: impl Fn(&Fingerprint) -> bool) {
        let own = self.fingerprint();
        self.keys.retain(|key| key.fingerprint == own || is_needed(&key.fingerprint));
    }
}

impl OwnKey {
    fn generate() -> Result<Self, IdentityError> {
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let certificate = CertificateParams::new(vec![SUBJECT.to_owned()])?.self_signed(&pair)?;
        Ok(Self {
            fingerprint: Fingerprint::of(&rcgen::PublicKeyData::subject_public_key_info(&pair)),
            certificate: Der(certificate.der().to_vec()),
            private_key: Der(pair.serialize_der()),
        })
    }
}

/// A log line with a key in it says which, and no more.
impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnKey({})", self.fingerprint)
    }
}

impl Serialize for Der {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers/identity.json");
        let made = Identity::open(&path).unwrap();
        assert_eq!(Identity::open(&path).unwrap(), made);
        assert_ne!(Identity::generate().unwrap().fingerprint(), made.fingerprint());
    }

    #[test]
    fn a_former_key_stays_while_it_is_needed() {
        let mut identity = Identity::generate().unwrap();
        let first = identity.fingerprint();
        let second = identity.rotate().unwrap();
        assert_eq!(identity.fingerprint(), second);
        identity.retain(|key| *key == first);
        assert_eq!(identity.keys().len(), 2);
        identity.retain(|_| false);
        assert_eq!(identity.keys().iter().map(|key| key.fingerprint).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn a_private_key_is_in_no_log_line() {
        let identity = Identity::generate().unwrap();
        let shown = format!("{identity:?}");
        assert!(shown.contains(&identity.fingerprint().to_string()));
        assert!(!shown.contains(&STANDARD.encode(&identity.keys()[0].private_key.0)[8..]), "{shown}");
    }
}
