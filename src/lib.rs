//! transship
pub mod network;
