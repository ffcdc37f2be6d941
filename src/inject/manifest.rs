//! Pure. Manifests as people write them: YAML documents, lists, JSON, and the pod templates in them.

pub mod json;
pub mod read;
pub mod scalar;
pub mod split;
pub mod write;

/// Why a stream of manifests can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Unreadable {
    /// Where; the first line is 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

// === impl Unreadable ===

impl Unreadable {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}
