//! What a checkpoint remembers of its container's network: what is held, and what was tracked.

use super::backlog;
use super::error::Result;
use super::netns::NetNs;
use super::spec::{HoldSpec, ReplyTuple};
use super::tracking::{self, Entry, Tuple};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The network of a container at the moment it was frozen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Remembered {
    /// What its hold covers.
    pub spec: HoldSpec,
    /// The hold's queue; `None` where there is none (namespaces of other containers).
    pub queue: Option<u16>,
    /// Its connections as the host tracked them.
    pub tracked: Vec<Entry>,
}

impl Remembered {
    /// Reads the host's connection tracking for the addresses of `spec`. What both ends have closed is not remembered: no
    /// process has such a connection any more.
    ///
    /// # Errors
    /// When the kernel does not give its table.
    pub fn now(spec: HoldSpec, queue: Option<u16>) -> Result<Self> {
        let tracked = tracking::save(&spec.addresses)?.into_iter().filter(|entry| !entry.is_over()).collect();
        Ok(Self { spec, queue, tracked })
    }

    /// The same, of a container that stands still and whose new connections are held, with its network namespace; and the
    /// host forgets the connections from outside that are over. A web server leaves tens of thousands of them in the table,
    /// which is read in full for every other container that is frozen, and once more by dockerd for each that it takes down.
    /// dockerd deletes what is tracked of a container's addresses, by the list that it has read: a visitor who uses a port
    /// again, and is led to where the container has gone by then, may be in the place of an old connection, and would go with
    /// it.
    ///
    /// # Errors
    /// When the kernel does not give its tables, or takes nothing out of them.
    pub fn standing_still(spec: HoldSpec, queue: Option<u16>, namespace: &NetNs) -> Result<Self> {
        // Tracking takes any acknowledgement for the last one; the container's own end knows better.
        let open = backlog::not_over(namespace)?;
        let is_open = |tuple: Tuple| open.contains(&(tuple.source, tuple.destination));
        let is_over = |entry: &Entry| entry.is_over() && !is_open(entry.reply) && !is_open(entry.original);
        let (over, tracked): (Vec<_>, Vec<_>) = tracking::save(&spec.addresses)?.into_iter().partition(is_over);
        let came_in = |entry: &Entry| !spec.addresses.contains(&entry.original.source.ip());
        tracking::remove(&over.into_iter().filter(came_in).collect::<Vec<_>>())?;
        Ok(Self { spec, queue, tracked })
    }

    /// The container's own addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.spec.addresses
    }

    /// Where what belongs to its open connections arrives, other than at its addresses and its published ports.
    pub fn outbound(&self) -> Vec<ReplyTuple> {
        let HoldSpec { addresses, published, .. } = &self.spec;
        let mut tuples = tracking::outbound_replies(&self.tracked, addresses);
        tuples.extend(tracking::led_arrivals(&self.tracked, addresses, published));
        tuples
    }
}
