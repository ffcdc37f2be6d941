//! Pure. What reading a document comes to, whatever it is written in: its value, and what is doubtful about it.

use serde_json::Value;

/// Something in a document that readers may not agree on, or that would be lost if it were written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Where; the first line of the stream is 1.
    pub line: usize,
    /// What it is, and what to write instead.
    pub what: String,
}

/// What a document says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Its value; null if it says nothing.
    pub value: Value,
    /// Reasons not to write it anew.
    pub doubts: Vec<Doubt>,
}
