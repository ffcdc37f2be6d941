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

mod admin;
mod clients;
mod drain;
mod framing;
mod headers;
mod hooks;
mod http2;
mod http2_abuse;
mod http2_both;
mod http2_drain;
mod http2_spec;
mod http2_streams;
mod keep_alive;
mod overlap;
mod prestop;
mod process;
mod proxy_protocol;
mod readiness;
mod size;
mod smuggling;
mod sse;
mod support;
mod timers;
mod tls;
mod upgrade;
mod upstream;
mod upstream_http2;
mod user_prestop;
mod websocket;
