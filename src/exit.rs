//! Pure. How the process may end: every exit code once.
//!
//! The numbers are those of BSD's `sysexits.h`, which other tools read the same way; those of `inject`, `uninject` and
//! `check` are what people who pipe manifests expect.

/// Drained or stopped with nothing abandoned; a tool did what it was asked.
pub const OK: u8 = 0;

/// `inject`, `uninject`, `check`: the manifests can't be read, written or undone; as kubectl has it.
pub const MANIFESTS: u8 = 1;

/// `inject --strict`: something was skipped.
pub const SKIPPED: u8 = 2;

/// `check`: there is something to do.
pub const FOUND: u8 = 2;

/// `EX_USAGE`: bad configuration or usage; no port was bound.
pub const USAGE: u8 = 64;

/// `EX_SOFTWARE`: an internal error; for tools, the sidecar could not be reached or refused.
pub const INTERNAL: u8 = 70;

/// `EX_OSERR`: a port can't be bound.
pub const BIND: u8 = 71;

/// `EX_TEMPFAIL`: the deadline cut something; for `drain --wait`, its time was up.
pub const CUT: u8 = 75;
