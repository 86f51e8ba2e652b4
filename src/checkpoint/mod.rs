//! Taking checkpoints: what can be frozen, and the freezing and dumping of it.

pub mod preflight;
