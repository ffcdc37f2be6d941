//! Tunnels: after a 101 the connection leaves HTTP, and bytes go both ways until both sides have closed.
//!
//! An idle tunnel holds no buffer. A side that closes is passed on as a half-close; the other direction flows on.
//!
//! # Leaving
//!
//! * A WebSocket in a drain lives until its turn: late, and spread over `LAMEDUCK_CLOSE_SPREAD`
//!   ([`pace::stream_goodbye_at`]). Then its client gets a close frame where the message that is under way ends; what the app
//!   sends after that is dropped, what the client sends still goes to the app. With the client's own close frame, or its
//!   FIN, the closing handshake is over, and we close first (RFC 6455 §7.1.1). From then on no drain waits for the tunnel;
//!   its app has what is left of `LAMEDUCK_LINGER` to end too. A client that does not answer is cut after
//!   `LAMEDUCK_LINGER`.
//! * If the app has sent a close frame itself, none is added.
//! * A WebSocket whose app sends what is no frame, and a tunnel of any other protocol, is cut at the deadline.
//! * **New upgrades while leaving:** served as in any other phase as long as the turn of their connection has not come.
//!   From then on, and once drained, they are refused with 503 and `Retry-After` before the app is asked.

mod pipe;

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use self::pipe::{Broken, Pipe, Told};
use super::{
    downstream::{After, Conn},
    in_flight::InFlight,
    io::Socket,
    pace,
    upstream::Lease,
    wait::Answer,
    websocket::Sender,
};
use crate::{
    lifecycle::{InFlightRule, Phase},
    tracker::Count,
    units::Uptime,
};

/// Passes bytes both ways until the tunnel ends. `answer` holds the 101 and what came after it.
///
/// It is no `async fn` because that would keep room for its arguments for as long as the tunnel lives.
pub(super) fn run<'a>(
    conn: &'a mut Conn,
    lease: &'a Lease,
    answer: Answer,
    in_flight: &'a mut InFlight,
) -> impl Future<Output = After> + 'a {
    conn.alarm.arm();
    let mut tunnel = Tunnel {
        started: conn.worker.clock.now(),
        conn,
        app: &lease.socket,
        in_flight,
        down: Pipe::new(Sender::Server, answer.is_websocket, answer.download.into_head()),
        up: Pipe::new(Sender::Client, answer.is_websocket, Vec::new()),
        excess: answer.excess,
        down_open: true,
        up_open: true,
        goodbye: Goodbye::Later,
    };
    poll_fn(move |cx| tunnel.poll(cx).map(|ending| tunnel.end(ending)))
}

/// Whether no upgrade may begin on this connection any more. The rule is in the module's documentation.
pub(super) fn is_too_late(conn: &Conn) -> bool {
    conn.worker.is_past(turn(conn))
}

/// When a WebSocket on this connection is told goodbye.
fn turn(conn: &Conn) -> Uptime {
    let config = &conn.worker.config;
    match conn.worker.phase() {
        Phase::Starting | Phase::Serving | Phase::Shedding(_) => Uptime::NEVER,
        Phase::Draining(departure) => {
            pace::stream_goodbye_at(&departure, config.close_spread, config.linger, conn.seed)
        }
        Phase::Drained(_) => Uptime::ZERO,
    }
}

struct Tunnel<'a> {
    conn: &'a mut Conn,
    app: &'a Socket,
    in_flight: &'a mut InFlight,
    down: Pipe,
    up: Pipe,
    /// What the app sent right behind its 101.
    excess: Vec<u8>,
    started: Uptime,
    /// Whether the app may send more.
    down_open: bool,
    /// Whether the client may send more.
    up_open: bool,
    goodbye: Goodbye,
}

/// How far the goodbye of a WebSocket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    /// The client has answered, and was sent our FIN. The app has until `give_up` to end.
    Answered { give_up: Uptime },
    /// Its close frame waits for the end of a message, from `hurry_at` on for that of a frame, or for the client to take
    /// it.
    Due { hurry_at: Uptime },
    /// Its turn has not come.
    Later,
    /// A close frame is with the client. It has until `give_up` to answer.
    Said { give_up: Uptime },
}

/// What ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its ends did.
    Closed,
    /// The drain's budget was over.
    Deadline,
    /// The client did not answer the goodbye.
    Ignored,
    /// The client was told goodbye.
    Told,
}

// === impl Tunnel ===

