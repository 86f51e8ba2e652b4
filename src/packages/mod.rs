//! The packages that Docker Engine was installed from: which they are, which versions there are, and changing them
//! so that there is a way back.
//!
//! ```text
//!   engine ─► problems ─► target ─► plan ─► fetch ──► forward ─┐
//!   (what is  (why not)   (which    (what    both      backward ┼─► install ─► differences
//!    here)                 versions) changes) on disk           │      │
//!                                                               └── repair (after a crash half way)
//! ```
//!
//! Nothing before `install` changes the host's packages, and `install` reads nothing but what `fetch` left on disk: it
//! needs no network, and it can pull in nothing that was not planned.
//!
//! Services are not restarted here. Whoever installs calls [`PackageManager::defer_service_starts`] before and
//! [`PackageManager::allow_service_starts`] after, and restarts the engine when it suits.

mod apt;
mod difference;
mod engine;
mod error;
mod plan;
mod problem;
mod set;

use std::path::Path;

pub use apt::{Apt, without_epoch};
pub use difference::Difference;
pub use engine::{EnginePackage, EnginePackages, Family, Role};
pub use error::{PackageError, Result};
pub use plan::{Change, Direction, Offer, Plan, Reason, Space, Suite, Target, Wanted, Wish};
pub use problem::{Holder, Problem};
pub use set::{Archive, Fetched, PackageSet};

/// What the manager does just now, told while it does it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Bytes that are here, of all that are needed.
    Fetched { bytes: u64, of: u64 },
    /// How far an installation is, in percent.
    Percent(f32),
    /// A line that the manager or a package's script wrote.
    Line(String),
}

/// Who hears of [`Event`]s; called on the thread of the call that it was given to.
pub type Watch<'a> = &'a mut dyn FnMut(Event);

/// The host's package manager, as far as an engine needs it.
///
/// Calls take as long as the manager takes: seconds for queries, minutes for [`fetch`](Self::fetch) and
/// [`install`](Self::install). All of them want root, and none is meant to run beside another.
pub trait PackageManager: Send + Sync {
    /// Its name, as operators know it.
    fn name(&self) -> &'static str;

    /// The engine's packages that are installed.
    ///
    /// # Errors
    /// [`PackageError::NoEngine`] where the engine did not come from a package.
    fn engine(&self) -> Result<EnginePackages>;

    /// What speaks against changing anything just now; empty where nothing does. `packages` are those to be changed.
    fn problems(&self, packages: &[String]) -> Result<Vec<Problem>>;

    /// The versions of a package that the manager knows, newest first; empty where it knows none.
    fn versions(&self, package: &str) -> Result<Vec<Offer>>;

    /// The versions that the engine's packages are to have.
    ///
    /// # Errors
    /// One-sentence refusals: [`PackageError::NoSuchVersion`], [`PackageError::AlreadyInstalled`],
    /// [`PackageError::Downgrade`], [`PackageError::Held`].
    fn target(&self, wish: &Wish) -> Result<Target>;

    /// Everything that would change on the way to `target`, found by simulating it.
    ///
    /// # Errors
    /// [`PackageError::Unsatisfiable`] where the manager finds no way, [`PackageError::Held`] where the way is barred.
    fn plan(&self, target: &Target) -> Result<Plan>;

    /// Whether the places answer that [`fetch`](Self::fetch) would bring packages from.
    ///
    /// # Errors
    /// [`PackageError::Unreachable`] with the first that does not.
    fn reach(&self, plan: &Plan) -> Result<()>;

    /// Brings all that the plan installs, and all that it replaces or removes, into `directory`, which is made with
    /// mode 0700. When it returns, both sets are verified and have reached the disk. Running it again fetches only
    /// what is missing.
    ///
    /// # Errors
    /// [`PackageError::Space`] before a byte is fetched, [`PackageError::NoWayBack`] where the present version of a
    /// package cannot be had anywhere.
    fn fetch(&self, plan: &Plan, directory: &Path, watch: Watch<'_>) -> Result<Fetched>;

    /// From now on packages that are installed start, stop and restart no service. What had to be replaced for that is
    /// kept in `saved`, a directory of the caller's. Doing it twice is doing it once.
    fn defer_service_starts(&self, saved: &Path) -> Result<()>;

    /// Puts back exactly what [`defer_service_starts`](Self::defer_service_starts) found, also from another process,
    /// also when that one was killed half way, also twice.
    fn allow_service_starts(&self, saved: &Path) -> Result<()>;

    /// Installs the set from its files, without network, and nothing else. It returns when the manager has ended;
    /// should the caller die, the manager goes on to its end.
    ///
    /// Returns the packages that were to go and stay, because something else needs them by now.
    ///
    /// # Errors
    /// [`PackageError::NotAsPlanned`] before anything is changed, where the host is not any more as it was planned for;
    /// [`PackageError::Install`] or [`PackageError::Incomplete`] with packages left half way, for
    /// [`repair`](Self::repair).
    fn install(&self, set: &PackageSet, watch: Watch<'_>) -> Result<Vec<String>>;

    /// Brings the host to `set` from wherever a killed or failed installation left it. Waits for a manager that is
    /// still running. The surest way is on in the direction that was being gone, and from there back.
    ///
    /// # Errors
    /// As [`install`](Self::install), and [`PackageError::Locked`] where somebody else keeps the manager busy.
    fn repair(&self, set: &PackageSet, watch: Watch<'_>) -> Result<Vec<String>>;

    /// Where the host differs from `set`: empty when each of its packages is installed at its version and configured.
    fn differences(&self, set: &PackageSet) -> Result<Vec<Difference>>;
}

/// The package manager of this host.
///
/// # Errors
/// [`PackageError::NoManager`] where it is none that is known here.
pub fn of_this_host() -> Result<Box<dyn PackageManager>> {
    match Apt::is_here() {
        true => Ok(Box::new(Apt)),
        false => Err(PackageError::NoManager),
    }
}
