//! What is told of operations, of whatever kind: what goes on, what was done, and what it took.

pub mod metrics;
pub mod report;
pub mod status;
