//! The hook token, from a file: on a command line other users of the machine see it.

use std::{fs, path::Path};

use super::args;

/// A file that holds no token.
#[derive(Debug, thiserror::Error)]
#[error("--hook-token-file {0}")]
pub(in crate::cli) struct BadToken(String);

/// The token in a file, which may end with a newline, as editors have it.
pub(super) fn read(file: &Path) -> Result<String, BadToken> {
    let failed = |what: String| BadToken(format!("{}: {what}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let text =
        text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    args::token(text).map_err(|problem| failed(problem.to_string()))
}
