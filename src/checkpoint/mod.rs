//! From a running container to files on disk: may it be frozen ([`preflight`]), its dump ([`dump`]), what has to
//! be known about it ([`describe`], [`mapped`]), and mending it when the dump did not come to its end ([`mend`]).

pub mod describe;
pub mod dump;
pub mod freezer;
pub mod live_memory;
pub mod mapped;
pub mod memory;
pub mod mend;
pub mod preflight;
pub mod runtime;
