//! Service managers, and the interposer's place in front of runc.
//!
//! Who runs `runc` is containerd's shim, with containerd's environment. So the interposer's directory is put in
//! front of the services' `PATH`: by systemd drop-ins, or through `/etc/default` where there is no systemd. No
//! file of the distribution is renamed, diverted or edited.

mod containerd;
mod ending;
mod interposition;
mod manager;
mod placement;
mod weights;

pub use ending::Ending;
pub use interposition::{ACTION_SCRIPT, Interposition, effective_runc, install_plan};
pub use manager::{ManagerError, ServiceManager};
pub use placement::{Change, Installation, PlacementError};
pub use weights::{Heavier, Weights};
