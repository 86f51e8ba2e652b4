//! transship freezes running Docker containers with CRIU and brings them back with their connections open.
pub mod archive;
pub mod checkpoint;
pub mod cli;
pub mod criu;
pub mod docker;
pub mod failure;
pub mod helper;
pub mod interposer;
pub mod network;
pub mod operations;
pub mod process;
pub mod restore;
pub mod saga;
pub mod services;
pub mod settings;
pub mod store;
pub mod world;
