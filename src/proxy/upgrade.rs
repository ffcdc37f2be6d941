//! Tunnels: after a 101 the connection leaves HTTP, and bytes go both ways until both sides have closed.
//!
//! An idle tunnel holds no buffer. A side that closes is passed on as a half-close; the other direction flows on.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    downstream::{After, Conn},
    framing::Framing,
    in_flight::InFlight,
    io::Socket,
    relay::{Output, Relay},
    upstream::Lease,
    wait::Answer,
};
use crate::{lifecycle::InFlightRule, tracker::Count, units::Uptime};

/// Passes bytes both ways until the tunnel ends. `answer` holds the 101 and what came after it.
pub(super) async fn run(
    conn: &mut Conn,
    lease: &Lease,
    answer: &mut Answer,
    in_flight: &mut InFlight,
) -> After {
    let worker = Rc::clone(&conn.worker);
    let started = worker.clock.now();
    let up =
        Relay::new(Framing::UntilClose, Output::Plain, Vec::new(), &worker, Count::ClientBytesIn);
    let mut tunnel =
        Tunnel { conn, app: &lease.socket, up, answer, started, up_open: true, down_open: true };
    tunnel.conn.alarm.arm();
    let ending = poll_fn(|cx| tunnel.poll(cx)).await;
    match ending {
        Ending::Closed => {
            in_flight.end(Some(101));
            After::Gone
        }
        // Dropping the guard counts it as abandoned.
        Ending::Deadline => After::Cut,
    }
}

struct Tunnel<'a> {
    conn: &'a mut Conn,
    app: &'a Socket,
    up: Relay,
    answer: &'a mut Answer,
    started: Uptime,
    up_open: bool,
    down_open: bool,
}

/// What ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its ends did.
    Closed,
    /// The drain's budget was over.
    Deadline,
}

// === impl Tunnel ===

impl Tunnel<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let worker = Rc::clone(&self.conn.worker);
        if self.down_open {
            let source = (self.app, &mut self.answer.excess);
            match self.answer.download.poll(cx, &worker, source, &self.conn.socket) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    self.down_open = false;
                    self.conn.socket.half_close();
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Ending::Closed),
            }
        }
        if self.up_open {
            let source = (&self.conn.socket, &mut self.conn.inbox);
            match self.up.poll(cx, &worker, source, self.app) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    self.up_open = false;
                    self.app.half_close();
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Ending::Closed),
            }
        }
        if !self.up_open && !self.down_open {
            return Poll::Ready(Ending::Closed);
        }
        if self.conn.alarm.take_rung() {
            match worker.phase().in_flight() {
                InFlightRule::Cut { since } if self.started < since => {
                    return Poll::Ready(Ending::Deadline);
                }
                InFlightRule::Cut { .. } | InFlightRule::Release(_) | InFlightRule::Serve => {}
            }
            self.conn.alarm.set(cx, Uptime::NEVER);
        }
        Poll::Pending
    }
}
