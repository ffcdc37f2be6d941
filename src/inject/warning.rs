//! Pure. How long a warning may be.

/// How many characters a warning should have at most (the API server's `pkg/warning`).
const RECOMMENDED: usize = 120;

/// A warning that quotes what somebody wrote, cut to what the API server recommends.
pub(super) fn short(warning: String) -> String {
    cut(warning, RECOMMENDED)
}

/// The text with at most `longest` characters, of which the last one says that there were more.
pub(crate) fn cut(text: String, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text;
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}
