//! Calling another host: its addresses in turn, until one of them has the key that is pinned.

use super::active::Active;
use super::errand::Target;
use super::link::Link;
use super::tcp::{self, Wire};
use crate::transport::protocol::Problem;
use crate::transport::{Address, Fingerprint, tls};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What one address may take to be reached.
const CONNECT: Duration = Duration::from_secs(5);

/// Connects to whoever is meant.
pub async fn connect(active: &Active, target: &Target) -> Result<Link, Problem> {
    let (own, keys, addresses, called) = match target {
        Target::Peer(name) => {
            let unknown = || Problem::new(format!("{name} is no peer of this host")).remedy("see: transship peer ls");
            let peer = active.peer(name).ok_or_else(unknown)?;
            (Some(&peer.own), peer.keys.as_slice(), &peer.addresses, name.as_str())
        }
        Target::Host { key, addresses } => (None, std::slice::from_ref(key), addresses, "the host that invites"),
    };
    let failed = |error: &(dyn Error + 'static)| Problem::new(format!("{called} cannot be called")).because(error);
    let config = Arc::new(active.client(own, keys).map_err(|error| failed(&error))?);
    let stream = first(&config, keys, addresses, called).await?;
    Link::over(stream).await.map_err(|error| failed(&error))
}

/// The first address at which the right host answers.
async fn first(
    config: &Arc<ClientConfig>,
    keys: &[Fingerprint],
    addresses: &[Address],
    called: &str,
) -> Result<TlsStream<Wire>, Problem> {
    let mut problem = Problem::new(format!("{called} does not answer"))
        .remedy("see that transshipd runs there, and that no firewall is between the two hosts; a peer whose address has changed is paired again");
    for address in addresses {
        match at(config, keys, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => problem.why.push(format!("{address}: {}", reason(&error))),
        }
    }
    Err(problem)
}

async fn at(config: &Arc<ClientConfig>, keys: &[Fingerprint], address: &Address) -> io::Result<TlsStream<Wire>> {
    let found = timeout(CONNECT, lookup_host((address.host(), address.port()))).await??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for socket in found {
        match shake_hands(config, keys, socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn shake_hands(
    config: &Arc<ClientConfig>,
    keys: &[Fingerprint],
    socket: SocketAddr,
) -> io::Result<TlsStream<Wire>> {
    let expected = keys.first().ok_or_else(|| io::Error::other("no key of it is known"))?;
    let name = tls::hint(expected).map_err(io::Error::other)?;
    let stream = timeout(CONNECT, TcpStream::connect(socket)).await??;
    let stream = tcp::prepared(stream)?;
    timeout(tcp::HANDSHAKE, TlsConnector::from(Arc::clone(config)).connect(name, stream)).await?
}

/// What a failed connection means, where TLS says it in words of its own.
fn reason(error: &io::Error) -> String {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            "another host answers there, or the peer has another key now".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Whether the other host has refused this host's key. With TLS 1.3 that is heard only after the handshake.
pub fn is_refused(error: &hyper::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let tls = error.downcast_ref::<io::Error>().and_then(tls_error);
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return *alert == AlertDescription::AccessDenied;
        }
        next = error.source();
    }
    false
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
