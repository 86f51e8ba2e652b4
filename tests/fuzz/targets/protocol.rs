//! What peers, invitations and operators say: words, and the bodies of requests and answers.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use transship::docker::creation_request;
use transship::helper::protocol::Request;
use transship::network::published;
use transship::migration::words::{Layers, LayersThere, Offer, Pull, Pulled, Sealed, Standing, Synced, Welcome};
use transship::transport::book::Book;
use transship::transport::port::config::Config;
use transship::transport::protocol::{Hello, PairAnswer, PairRequest, Problem, RotateRequest};
use transship::transport::token::{Secret, Token};
use transship::transport::{Address, Fingerprint, PeerName};

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    match which % 20 {
        0 => token(data),
        1 => words(data),
        2 => offer(data),
        3 => said::<PairRequest>(data),
        4 => said::<RotateRequest>(data),
        5 => said::<Hello>(data),
        6 => said::<PairAnswer>(data),
        7 => said::<Problem>(data),
        8 => said::<Sealed>(data),
        9 => said::<Standing>(data),
        10 => said::<Welcome>(data),
        11 => said::<Synced>(data),
        12 => said::<Request>(data),
        13 => drop(serde_json::from_slice::<Book>(data)),
        14 => drop(serde_json::from_slice::<Config>(data)),
        16 => said::<Layers>(data),
        17 => said::<LayersThere>(data),
        18 => said::<Pull>(data),
        19 => said::<Pulled>(data),
        _ => text(data, |text| drop(text.parse::<Token>())),
    }
});

/// What can be read can be said, and is read as the same.
fn said<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let said = serde_json::to_string(&value).expect("what was read can be said");
        let again: T = serde_json::from_str(&said).expect("what was said can be read");
        assert_eq!(serde_json::to_string(&again).unwrap(), said);
    }
}

/// The bytes are an invitation's, without the checksum that a fuzzer does not guess.
fn token(data: &[u8]) {
    let bytes = [data, &blake3::hash(data).as_bytes()[..4]].concat();
    let word = format!("transship-1-{}", URL_SAFE_NO_PAD.encode(bytes));
    if let Ok(token) = word.parse::<Token>() {
        assert_eq!(token.to_string(), word, "an invitation has one spelling");
    }
}

fn text(data: &[u8], read: impl FnOnce(&str)) {
    if let Ok(text) = str::from_utf8(data) {
        read(text);
    }
}

fn words(data: &[u8]) {
    text(data, |text| {
        if let Ok(address) = Address::parse_or(text, 7423) {
            let again: Address = address.to_string().parse().expect("an address that was read can be read again");
            assert_eq!(again.to_string(), address.to_string());
        }
        if let Ok(name) = text.parse::<PeerName>() {
            assert_eq!(PeerName::nearest(name.as_str()), name);
        }
        let _ = PeerName::nearest(text).numbered(data.len());
        if let Ok(fingerprint) = text.parse::<Fingerprint>() {
            assert_eq!(fingerprint.to_string().parse::<Fingerprint>().ok(), Some(fingerprint));
        }
        if let Some(secret) = Secret::decode(text) {
            assert_eq!(secret.encode(), text);
        }
    });
}

/// What is asked of Docker because of what a peer says of a container.
fn offer(data: &[u8]) {
    let Ok(offer) = serde_json::from_slice::<Offer>(data) else { return };
    for coming in &offer.members {
        let container = coming.container();
        let _ = (container.name(), container.image(), container.hostname(), container.shares_network_of());
        let _ = (container.restart_policy(), container.mounts().count(), container.health());
        let _ = published::from_inspect(&coming.inspect);
        creation_request(&coming.inspect);
    }
}
