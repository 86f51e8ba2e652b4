//! The network of a container while it is away: nobody who talks to it may notice more than a pause.
pub mod backlog;
mod command;
mod error;
mod frames;
pub mod hold;
#[cfg(test)]
mod lab;
pub mod inside;
mod netlink;
pub mod netns;
pub mod neighbours;
mod packet;
mod poll;
pub mod published;
mod queue;
mod rules;
pub mod spec;
pub mod temporary;
pub mod tracking;

pub use error::{Error, Result};
