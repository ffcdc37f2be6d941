//! Pure. How bad it is what was found, the worst first.
//!
//! Not here: what was found ([`super::finding`]), and how it is put for people ([`super::text`]).

use serde::{Serialize, Serializer};

/// How it is with an object; what is worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It has the sidecar, which does not work.
    Broken,
    /// It keeps traffic from the sidecar.
    Blocked,
    /// It has the sidecar, which is not ready.
    NotReady,
    /// It leads past the sidecar.
    Bypassed,
    /// It asks for the sidecar and has none.
    NotInjected,
    /// It says something of ours that has no effect.
    Ineffective,
    /// Its sidecar has another version than this program.
    Outdated,
    /// The input does not say enough.
    Unknown,
    /// It is well, and there is something to know.
    Noted,
    /// It has the sidecar.
    Injected,
}

// === impl State ===

impl State {
    /// The stable word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Broken => "broken",
            Self::Bypassed => "bypassed",
            Self::Ineffective => "ineffective",
            Self::Injected => "injected",
            Self::NotInjected => "not-injected",
            Self::NotReady => "not-ready",
            Self::Noted => "noted",
            Self::Outdated => "outdated",
            Self::Unknown => "unknown",
        }
    }

    /// Whether somebody should do something.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        match self {
            Self::Blocked
            | Self::Broken
            | Self::Bypassed
            | Self::Ineffective
            | Self::NotInjected
            | Self::NotReady
            | Self::Outdated
            | Self::Unknown => true,
            Self::Injected | Self::Noted => false,
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
