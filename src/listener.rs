//! The proxy ports: bind, accept with back-off, pause at the connection limit and while memory is critical.
//!
//! The listening sockets stay open to the very end: a connection in the accept queue of a closed listener is reset,
//! and kube-proxy sends new ones for seconds after the pod has begun to leave.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Socket, TcpKeepalive};
use tokio::net::TcpListener;

use crate::{
    clock::Clock,
    config::Route,
    proxy::{Accepted, Workers},
    slots::Slots,
    socket,
};

/// Connections that the kernel may hold while we are busy; it takes less if `net.core.somaxconn` says so.
const BACKLOG: i32 = 4096;
/// A client that vanished is found out after this and three unanswered probes ten seconds apart: one minute in all.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// Bytes that nobody acknowledges for so long end the connection: the same minute.
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that the kernel holds for a client before it has sent any of them. Its own limit grows to megabytes, and it
/// reports room only when a third of that is free: a client that reads steadily, but slowly, would seem to stand still
/// for longer than `LAMEDUCK_BODY_TIMEOUT`.
const UNSENT: u32 = 128 * 1024;
/// The pause after a failed accept; it doubles up to a second. A lack of descriptors does not pass in microseconds.
const BACKOFF: Duration = Duration::from_millis(10);

/// A proxy port can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("LAMEDUCK_ROUTES: can't listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A bound proxy port.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
    route: usize,
}

// === impl Listener ===

impl Listener {
    /// Binds the ports of all routes.
    ///
    /// # Errors
    /// The first port that can't be bound.
    pub fn bind_all(routes: &[Route]) -> Result<Vec<Self>, BindError> {
        let bind = |(route, address): (usize, SocketAddr)| {
            let listen = || {
                let socket = socket::listen(address, BACKLOG, tune)?;
                Ok(Self { address: socket.local_addr()?, socket, route })
            };
            listen().map_err(|source| BindError { address, source })
        };
        routes.iter().map(|route| route.listen).enumerate().map(bind).collect()
    }

    /// The address, as it was bound: with the port that the kernel chose if none was given.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until dropped. Pauses while all slots are taken or memory is critical; never spins.
    ///
    /// # Errors
    /// The listener can't be registered with the runtime.
    pub async fn accept_all(
        &self,
        slots: Slots,
        workers: &Workers,
        clock: Clock,
    ) -> io::Result<()> {
        let socket = TcpListener::from_std(self.socket.try_clone()?)?;
        let mut backoff = BACKOFF;
        loop {
            slots.vacancy().await;
            // The workers have reactors of their own, so the connection leaves this one.
            match socket.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => {
                    backoff = BACKOFF;
                    let (route, at, slot) = (self.route, clock.now(), slots.take());
                    workers.serve(Accepted { stream, peer, route, at, slot });
                }
                Err(error) if is_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, pause = ?backoff, "can't accept connections");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    /// Accepts what is in the queue now, limit or not. Returns how many connections that were.
    pub fn accept_queued(&self, slots: &Slots, workers: &Workers, clock: Clock) -> usize {
        let mut accepted = 0;
        loop {
            match self.socket.accept().and_then(|(stream, peer)| {
                stream.set_nonblocking(true)?;
                Ok((stream, peer))
            }) {
                Ok((stream, peer)) => {
                    accepted += 1;
                    let (route, at, slot) = (self.route, clock.now(), slots.take());
                    workers.serve(Accepted { stream, peer, route, at, slot });
                }
                Err(error) if is_peers(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "can't accept connections");
                    return accepted;
                }
            }
        }
    }
}

/// Accepted sockets inherit these options from the listening one (tcp(7)), which saves four calls per connection.
fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Whether the error is that one connection's, which its client has given up before we came (accept(2)).
fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
