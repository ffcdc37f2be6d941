//! lameduck: a reverse-proxy sidecar that lets a pod leave without losing a request.
//!
//! This page is the map. One idea holds it together: **the phase is the only message.** A pure state
//! machine ([`lifecycle::machine`]) turns inputs and time into a [`lifecycle::Phase`]; its driver
//! ([`lifecycle::driver`]) publishes the phase on one channel; everything else derives what it does from it.
//!
//! | you look for | open |
//! | --- | --- |
//! | what a phase means | [`lifecycle`] |
//! | the line where a request is sent to the app | `proxy/forward.rs` |
//! | what happens to a header | `proxy/headers.rs` |
//! | which status an error becomes | `proxy/error.rs` |
//! | a variable | `config/vars.rs` |
//! | a hook or `/status` | `admin/` |
//!
//! Modules marked `Pure.` know no runtime, clock, environment or IO; `tests/` holds a test that checks it.

pub mod admin;
pub mod app;
pub mod app_drain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod exit;
pub mod inject;
pub mod lifecycle;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod process;
pub mod proxy;
pub mod readiness;
pub mod signals;
pub mod slots;
pub mod socket;
pub mod telemetry;
pub mod tls;
pub mod tracker;
pub mod units;
pub mod user_prestop;
pub mod webhook;
