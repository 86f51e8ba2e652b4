//! How two hosts talk: mutual TLS 1.3 between pinned keys, carried by a process without privileges.
//!
//! ```text
//!  helper (root) ── out.sock ──► port (unprivileged) ══ TLS 1.3 ══► the peer's port ── in.sock ──► its helper
//!     │ client: requests by a peer's name      │ outbound                    │ inbound
//!     └── stdin of the port: keys, peers ──────┘ picks key and address       └─ adds who asks, strips what claims it
//! ```
//!
//! The helper never terminates TLS, never parses HTTP from outside and never decompresses a peer's bytes: the [`port`]
//! does. Whoever takes the port over has this host's key and may speak in the name of its peers, but is not root.
//!
//! * [`identity`]: this host's key pairs; a [`Fingerprint`] is what others pin of one;
//! * [`token`]: an invitation, as one word to hand over;
//! * [`book`]: the peers, what each may do, and the invitations that are open;
//! * [`peers`]: identity and book together, and what the port is to know because of them;
//! * [`tls`]: who is let in, and who is believed to be the one that was called;
//! * [`port`]: the process; [`client`]: how the helper asks a peer through it, with bodies that [`pour`] in; [`protocol`]:
//!   what is said.
//!
//! Nothing here knows Docker or needs root.

pub mod address;
pub mod book;
pub mod caller;
pub mod client;
pub mod fingerprint;
pub mod identity;
pub mod name;
pub mod peers;
pub mod port;
pub mod protocol;
pub mod tls;
pub mod token;

mod file;
mod pour;

pub use address::Address;
pub use fingerprint::Fingerprint;
pub use name::PeerName;
