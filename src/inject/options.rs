//! Pure. What can be chosen per pod by annotation, per run by `--set` and per cluster by the injector's configuration:
//! one table of keys for all three.

/// The choices, each with its default.
#[derive(Clone, Debug, Default)]
pub struct Options {}

/// A choice that can't be read: `lameduck.dev/drain-timeout=5x: expected a duration such as 500ms, 30s or 2m`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={value}: expected {expected}")]
pub struct BadOption {
    /// The key, without a prefix.
    pub key: String,
    /// What was given.
    pub value: String,
    /// What would have been right.
    pub expected: String,
}

// === impl Options ===

impl Options {
    /// Chooses `value` for `key`, as in the annotation `lameduck.dev/key: value`.
    ///
    /// # Errors
    /// There is no such key, or its value can't be read.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), BadOption> {
        let expected = "a key that is built".to_owned();
        Err(BadOption { key: key.to_owned(), value: value.to_owned(), expected })
    }
}
