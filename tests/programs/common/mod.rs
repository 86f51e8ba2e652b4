//! What the test programs share: payloads that can be told apart, the line protocol's server and client.

#![allow(dead_code, reason = "each program uses its part")]

pub mod client;
pub mod payload;
pub mod server;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The first process of a container does not die of a signal that it does not handle.
pub fn end_on_sigterm() {
    extern "C" fn end(_: i32) {
        // SAFETY: _exit(2) may be called in a signal handler.
        unsafe { nix::libc::_exit(0) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but end the process.
    unsafe { sigaction(Signal::SIGTERM, &action) }.expect("SIGTERM can be handled");
}

/// A number that no two starts of a program have in common.
pub fn birth() -> String {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").expect("/dev/urandom"), &mut bytes)
        .expect("8 bytes");
    format!("{:016x}", u64::from_le_bytes(bytes))
}
