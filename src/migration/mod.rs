//! Containers that move between hosts, and keep their connections.
//!
//! ```text
//!   evacuated_upgrade ──► evacuate, homecoming ──► source ┄┄┄ inward ┄┄┄► destination
//!                                                     └──► words ◄──────────┘
//! ```
//!
//! * [`source`]: the host that containers leave, and [`destination`]: the one that they come to; neither uses the other;
//! * [`words`]: what the two say to each other, and [`asking`]: how; [`tree`], [`networks`] and [`logs`]: what goes along;
//! * [`evacuate`], [`homecoming`] and [`evacuated_upgrade`]: what is made of several migrations; [`groups`]: what they have in
//!   common;
//! * [`decide`]: where a person has the last word, which either host carries out by its `forced` ([`forced`] is common to both);
//! * [`inward`]: what peers ask of all these.

pub mod asking;
pub mod decide;
pub mod destination;
pub mod evacuate;
pub mod evacuated_upgrade;
pub mod forced;
pub mod groups;
pub mod homecoming;
pub mod inward;
pub mod logs;
pub mod networks;
pub mod source;
pub mod tree;
pub mod words;
