//! Two ports with two helpers on one machine: what passes between them, and what does not.

use super::active::{Active, Watch};
use super::body::{Body, whole};
use super::config::{Config, Remote};
use super::link::Link;
use super::{inbound, outbound};
use crate::transport::client::{Carriage, Compress, Flow, Peer, PeerError};
use crate::transport::identity::Identity;
use crate::transport::protocol::{FROM_KEY, FROM_PEER, FROM_STRANGER, HELLO, PAIR, TO_PEER};
use crate::transport::{Address, Fingerprint, tls};
use axum::Router;
use axum::extract::Request;
use axum::routing::{any, get};
use http_body_util::BodyExt;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// One host: its port's two halves, and a helper that says what it was asked.
struct Host {
    identity: Identity,
    address: Address,
    change: watch::Sender<Arc<Active>>,
    active: Watch,
    dir: TempDir,
}

impl Host {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::of("127.0.0.1".parse().unwrap(), listener.local_addr().unwrap().port());
        let config = Config { number: 1, keys: identity.keys().to_vec(), peers: vec![], strangers: false };
        let (change, active) = watch::channel(Arc::new(Active::new(config).unwrap()));
        let out = UnixListener::bind(dir.path().join("out.sock")).unwrap();
        let helper = UnixListener::bind(dir.path().join("in.sock")).unwrap();
        tokio::spawn(inbound::serve(listener, active.clone(), dir.path().join("in.sock")));
        tokio::spawn(outbound::serve(out, active.clone()));
        tokio::spawn(async move { axum::serve(helper, helper_routes()).await });
        Self { identity, address, change, active, dir }
    }

    fn key(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    fn knows(&self, peers: &[(&str, &Self)], strangers: bool) {
        let remote = |(name, host): &(&str, &Self)| Remote {
            name: name.parse().unwrap(),
            keys: vec![host.key()],
            addresses: vec![host.address.clone()],
            own: self.key(),
        };
        self.go_by(peers.iter().map(remote).collect(), strangers);
    }

    fn go_by(&self, peers: Vec<Remote>, strangers: bool) {
        let config = Config { number: 1, keys: self.identity.keys().to_vec(), peers, strangers };
        self.change.send_replace(Arc::new(Active::new(config).unwrap()));
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out.sock")
    }

    /// A connection as this host makes it, to say on it what no port would.
    async fn call(&self, other: &Self) -> io::Result<Link> {
        let config = self.active.borrow().client(None, &[other.key()]).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", other.address.port())).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(tls::hint(&other.key()).unwrap(), stream).await?;
        Link::over(stream).await.map_err(io::Error::other)
    }
}

/// How long a helper reads nothing at `/v1/stall`.
const STALL: Duration = Duration::from_secs(3);

/// A helper: says which headers arrived, how much body and with which digest, or sends as many bytes as asked for.
fn helper_routes() -> Router {
    let echo = |request: Request| async move {
        let names = request.headers().iter().map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())));
        let headers: serde_json::Map<String, Value> = names.collect();
        let mut body = request.into_body();
        let (mut length, mut hasher) = (0, blake3::Hasher::new());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return axum::Json(json!({ "broken": true })) };
            let data = frame.into_data().unwrap();
            length += data.len();
            hasher.update(&data);
        }
        axum::Json(json!({ "headers": headers, "length": length, "digest": hasher.finalize().to_hex().as_str() }))
    };
    let send = || async { ([("content-type", "application/octet-stream")], pattern(10 << 20)) };
    let stall = || async { tokio::time::sleep(STALL).await };
    let refuse = || async { (StatusCode::CONFLICT, axum::Json(json!({ "what": "no", "remedy": "later" }))) };
    Router::new()
        .route("/v1/bytes", get(send))
        .route("/v1/refuse", any(refuse))
        .route("/v1/stall", any(stall))
        .fallback(echo)
        .layer(axum::extract::DefaultBodyLimit::disable())
}

/// Bytes that compress, and are not all the same.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 13 % 251) as u8).collect()
}

async fn pair() -> (Host, Host) {
    let (alpha, beta) = (Host::new().await, Host::new().await);
    alpha.knows(&[("beta", &beta)], false);
    beta.knows(&[("alpha", &alpha)], false);
    (alpha, beta)
}

/// Asks as the helper does, on a thread where that may block.
async fn ask<T: Send + 'static>(socket: &Path, name: &str, ask: impl FnOnce(Peer) -> T + Send + 'static) -> T {
    let (socket, name) = (socket.to_owned(), name.to_owned());
    tokio::task::spawn_blocking(move || ask(Peer::named(&socket, &name))).await.unwrap()
}

