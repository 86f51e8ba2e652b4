//! An invitation as one word, to be carried from one host to the other by whatever way an operator trusts.
//!
//! `transship-1-` and base64url without padding of: expiry (8 bytes, seconds since 1970, big-endian), the inviter's
//! fingerprint (32), the secret (32), how many addresses (1), each address (TCP port in 2, length of the host in 1, the host
//! as text), and the first 4 bytes of the BLAKE3 of all that: whoever copies half of it is told so before anything is
//! contacted.

use super::Address;
use super::fingerprint::Fingerprint;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::str::FromStr;

/// What every token begins with. The number is the form's.
const PREFIX: &str = "transship-1-";

/// More addresses than a token can hold are not needed to find a host.
pub const MAX_ADDRESSES: usize = 16;

/// Longest token that can be.
const MAX_TEXT_BYTES: usize = 8192;

const CHECKSUM_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;

/// What proves that one was invited.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Where the inviter listens.
    pub addresses: Vec<Address>,
    /// The inviter's key: nobody else is talked to.
    pub fingerprint: Fingerprint,
    /// Known to the inviter and whoever has the token.
    pub secret: Secret,
    /// Until when, by the inviter's clock. The inviter decides; clocks of two hosts may differ.
    pub expires: Timestamp,
}

/// Why a word is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It begins otherwise.
    #[error("an invitation begins with {PREFIX:?}")]
    Prefix,
    /// It is longer than any.
    #[error("an invitation has at most {MAX_TEXT_BYTES} characters")]
    TooLong,
    /// It has a sign that no token has.
    #[error("the invitation has a character in it that does not belong there")]
    Encoding,
    /// Part of it is missing or was changed.
    #[error("the invitation is not whole: part of it is missing, or was changed on the way")]
    Checksum,
    /// It is whole and makes no sense.
    #[error("the invitation cannot be read: {0}")]
    Contents(&'static str),
}

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomNumbers;

impl Secret {
    /// A secret that nobody knows.
    pub fn generate() -> Result<Self, NoRandomNumbers> {
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomNumbers)?;
        Ok(Self(bytes))
    }

    /// What is kept of it: BLAKE3. Hashes compare in constant time.
    pub fn digest(&self) -> blake3::Hash {
        blake3::hash(&self.0)
    }

    /// As it is sent to the inviter.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// As the inviter gets it.
    pub fn decode(text: &str) -> Option<Self> {
        // Bounded before it is decoded.
        let text = Some(text).filter(|text| text.len() <= SECRET_BYTES * 2)?;
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

/// A secret is in no log line.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = &self.addresses[..self.addresses.len().min(MAX_ADDRESSES)];
        let mut bytes = self.expires.as_second().to_be_bytes().to_vec();
        bytes.extend(self.fingerprint.bytes());
        bytes.extend(self.secret.0);
        // Both lengths fit: there are 16 addresses at most, and a host has at most 253 bytes.
        bytes.push(addresses.len() as u8);
        for address in addresses {
            bytes.extend(address.port().to_be_bytes());
            bytes.push(address.host().len() as u8);
            bytes.extend(address.host().as_bytes());
        }
        bytes.extend(&blake3::hash(&bytes).as_bytes()[..CHECKSUM_BYTES]);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenFault;

    fn from_str(text: &str) -> Result<Self, TokenFault> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenFault::TooLong);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(TokenFault::Prefix)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|error| match error {
            // Cut off in the middle of a group of signs.
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidLastSymbol { .. } => {
                TokenFault::Checksum
            }
            _ => TokenFault::Encoding,
        })?;
        let (contents, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenFault::Checksum)?;
        if blake3::hash(contents).as_bytes()[..CHECKSUM_BYTES] != checksum[..] {
            return Err(TokenFault::Checksum);
        }
        read(contents)
    }
}

fn read(contents: &[u8]) -> Result<Token, TokenFault> {
    let mut rest = contents;
    let seconds = i64::from_be_bytes(take(&mut rest)?);
    let expires =
        Timestamp::from_second(seconds).map_err(|_| TokenFault::Contents("it expires at no time there is"))?;
    let fingerprint = Fingerprint::from(take::<{ Fingerprint::BYTES }>(&mut rest)?);
    let secret = Secret(take(&mut rest)?);
    let [count] = take(&mut rest)?;
    if count == 0 || usize::from(count) > MAX_ADDRESSES {
        return Err(TokenFault::Contents("it has no addresses, or too many"));
    }
    let addresses = (0..count).map(|_| read_address(&mut rest)).collect::<Result<_, _>>()?;
    match rest.is_empty() {
        true => Ok(Token { addresses, fingerprint, secret, expires }),
        false => Err(TokenFault::Contents("something follows its end")),
    }
}

