//! What a connection begins with before HTTP: the PROXY header of a load balancer, then the TLS handshake.
//!
//! Each step that is configured has `LAMEDUCK_HEADER_TIMEOUT`. A connection in these steps is an open one like any
//! other, and a drain serves it; one that ends in them has asked for nothing, and holds no drain: health checkers of
//! load balancers connect and leave all the time.
//!
//! Not here: HTTP ([`super::conn`]); where the certificate comes from ([`crate::tls`]).

pub mod failures;

use std::{
    future::{Future as _, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    task::{Context, Poll, ready},
};

use rustix::net::RecvFlags;
use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::failures::Step;
use super::{
    alarm::Alarm,
    downstream::Speaks,
    io::{Records, SEND_LIMIT, Socket},
    linger,
    proxy_header::{self, Parsed},
    worker::Worker,
};
use crate::{config::ProxyProtocol, tls, tracker::Count, units::Uptime};

/// Who has come, and when.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Who is connected; once the balancer in front has named its client, that client.
    pub(super) peer: IpAddr,
    pub(super) alarm: Alarm,
    /// When it was accepted or, later, when it had done everything before HTTP.
    pub(super) at: Uptime,
    /// When the connection or request before it came.
    pub(super) before: Uptime,
}

/// A connection whose next byte is HTTP.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) socket: Socket,
    pub(super) speaks: Speaks,
    pub(super) arrival: Arrival,
}

/// A connection that ends before it has begun.
#[derive(Debug)]
struct Refused {
    why: Why,
    /// What is left of it.
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Why {
    /// What came is not what must come: which step that was, and what came.
    Fault(Step, String),
    /// The peer left without a word.
    Left,
}

/// Goes through the steps that are configured; `None` if the connection has ended in one of them.
pub(super) async fn enter(
    worker: &Worker,
    stream: TcpStream,
    mut arrival: Arrival,
) -> Option<Entered> {
    match go_through(worker, stream, &mut arrival).await {
        Ok((socket, speaks)) => {
            arrival.renew(worker);
            Some(Entered { socket, speaks, arrival })
        }
        Err(refused) => {
            arrival.end(worker, refused).await;
            None
        }
    }
}

async fn go_through(
    worker: &Worker,
    stream: TcpStream,
    arrival: &mut Arrival,
) -> Result<(Socket, Speaks), Refused> {
    if worker.config.proxy_protocol == ProxyProtocol::Required {
        match header(worker, &stream, &arrival.alarm).await {
            Ok(Some(source)) => arrival.peer = source.ip().to_canonical(),
            // A balancer that speaks for itself, or does not know its client, is the client.
            Ok(None) => {}
            Err(why) => return Err(Refused { why, socket: Some(Socket::tcp(stream)) }),
        }
        worker.failures.passed(Step::ProxyHeader);
    }
    match &worker.tls {
        Some(tls) => {
            let stream = handshake(worker, tls, stream, &arrival.alarm).await?;
            worker.failures.passed(Step::Tls);
            let speaks = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Speaks::Http2,
                Some(_) => Speaks::Http1,
                None => Speaks::Unknown,
            };
            Ok((Socket::tls(stream), speaks))
        }
        None => Ok((Socket::tcp(stream), Speaks::Unknown)),
    }
}

// === impl Arrival ===

impl Arrival {
    /// The connection is here only now: a handshake takes round trips, and the request that follows must find a drain
    /// as patient as a connection without one does.
    fn renew(&mut self, worker: &Worker) {
        let now = worker.clock.now();
        worker.tracker.take_back(self.at, self.before);
        self.before = worker.tracker.arrived(now);
        self.at = now;
    }

    /// Ends a connection that has asked for nothing.
    async fn end(self, worker: &Worker, Refused { why, socket }: Refused) {
        worker.tracker.take_back(self.at, self.before);
        match why {
            Why::Left => worker.tracker.add(Count::ClosedByPeer, 1),
            Why::Fault(step, reason) => {
                tracing::debug!(peer = %self.peer, reason, "{step}");
                worker.failures.note(step, worker.clock.now(), self.peer, &reason);
                worker.tracker.add(step.count(), 1);
                worker.tracker.add(Count::ClosedFault, 1);
                if let Some(socket) = socket {
                    // Otherwise bytes that nobody reads would make a reset of it, and destroy the alert.
                    socket.half_close();
                    linger::listen(worker, &self.alarm, &socket).await;
                }
            }
        }
    }
}