async fn status(link: &mut Link, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> StatusCode {
    let mut request = hyper::Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    let parsed = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    request.headers_mut().extend::<HeaderMap>(parsed.collect());
    assert!(link.is_usable().await, "the connection is closed");
    link.send(request).await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_know_each_other_talk() {
    let (alpha, beta) = pair().await;
    let answer: Value = ask(&alpha.out(), "beta", |peer| peer.get(HELLO)).await.unwrap();
    assert_eq!(answer["headers"][FROM_PEER], "alpha");
    assert_eq!(answer["headers"][FROM_KEY], alpha.key().to_string());
    let answer: Value = ask(&beta.out(), "alpha", |peer| peer.get(HELLO)).await.unwrap();
    assert_eq!(answer["headers"][FROM_PEER], "beta");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_another_key_is_not_believed_to_be_the_peer() {
    let (alpha, beta) = pair().await;
    let other = Host::new().await;
    let wrong = Remote {
        name: "beta".parse().unwrap(),
        keys: vec![other.key()],
        addresses: vec![beta.address.clone()],
        own: alpha.key(),
    };
    alpha.go_by(vec![wrong], false);
    let error = ask(&alpha.out(), "beta", |peer| peer.get::<Value>(HELLO)).await.unwrap_err();
    let PeerError::Unreachable { problem, .. } = &error else { panic!("{error:?}") };
    assert!(problem.why[0].contains("another host answers there"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_another_key_is_not_let_in() {
    let (alpha, beta) = pair().await;
    let other = Host::new().await;
    beta.knows(&[("alpha", &other)], false);
    let error = ask(&alpha.out(), "beta", |peer| peer.get::<Value>(HELLO)).await.unwrap_err();
    let PeerError::Unreachable { problem, .. } = &error else { panic!("{error:?}") };
    assert!(problem.what.contains("does not let this host in"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_nobodys_peer_cannot_be_asked() {
    let (alpha, _beta) = pair().await;
    let error = ask(&alpha.out(), "gamma", |peer| peer.get::<Value>(HELLO)).await.unwrap_err();
    assert!(error.to_string().contains("gamma is no peer of this host"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_answers_is_passed_over() {
    let (alpha, beta) = pair().await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Address::of("127.0.0.1".parse().unwrap(), listener.local_addr().unwrap().port())
    };
    let remote =
        |addresses| Remote { name: "beta".parse().unwrap(), keys: vec![beta.key()], addresses, own: alpha.key() };
    alpha.go_by(vec![remote(vec![nobody.clone(), beta.address.clone()])], false);
    ask(&alpha.out(), "beta", |peer| peer.get::<Value>(HELLO)).await.unwrap();
    alpha.go_by(vec![remote(vec![nobody.clone()])], false);
    let error = ask(&alpha.out(), "beta", |peer| peer.get::<Value>(HELLO)).await.unwrap_err();
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_reaches_nothing_but_the_pairing() {
    let (alpha, beta) = (Host::new().await, Host::new().await);
    beta.knows(&[], true);
    let mut link = alpha.call(&beta).await.unwrap();
    for (method, path) in
        [(Method::GET, HELLO), (Method::GET, PAIR), (Method::POST, HELLO), (Method::POST, "/v1/pair/x")]
    {
        assert_eq!(status(&mut link, method, path, &[], whole(vec![])).await, StatusCode::FORBIDDEN, "{path}");
    }
    let forged = [(FROM_PEER, "alpha")];
    assert_eq!(status(&mut link, Method::GET, HELLO, &forged, whole(vec![])).await, StatusCode::FORBIDDEN);
    let packed = [("content-encoding", "zstd")];
    assert_eq!(status(&mut link, Method::POST, PAIR, &packed, whole(vec![])).await, StatusCode::FORBIDDEN);
    let (socket, key, addresses) = (alpha.out(), beta.key(), vec![beta.address.clone()]);
    let pair = move || Peer::at(&socket, key, addresses).post::<Value>(PAIR, &json!({}), None);
    let answer = tokio::task::spawn_blocking(pair).await.unwrap().unwrap();
    assert_eq!(answer["headers"][FROM_STRANGER], alpha.key().to_string());
    assert_eq!(answer["headers"][FROM_PEER], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stranger_is_let_in_without_an_invitation() {
    let (alpha, beta) = (Host::new().await, Host::new().await);
    beta.knows(&[], false);
    let (socket, key, addresses) = (alpha.out(), beta.key(), vec![beta.address.clone()]);
    let pair = move || Peer::at(&socket, key, addresses).post::<Value>(PAIR, &json!({}), None);
    let error = tokio::task::spawn_blocking(pair).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("does not let this host in"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_says_for_himself_who_he_is() {
    let (alpha, beta) = pair().await;
    let mut link = alpha.call(&beta).await.unwrap();
    let mut request = hyper::Request::new(whole(vec![]));
    *request.uri_mut() = "/v1/anything".parse().unwrap();
    for name in [FROM_PEER, FROM_KEY, FROM_STRANGER, TO_PEER, "x-transship-other"] {
        request.headers_mut().append(name, "gamma".parse().unwrap());
    }
    let body = link.send(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let ours = answer["headers"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("x-transship-"));
    let ours: Vec<_> = ours.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    let key = alpha.key().to_string();
    assert_eq!(ours, [(FROM_KEY, key.as_str()), (FROM_PEER, "alpha")]);
}

/// So many bytes of [`pattern`]'s kind, made as they are read.
struct Made {
    at: usize,
    length: usize,
}

impl Read for Made {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into.len().min(self.length - self.at);
        for byte in &mut into[..length] {
            *byte = (self.at / 13 % 251) as u8;
            self.at += 1;
        }
        Ok(length)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes_unchanged_whatever_way_it_goes() {
    const LENGTH: usize = 50 << 20;
    let (alpha, _beta) = pair().await;
    let digest = blake3::hash(&pattern(LENGTH)).to_hex().to_string();
    for compress in [Compress::Off, Compress::Fast, Compress::Best] {
        for length in [Some(LENGTH as u64), None] {
            let put = move |peer: Peer| {
                let carriage = Carriage { compress, flow: None, patience: None };
                peer.carried(carriage).put::<Value>("/v1/put", Made { at: 0, length: LENGTH }, length)
            };
            let answer = ask(&alpha.out(), "beta", put).await.unwrap();
            assert_eq!(answer["length"], LENGTH, "{compress:?}");
            assert_eq!(answer["digest"], digest, "{compress:?}");
            assert_eq!(answer["headers"]["content-encoding"], Value::Null);
        }
    }
}

/// Bytes that do not compress; counts how many were taken.
struct Counted {
    taken: Arc<AtomicUsize>,
    state: u64,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for byte in into.iter_mut() {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.state >> 56) as u8;
        }
        self.taken.fetch_add(into.len(), Ordering::Relaxed);
        Ok(into.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_is_never_far_ahead_of_whoever_reads() {
    let (alpha, _beta) = pair().await;
    for compress in [Compress::Off, Compress::Fast] {
        let taken = Arc::new(AtomicUsize::new(0));
        let body = Counted { taken: Arc::clone(&taken), state: 1 };
        let put = move |peer: Peer| {
            peer.carried(Carriage { compress, flow: None, patience: None }).put::<Value>("/v1/stall", body, None)
        };
        let sending = tokio::spawn({
            let socket = alpha.out();
            async move { ask(&socket, "beta", put).await.map(drop) }
        });
        tokio::time::sleep(STALL / 2).await;
        let ahead = taken.load(Ordering::Relaxed);
        assert!(ahead > 0 && ahead < 32 << 20, "{compress:?}: {ahead} bytes are somewhere on the way");
        // Answered before the body has ended, which it never does.
        let _ = sending.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_takes_is_given_up() {
    let (alpha, _beta) = pair().await;
    let body = Counted { taken: Arc::default(), state: 1 };
    let carriage = Carriage { patience: Some(Duration::from_secs(1)), ..Carriage::default() };
    let put = move |peer: Peer| peer.carried(carriage).put::<Value>("/v1/stall", body, None).map(drop);
    let begun = std::time::Instant::now();
    assert!(ask(&alpha.out(), "beta", put).await.is_err());
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1) && took < STALL, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_arrives_unchanged_whatever_way_it_goes() {
    let (alpha, _beta) = pair().await;
    for compress in [Compress::Off, Compress::Fast] {
        let fetch = move |peer: Peer| {
            let mut bytes = Vec::new();
            let peer = peer.carried(Carriage { compress, flow: None, patience: None });
            peer.get_stream("/v1/bytes").unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert!(ask(&alpha.out(), "beta", fetch).await == pattern(10 << 20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_a_window_that_is_too_large_is_refused() {
    let (alpha, beta) = pair().await;
    let mut link = alpha.call(&beta).await.unwrap();
    // A frame that asks for a window of 16 MiB, with one block of 100,000 zeros.
    let bomb = [&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x70][..], &[0x03, 0x35, 0x0C, 0x00]].concat();
    let mut request = hyper::Request::new(whole(bomb));
    *request.method_mut() = Method::PUT;
    *request.uri_mut() = "/v1/put".parse().unwrap();
    request.headers_mut().insert("content-encoding", "zstd".parse().unwrap());
    let response = link.send(request).await.unwrap();
    let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert!(!status.is_success() || answer["broken"] == true, "{status} {answer}");
    assert_eq!(answer["digest"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_fails_breaks_the_request_off() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("the disk is gone"))?;
            into.fill(7);
            Ok(into.len())
        }
    }
    let (alpha, _beta) = pair().await;
    for compress in [Compress::Off, Compress::Fast] {
        let put = move |peer: Peer| {
            peer.carried(Carriage { compress, flow: None, patience: None }).put::<Value>("/v1/put", Failing(50), None)
        };
        assert!(ask(&alpha.out(), "beta", put).await.is_err(), "{compress:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_peer_says_against_it_arrives() {
    let (alpha, _beta) = pair().await;
    let error = ask(&alpha.out(), "beta", |peer| peer.post::<Value>("/v1/refuse", &json!({}), None)).await.unwrap_err();
    assert!(matches!(error, PeerError::Refused { status: 409, .. }), "{error:?}");
    assert_eq!((error.to_string().as_str(), error.remedy()), ("beta refused `POST /v1/refuse`: no", Some("later")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_removed_is_cut_off_at_once() {
    let (alpha, beta) = pair().await;
    let mut link = alpha.call(&beta).await.unwrap();
    assert_eq!(status(&mut link, Method::GET, HELLO, &[], whole(vec![])).await, StatusCode::OK);
    beta.knows(&[], false);
    assert!(timeout(Duration::from_secs(2), gone(&mut link)).await.is_ok());
    // A caller's half of the handshake may be over before the other host has looked at its key.
    if let Ok(mut link) = alpha.call(&beta).await {
        assert!(timeout(Duration::from_secs(2), gone(&mut link)).await.is_ok());
    }
}

/// Returns when the other end has closed.
async fn gone(link: &mut Link) {
    while link.is_usable().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_stands_without_being_used() {
    let (alpha, beta) = pair().await;
    let mut link = alpha.call(&beta).await.unwrap();
    assert_eq!(status(&mut link, Method::GET, HELLO, &[], whole(vec![])).await, StatusCode::OK);
    assert!(link.is_usable().await);
    assert!(timeout(Duration::from_secs(7), gone(&mut link)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let (alpha, beta) = pair().await;
    let mut link = alpha.call(&beta).await.unwrap();
    let large = "x".repeat(20 << 10);
    let status = status(&mut link, Method::GET, HELLO, &[("x-large", &large)], whole(vec![])).await;
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_still_goes_by_its_former_key_where_that_is_the_one_known() {
    let (mut alpha, beta) = pair().await;
    let former = alpha.key();
    alpha.identity.rotate().unwrap();
    // Beta has not heard of the new key.
    let remote = |own| Remote {
        name: "beta".parse().unwrap(),
        keys: vec![beta.key()],
        addresses: vec![beta.address.clone()],
        own,
    };
    alpha.go_by(vec![remote(former)], false);
    ask(&alpha.out(), "beta", |peer| peer.get::<Value>(HELLO)).await.unwrap();
    ask(&beta.out(), "alpha", |peer| peer.get::<Value>(HELLO)).await.unwrap();
    alpha.go_by(vec![remote(alpha.key())], false);
    assert!(ask(&alpha.out(), "beta", |peer| peer.get::<Value>(HELLO)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept() {
    let (alpha, _beta) = pair().await;
    let begun = std::time::Instant::now();
    let put = |peer: Peer| {
        let flow = std::num::NonZeroU64::new(2 << 20).map(Flow::of);
        let carriage = Carriage { compress: Compress::Off, flow, patience: None };
        peer.carried(carriage).put::<Value>("/v1/put", Made { at: 0, length: 2 << 20 }, None)
    };
    assert_eq!(ask(&alpha.out(), "beta", put).await.unwrap()["length"], 2 << 20);
    assert!(begun.elapsed() > Duration::from_millis(800), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_by_many_small_bodies_of_one_flow_together() {
    let (alpha, _beta) = pair().await;
    let carriage = Carriage { flow: std::num::NonZeroU64::new(1 << 20).map(Flow::of), ..Carriage::default() };
    let begun = std::time::Instant::now();
    let workers = (0..4).map(|_| {
        let socket = alpha.out();
        let put = move |peer: Peer| {
            let peer = peer.carried(carriage);
            (0..16).for_each(|_| drop(peer.put::<Value>("/v1/put", Made { at: 0, length: 16 << 10 }, None).unwrap()));
        };
        tokio::spawn(async move { ask(&socket, "beta", put).await })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    // One MiB in all, of which a tenth may go at once.
    assert!(begun.elapsed() > Duration::from_millis(800), "{:?}", begun.elapsed());
}
