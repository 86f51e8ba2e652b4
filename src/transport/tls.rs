//! TLS 1.3 between keys that know each other.
//!
//! A certificate is accepted if and only if its public key is pinned, and the other side proves in the handshake that it
//! has the private one. Who signed the certificate, whom it names and when it is valid mean nothing. No session is ever
//! resumed: a resumed one would bring back a peer that has been removed.

use super::Fingerprint;
use super::identity::OwnKey;
use super::protocol::ALPN;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig};
use rustls::{SignatureScheme, version};
use std::fmt;
use std::sync::Arc;

/// How much of a fingerprint a caller says in its hello. It only has to tell the few keys of one host apart.
const HINT_DIGITS: usize = 32;

/// What the name that a caller asks for ends with. `.invalid` is nobody's (RFC 2606).
const HINT_SUFFIX: &str = ".transship.invalid";

/// Says which keys are let in.
pub trait Admission: fmt::Debug + Send + Sync {
    /// Whether whoever has this key may connect.
    fn admits(&self, key: &Fingerprint) -> bool;
}

/// The fingerprint of a certificate's key.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Fingerprint::of(parsed.subject_public_key_info().as_ref()))
}

/// A key of this host, ready to sign.
pub fn certified(key: &OwnKey) -> Result<CertifiedKey, Error> {
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.private_key.0.clone()));
    let signer = ring::sign::any_supported_type(&private)?;
    Ok(CertifiedKey::new(vec![CertificateDer::from(key.certificate.0.clone())], signer))
}

/// For whoever calls this host. `keys` are its own, the one that it has now first.
pub fn server(
    keys: Vec<(Fingerprint, Arc<CertifiedKey>)>,
    admission: Arc<dyn Admission>,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(PinnedClients { admission, algorithms: provider.signature_verification_algorithms });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(OwnKeys(keys)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For calling a host that has one of the keys `pinned`.
pub fn client(own: Arc<CertifiedKey>, pinned: Vec<Fingerprint>) -> Result<ClientConfig, Error> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let verifier = Arc::new(PinnedServer { pinned, algorithms: provider.signature_verification_algorithms });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The name to call a host by that has this key: it may have several, and has to know which is expected.
pub fn hint(expected: &Fingerprint) -> Result<ServerName<'static>, Error> {
    let name = format!("{}{HINT_SUFFIX}", &expected.to_string()[..HINT_DIGITS]);
    ServerName::try_from(name).map_err(|error| Error::General(error.to_string()))
}

/// The key that the caller expects, else the one that this host has now: a caller that knows neither will refuse it.
#[derive(Debug)]
struct OwnKeys(Vec<(Fingerprint, Arc<CertifiedKey>)>);

impl ResolvesServerCert for OwnKeys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let hint = hello.server_name().and_then(|name| name.strip_suffix(HINT_SUFFIX));
        let is_meant = |key: &Fingerprint| hint == Some(&key.to_string()[..HINT_DIGITS]);
        let found = self.0.iter().find(|(fingerprint, _)| is_meant(fingerprint)).or_else(|| self.0.first());
        found.map(|(_, key)| Arc::clone(key))
    }
}

/// Never asked for: the configurations know TLS 1.3 alone.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".into())
}

#[derive(Debug)]
struct PinnedClients {
    admission: Arc<dyn Admission>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for PinnedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.admission.admits(&fingerprint(end_entity)?) {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct PinnedServer {
    pinned: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.pinned.contains(&fingerprint(end_entity)?) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::Identity;
    use super::*;

    #[test]
    fn a_certificate_has_the_fingerprint_that_is_kept_beside_it() {
        let identity = Identity::generate().unwrap();
        let key = &identity.keys()[0];
        let certificate = certified(key).unwrap().cert.remove(0);
        assert_eq!(fingerprint(&certificate).unwrap(), key.fingerprint);
    }

    #[derive(Debug)]
    struct Only(Fingerprint);

    impl Admission for Only {
        fn admits(&self, key: &Fingerprint) -> bool {
            *key == self.0
        }
    }

    /// Whether the handshake of these two succeeds, on both sides.
    async fn agree(server: ServerConfig, client: ClientConfig, expected: &Fingerprint) -> bool {
        let (one_end, other_end) = tokio::io::duplex(64 << 10);
        let accept = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(one_end);
        let connect = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(hint(expected).unwrap(), other_end);
        let (accepted, connected) = tokio::join!(accept, connect);
        accepted.is_ok() && connected.is_ok()
    }

    #[tokio::test]
    async fn a_copied_certificate_is_worth_nothing_without_its_key() {
        let (alpha, beta, thief) =
            (Identity::generate().unwrap(), Identity::generate().unwrap(), Identity::generate().unwrap());
        let own = |identity: &Identity| Arc::new(certified(&identity.keys()[0]).unwrap());
        let stolen = |identity: &Identity| {
            let key = certified(&thief.keys()[0]).unwrap().key;
            Arc::new(CertifiedKey::new(own(identity).cert.clone(), key))
        };
        let server = |key| server(vec![(beta.fingerprint(), key)], Arc::new(Only(alpha.fingerprint()))).unwrap();
        let client = |key| client(key, vec![beta.fingerprint()]).unwrap();
        let expected = beta.fingerprint();
        assert!(agree(server(own(&beta)), client(own(&alpha)), &expected).await);
        assert!(!agree(server(own(&beta)), client(stolen(&alpha)), &expected).await);
        assert!(!agree(server(stolen(&beta)), client(own(&alpha)), &expected).await);
    }

    #[test]
    fn a_hint_is_a_name_that_can_be_asked_for() {
        hint(&Fingerprint::from([0xff; 32])).unwrap();
    }
}