// === the PROXY header ===

/// Reads the header, and not a byte of what follows it.
async fn header(
    worker: &Worker,
    stream: &TcpStream,
    alarm: &Alarm,
) -> Result<Option<SocketAddr>, Why> {
    let mut seen = Vec::new();
    let read = within_limit(worker, alarm, |cx| poll_header(cx, worker, stream, &mut seen)).await;
    read.unwrap_or_else(|| {
        let reason = if seen.is_empty() { "none came" } else { "its end did not come" };
        Err(fault(Step::ProxyHeader, format!("{reason} in time")))
    })
}

fn poll_header(
    cx: &mut Context<'_>,
    worker: &Worker,
    stream: &TcpStream,
    seen: &mut Vec<u8>,
) -> Poll<Result<Option<SocketAddr>, Why>> {
    let broken = |reason: &dyn std::fmt::Display| {
        Poll::Ready(Err(fault(Step::ProxyHeader, reason.to_string())))
    };
    loop {
        if let Err(error) = ready!(stream.poll_read_ready(cx)) {
            return broken(&error);
        }
        let mut scratch = worker.scratch();
        let room = &mut scratch[..proxy_header::LONGEST];
        let peeked = match receive(stream, room, RecvFlags::PEEK) {
            Ok(peeked) => peeked,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) if seen.is_empty() => return Poll::Ready(Err(Why::Left)),
            Err(error) => return broken(&error),
        };
        if peeked == 0 {
            return if seen.is_empty() {
                Poll::Ready(Err(Why::Left))
            } else {
                broken(&"the connection ended within it")
            };
        }
        let before = seen.len();
        seen.extend_from_slice(&room[..peeked]);
        let (length, source) = match proxy_header::parse(seen) {
            Parsed::Bad(reason) => return broken(&reason),
            Parsed::More => (seen.len(), None),
            Parsed::Whole { length, source } => (length, Some(source)),
        };
        // They were seen a moment ago, and nobody else reads: they are there.
        let taken = receive(stream, &mut room[..length - before], RecvFlags::empty());
        worker.tracker.add(Count::ClientBytesIn, (length - before) as u64);
        match (taken, source) {
            (Ok(taken), _) if taken != length - before => return broken(&"it can't be read"),
            (Err(error), _) => return broken(&error),
            (Ok(_), Some(source)) => return Poll::Ready(Ok(source)),
            (Ok(_), None) => {}
        }
    }
}

fn receive(stream: &TcpStream, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    stream.try_io(Interest::READABLE, || {
        let (received, _) = rustix::net::recv(stream, into, flags | RecvFlags::DONTWAIT)?;
        Ok(received)
    })
}

// === the TLS handshake ===

async fn handshake(
    worker: &Worker,
    tls: &tls::Server,
    stream: TcpStream,
    alarm: &Alarm,
) -> Result<TlsStream<Records>, Refused> {
    let accept = TlsAcceptor::from(tls.config())
        .accept_with(Records::new(stream), |session| session.set_buffer_limit(Some(SEND_LIMIT)))
        .into_fallible();
    let mut accept = pin!(accept);
    match within_limit(worker, alarm, |cx| accept.as_mut().poll(cx)).await {
        Some(Ok(stream)) => Ok(stream),
        Some(Err((_, records))) if !records.has_begun() => {
            Err(Refused { why: Why::Left, socket: None })
        }
        Some(Err((error, records))) => {
            let why = fault(Step::Tls, error.to_string());
            Err(Refused { why, socket: Some(Socket::tcp(records.into_tcp())) })
        }
        None => {
            let why = fault(Step::Tls, "it was not done in time".to_owned());
            Err(Refused { why, socket: None })
        }
    }
}

// === helpers ===

const fn fault(step: Step, reason: String) -> Why {
    Why::Fault(step, reason)
}

/// Polls `step` until it is done; `None` if `LAMEDUCK_HEADER_TIMEOUT` is over before.
async fn within_limit<T>(
    worker: &Worker,
    alarm: &Alarm,
    mut step: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let deadline = worker.clock.now() + worker.config.timeouts.header;
    alarm.arm();
    poll_fn(|cx| {
        if let Poll::Ready(done) = step(cx) {
            return Poll::Ready(Some(done));
        }
        if alarm.take_rung() && worker.is_past(deadline) {
            return Poll::Ready(None);
        }
        alarm.set(cx, deadline);
        Poll::Pending
    })
    .await
}
