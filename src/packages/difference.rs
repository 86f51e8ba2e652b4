//! Where the host is not as a set of packages says.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A package that is not as a set says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its name.
    pub package: String,
    /// The version that it should have.
    pub wanted: String,
    /// The version that is there, in whatever state; none where the package is not there at all.
    pub found: Option<String>,
    /// Whether what is there is installed in full and configured.
    pub configured: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, wanted, .. } = self;
        match &self.found {
            None => write!(f, "{package} {wanted} is not installed"),
            Some(found) if found == wanted => write!(f, "{package} {wanted} is not configured"),
            Some(found) => write!(f, "{package} is {found} instead of {wanted}"),
        }
    }
}
