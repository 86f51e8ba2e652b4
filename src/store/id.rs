//! Identifiers. Each is checked when it is made, so that a path or a command built from one is safe.
//!
//! The interposer uses this module: it stays with the standard library and serde.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits of a checkpoint's id.
pub const CHECKPOINT_ID_DIGITS: usize = 16;
/// Digits of a container's id, as Docker makes them.
pub const CONTAINER_ID_DIGITS: usize = 64;
/// Longest name of a checkpoint.
pub const MAX_NAME_BYTES: usize = 128;

/// Text that is no identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}")]
pub struct IdFault {
    text: String,
    kind: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdFault;

            fn from_str(text: &str) -> Result<Self, IdFault> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    // Not more of it than a person can read.
                    Err(IdFault { text: text.chars().take(150).collect(), kind: $kind })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identifier!(
    /// A checkpoint's id: 16 lowercase hex digits, drawn at random.
    CheckpointId,
    |text| is_hex(text, CHECKPOINT_ID_DIGITS),
    "a checkpoint id of 16 lowercase hex digits"
);
identifier!(
    /// A container's full id, as Docker gives it: 64 lowercase hex digits.
    ContainerId,
    |text| is_hex(text, CONTAINER_ID_DIGITS),
    "a container id of 64 lowercase hex digits"
);
identifier!(
    /// A name an operator gave a checkpoint: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`, the characters Docker allows for
    /// containers.
    CheckpointName,
    is_name,
    "a name of at most 128 letters, digits, '_', '.' and '-' that starts with a letter or digit"
);

impl CheckpointId {
    /// A new id from the kernel's random numbers.
    ///
    /// # Errors
    /// When `/dev/urandom` cannot be read.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; CHECKPOINT_ID_DIGITS / 2];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.len() <= MAX_NAME_BYTES
        && text
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn random_ids_are_valid_and_differ() {
        let (a, b) = (
            CheckpointId::random().unwrap(),
            CheckpointId::random().unwrap(),
        );
        assert_eq!(a.as_str().parse(), Ok(a.clone()));
        assert_ne!(a, b);
    }

    #[test]
    fn only_the_exact_form_is_taken() {
        for bad in [
            "",
            "0123456789abcde",
            "0123456789abcdeF",
            "0123456789abcdef0",
            "../3456789abcdef",
            "0123456789abcde\n",
        ] {
            assert!(bad.parse::<CheckpointId>().is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "-rf", "a/b", "a b", "ä", &"a".repeat(129)] {
            assert!(bad.parse::<CheckpointName>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<ContainerId>("\"../../etc\"").is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_identifier_is_one_plain_path_component(text in "\\PC{0,20}|[0-9a-f]{16}|[0-9a-f]{64}") {
            let accepted = text.parse::<CheckpointId>().is_ok()
                || text.parse::<ContainerId>().is_ok()
                || text.parse::<CheckpointName>().is_ok();
            prop_assert!(!accepted || (!text.contains('/') && !text.starts_with('.') && !text.is_empty()));
        }
    }
}