fn read_address(rest: &mut &[u8]) -> Result<Address, TokenFault> {
    let port = u16::from_be_bytes(take(rest)?);
    let [length] = take(rest)?;
    let (host, behind) = rest.split_at_checked(usize::from(length)).ok_or(TokenFault::Contents(ENDS))?;
    *rest = behind;
    let host = str::from_utf8(host).map_err(|_| TokenFault::Contents("an address is no text"))?;
    Address::new(host, port).map_err(|_| TokenFault::Contents("an address is none"))
}

const ENDS: &str = "it ends too early";

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TokenFault> {
    let (taken, behind) = rest.split_first_chunk::<N>().ok_or(TokenFault::Contents(ENDS))?;
    *rest = behind;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(contents: &[u8]) -> String {
        let digest = blake3::hash(contents);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([contents, &digest.as_bytes()[..CHECKSUM_BYTES]].concat()))
    }

    fn token() -> Token {
        Token {
            addresses: vec!["10.1.2.3:7423".parse().unwrap(), "[fd00::1]:7423".parse().unwrap()],
            fingerprint: Fingerprint::from([7; 32]),
            secret: Secret([9; SECRET_BYTES]),
            expires: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
            "[a-z0-9]{1,200}\\.[a-z]{2,10}",
        ]
    }

    proptest! {
        #[test]
        fn a_token_is_read_back_as_it_was_written(
            hosts in proptest::collection::vec((host(), 1..=u16::MAX), 1..=MAX_ADDRESSES),
            fingerprint: [u8; 32],
            secret: [u8; SECRET_BYTES],
            seconds in 0..253_402_207_200i64,
        ) {
            let token = Token {
                addresses: hosts.iter().map(|(host, port)| Address::new(host, *port).unwrap()).collect(),
                fingerprint: fingerprint.into(),
                secret: Secret(secret),
                expires: Timestamp::from_second(seconds).unwrap(),
            };
            let text = token.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(text.parse(), Ok(token));
        }

        #[test]
        fn no_text_is_too_strange_to_be_refused(text in "\\PC{0,300}", bytes: Vec<u8>) {
            prop_assert!(text.parse::<Token>().is_err());
            let prefixed = format!("{PREFIX}{text}");
            prop_assert!(prefixed.parse::<Token>().is_err());
            if let Ok(token) = sealed(&bytes).parse::<Token>() {
                prop_assert_eq!(token.to_string(), sealed(&bytes));
            }
        }

        #[test]
        fn no_contents_are_too_strange_either(head in proptest::collection::vec(any::<u8>(), 72), tail: Vec<u8>) {
            let _ = sealed(&[&head[..], &[1], &tail[..]].concat()).parse::<Token>();
        }

        #[test]
        fn a_token_that_was_cut_or_changed_is_no_token(cut in 0usize..200, at in 12usize..200, sign in "[A-Za-z0-9_-]") {
            let text = token().to_string();
            prop_assume!(cut < text.len() && at < text.len());
            prop_assert!(text[..cut].parse::<Token>().is_err());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &sign);
            prop_assume!(changed != text);
            prop_assert!(changed.parse::<Token>().is_err());
        }
    }

    #[test]
    fn what_is_wrong_with_a_token_is_told() {
        let text = token().to_string();
        assert_eq!("hello".parse::<Token>(), Err(TokenFault::Prefix));
        assert_eq!(text[..text.len() - 3].parse::<Token>(), Err(TokenFault::Checksum));
        assert_eq!(format!("{text} ").parse::<Token>(), Err(TokenFault::Encoding));
        assert_eq!(format!("{PREFIX}{}", "A".repeat(MAX_TEXT_BYTES)).parse::<Token>(), Err(TokenFault::TooLong));
        assert_eq!(sealed(&[0; 73]).parse::<Token>(), Err(TokenFault::Contents("it has no addresses, or too many")));
    }

    #[test]
    fn a_secret_is_in_no_log_line() {
        assert!(!format!("{:?}", token()).contains('9'), "{:?}", token());
    }

    #[test]
    fn a_secret_is_read_back_and_nothing_else_is_one() {
        let secret = Secret::generate().unwrap();
        assert_eq!(Secret::decode(&secret.encode()).unwrap().digest(), secret.digest());
        for bad in ["", "AAAA", &"A".repeat(64), &"A".repeat(100)] {
            assert!(Secret::decode(bad).is_none(), "{bad:?}");
        }
    }
}
