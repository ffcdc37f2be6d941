//! HTTP/2: what is particular to it, towards clients and towards the app.
//!
//! The h2 crate does framing, HPACK and flow control (RFC 9113); when a connection is told to go away, what its
//! streams may cost, and what a request means to the app are ours.

pub mod message;