impl Tunnel<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let ending = self.pump(cx).or_else(|| self.advance()).or_else(|| self.see_off(cx));
            if let Some(ending) = ending {
                return Poll::Ready(ending);
            }
            if !self.conn.alarm.take_rung() {
                return Poll::Pending;
            }
            let deadline = match self.weigh() {
                Weighed::End(ending) => return Poll::Ready(ending),
                // A close frame wants to be written; if it can't be yet, that has a limit of its own.
                Weighed::Goodbye => {
                    self.conn.alarm.arm();
                    continue;
                }
                Weighed::Wait(deadline) => deadline,
            };
            self.conn.alarm.set(cx, deadline);
            return Poll::Pending;
        }
    }

    /// Settles what its end means for the connection.
    fn end(&mut self, ending: Ending) -> After {
        match ending {
            Ending::Closed => {
                self.in_flight.end(Some(101));
                After::Gone
            }
            // Dropping the guard counts it as abandoned.
            Ending::Deadline => After::Cut,
            Ending::Ignored => {
                self.conn.worker.tracker.add(Count::PeersIgnoringClose, 1);
                After::Cut
            }
            Ending::Told => After::Close,
        }
    }

    /// Moves what can be moved.
    fn pump(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        let worker = Rc::clone(&self.conn.worker);
        if self.down_open {
            let source = (self.app, &mut self.excess);
            match self.down.poll(cx, &worker, source, &self.conn.socket) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    self.down_open = false;
                    if !self.is_told() {
                        self.conn.socket.half_close();
                    }
                }
                Poll::Ready(Err(Broken::Source)) if self.is_told() => self.lose_app(),
                Poll::Ready(Err(Broken::Sink | Broken::Source)) => return Some(self.broken()),
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
                Poll::Ready(Err(Broken::Sink)) if self.is_told() => {
                    self.lose_app();
                    // Its next bytes have to wake this task, too.
                    return self.pump(cx);
                }
                Poll::Ready(Err(Broken::Sink | Broken::Source)) => return Some(self.broken()),
            }
        }
        None
    }

    /// The app has gone before the client has answered the goodbye: it is listened to all the same.
    fn lose_app(&mut self) {
        self.down_open = false;
        self.up.drop_rest();
    }

    const fn broken(&self) -> Ending {
        if self.is_told() { Ending::Told } else { Ending::Closed }
    }

    const fn is_told(&self) -> bool {
        match self.goodbye {
            Goodbye::Answered { .. } | Goodbye::Said { .. } => true,
            Goodbye::Due { .. } | Goodbye::Later => false,
        }
    }

    /// Draws what follows from what has been moved.
    fn advance(&mut self) -> Option<Ending> {
        let worker = &self.conn.worker;
        if matches!(self.goodbye, Goodbye::Due { .. }) && self.down.told() != Told::No {
            if self.down.told() == Told::ByUs {
                worker.tracker.add(Count::GoodbyeWebSocket, 1);
            }
            // Whatever happens now, nobody was abandoned.
            self.in_flight.end(Some(101));
            self.goodbye = Goodbye::Said { give_up: worker.clock.now() + worker.config.linger };
            self.conn.alarm.arm();
        }
        if let Goodbye::Said { give_up } = self.goodbye
            && (!self.up_open || self.up.is_closed())
        {
            self.conn.socket.half_close();
            self.in_flight.let_go();
            self.goodbye = Goodbye::Answered { give_up };
        }
        match self.goodbye {
            Goodbye::Answered { .. } if !self.down_open && self.up.has_written_all() => {
                Some(Ending::Told)
            }
            Goodbye::Answered { .. }
            | Goodbye::Due { .. }
            | Goodbye::Later
            | Goodbye::Said { .. } => None,
        }
    }

    /// The tunnel is over once both sides have ended and the client's kernel has all of it: with TLS our end is more than
    /// a FIN, and neither direction may ever be polled again that would take it along.
    fn see_off(&self, cx: &mut Context<'_>) -> Option<Ending> {
        let is_flushed = self.conn.socket.poll_flush(cx).is_ready();
        let is_over = !self.down_open && !self.up_open && !self.is_told();
        (is_over && is_flushed).then_some(Ending::Closed)
    }

    /// What phase and time say about the tunnel.
    fn weigh(&mut self) -> Weighed {
        let worker = &self.conn.worker;
        if let InFlightRule::Cut { since } = worker.phase().in_flight()
            && self.started < since
        {
            return Weighed::End(if self.is_told() { Ending::Told } else { Ending::Deadline });
        }
        match self.goodbye {
            Goodbye::Later if self.down.is_followed() => {
                let turn = turn(self.conn);
                if !worker.is_past(turn) {
                    return Weighed::Wait(turn);
                }
                // Half of what is kept free for the answer: a message that takes longer must not cost the goodbye.
                let hurry_at = worker.clock.now() + worker.config.linger / 2;
                self.goodbye = Goodbye::Due { hurry_at };
                self.down.close(worker.config.websocket_close_code);
                Weighed::Goodbye
            }
            Goodbye::Due { hurry_at } if worker.is_past(hurry_at) => {
                self.goodbye = Goodbye::Due { hurry_at: Uptime::NEVER };
                self.down.hurry();
                Weighed::Goodbye
            }
            Goodbye::Due { hurry_at } => Weighed::Wait(hurry_at),
            Goodbye::Later => Weighed::Wait(Uptime::NEVER),
            Goodbye::Said { give_up } if worker.is_past(give_up) => Weighed::End(Ending::Ignored),
            Goodbye::Answered { give_up } if worker.is_past(give_up) => Weighed::End(Ending::Told),
            Goodbye::Answered { give_up } | Goodbye::Said { give_up } => Weighed::Wait(give_up),
        }
    }
}

/// What weighing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weighed {
    /// The tunnel ends.
    End(Ending),
    /// The goodbye has become due: it has to be moved along.
    Goodbye,
    /// Nothing is due before.
    Wait(Uptime),
}
