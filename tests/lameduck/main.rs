//! Behaviour of the real process, seen from outside: `lameduck proxy` between raw sockets.
//!
//! One binary. Each module holds one area; `support` holds what they are made of.
//! `LAMEDUCK_TEST_SEED` repeats a randomised test, `LAMEDUCK_TEST_REPEAT` lengthens it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a test crate: a panic is a verdict, its output is shown on failure, and it exports nothing"
)]

mod framing;
mod headers;
mod smuggling;
mod support;
