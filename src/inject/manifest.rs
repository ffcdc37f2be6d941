//! Pure. Manifests as people write them: YAML documents, lists, JSON, and the pod templates in them.
//!
//! [`Manifests::read`] takes streams apart, [`apply::inject`] and [`apply::uninject`] change what is in them,
//! [`render::render`] puts them together again: documents that were not changed byte for byte, the others written
//! anew. Not here: what is done to a pod, and where streams come from.

pub mod apply;
pub mod json;
pub mod live;
pub mod marks;
pub mod mending;
pub mod missed;
pub mod named;
pub mod objects;
pub mod pods;
pub mod policies;
pub mod read;
pub mod reading;
pub mod reference;
pub mod refusals;
pub mod render;
pub mod report;
pub mod scalar;
pub mod services;
pub mod split;
pub mod write;

use serde_json::Value;

use self::{
    reading::Doubt,
    split::{Chunk, Format},
};

/// Why a stream of manifests can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Unreadable {
    /// Where; the first line is 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Where something can't be used: a file, or standard input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {error}")]
pub struct InSource {
    /// The name of the stream.
    pub source_name: String,
    /// What is wrong there.
    pub error: Unreadable,
}

/// A stream of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// How messages call it.
    pub name: &'a str,
    /// Its bytes, which must be UTF-8.
    pub text: &'a str,
}

/// One document of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'a> {
    /// The name of its stream.
    pub source: &'a str,
    /// How it was written.
    pub chunk: Chunk<'a>,
    /// What it says; null if nothing.
    pub value: Value,
    /// Reasons not to write it anew.
    pub doubts: Vec<Doubt>,
    /// Whether `value` is no longer what was written.
    pub changed: bool,
}

/// All documents of all streams, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests<'a> {
    /// The documents.
    pub documents: Vec<Document<'a>>,
}

// === impl Manifests ===

impl<'a> Manifests<'a> {
    /// Reads streams whole: if any part of any of them is wrong, nothing is to be had of them.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn read(sources: &[Source<'a>]) -> Result<Self, InSource> {
        let mut documents = Vec::new();
        for source in sources {
            let of_source = Document::read_all(*source)
                .map_err(|error| InSource { source_name: source.name.to_owned(), error })?;
            documents.extend(of_source);
        }
        Ok(Self { documents })
    }
}

// === impl Document ===

impl<'a> Document<'a> {
    fn read_all(source: Source<'a>) -> Result<Vec<Self>, Unreadable> {
        let read = |chunk: Chunk<'a>| {
            let reading = read::read(&chunk)?;
            let (value, doubts) = (reading.value, reading.doubts);
            Ok(Self { source: source.name, chunk, value, doubts, changed: false })
        };
        split::split(source.text)?.into_iter().map(read).collect()
    }

    /// The line on which its body begins.
    #[must_use]
    pub fn line(&self) -> usize {
        self.chunk.line + self.chunk.head.matches('\n').count()
    }

    /// Whether it is written as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        match self.chunk.format {
            Format::Json => true,
            Format::Yaml => false,
        }
    }
}

// === impl Unreadable ===

impl Unreadable {
    /// Something wrong on line `line`.
    pub fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}
