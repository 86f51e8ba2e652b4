//! Bringing a container back: verified images, a claim, and the conversation with the interposer.
//!
//! ```text
//!  docker start ─► shim ─► interposer            helper's gate
//!                   create ──────────── Create ──► verified images? ── Restore(images)
//!                   runc restore (stopped)
//!                           ─────────── Restored ─► pid noted
//!  dockerd: eth0, ports
//!                   start ───────────── Start ───► claim committed, tracking put back, hold lifted ── Go
//!                   SIGCONT
//! ```

pub mod addresses;
pub mod carry_out;
mod criu_config;
pub mod gate;
mod group;
pub mod prepare;
pub mod settle;
pub mod thaw;
