//! transship

pub mod checkpoint;
pub mod criu;
