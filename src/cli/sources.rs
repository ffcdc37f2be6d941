//! Where manifests come from: files, or standard input.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _},
    path::Path,
};

use clap::Args;

use crate::inject::manifest::Source;

/// Says "standard input" as kubectl does.
const STDIN: &str = "-";

/// Where the manifests are.
#[derive(Clone, Debug, Args)]
pub struct Input {
    /// A file of manifests, or - for standard input, which is the default; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<String>,
}

/// A stream that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadStream(pub(super) String);

/// A stream of manifests, read to its end.
#[derive(Debug)]
pub(super) struct Text {
    name: String,
    text: String,
}

/// Reads every stream that is asked for.
pub(super) fn read(input: &Input) -> Result<Vec<Text>, BadStream> {
    if input.files.is_empty() {
        if io::stdin().is_terminal() {
            return Err(BadStream("no manifests: name a file with -f, or pipe them in".to_owned()));
        }
        return Ok(vec![Text::from_stdin()?]);
    }
    if input.files.iter().filter(|name| *name == STDIN).count() > 1 {
        return Err(BadStream("standard input can be read only once".to_owned()));
    }
    input
        .files
        .iter()
        .map(|name| if name == STDIN { Text::from_stdin() } else { Text::from_file(name) })
        .collect()
}

// === impl Text ===

impl Text {
    pub(super) fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }

    fn from_stdin() -> Result<Self, BadStream> {
        let name = "standard input";
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| BadStream(format!("{name}: {error}")))?;
        Self::new(name, bytes)
    }

    fn from_file(name: &str) -> Result<Self, BadStream> {
        if Path::new(name).is_dir() {
            return Err(BadStream(format!("{name}: is a folder; name its files, each with -f")));
        }
        let bytes = fs::read(name).map_err(|error| BadStream(format!("{name}: {error}")))?;
        Self::new(name, bytes)
    }

    fn new(name: &str, bytes: Vec<u8>) -> Result<Self, BadStream> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            BadStream(format!("{name}: line {line}: not UTF-8"))
        })?;
        Ok(Self { name: name.to_owned(), text })
    }
}
