//! What runs here: Docker's API, as far as moving containers needs it.
//!
//! Containers are read as the JSON that the Engine API returns and not as types, since a checkpoint keeps the
//! specification whole, with fields that only a newer engine knows.

mod client;
mod container;
mod pull;
mod resources;
mod running;
mod specification;
mod swarm;

pub use client::{Client, DockerError, Engine};
pub use container::Container;
pub use pull::{Patience as PullPatience, PullError};
pub use resources::{is_same_network, network_request};
pub use running::Running;
pub use specification::{RestartPolicy, creation_request, labelled, unlabelled};
pub use swarm::{Node, TASK_LABEL};
