//! transship
pub mod archive;
pub mod store;
