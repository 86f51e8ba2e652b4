//! The network of a container while it is away: nobody who talks to it may notice more than a pause.
mod command;
mod error;
mod frames;
pub mod hold;
#[cfg(test)]
mod lab;
mod netlink;
pub mod netns;
pub mod neighbours;
mod packet;
mod poll;
mod queue;
mod rules;
pub mod spec;
pub mod tracking;

pub use error::{Error, Result};
