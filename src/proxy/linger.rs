//! The end of a connection that we close: FIN, then a bounded time of reading, then the close.
//!
//! Closing a socket with unread bytes in it makes the kernel send RST, which can destroy the response in the
//! client's buffer (RFC 9112 §9.6). So what still comes is read and dropped until the client closes too.

use std::{future::poll_fn, task::Poll, time::Duration};

use super::{alarm::Alarm, downstream::Conn, io::Socket, worker::Worker};
use crate::tracker::Count;

/// How the wait for the client's own close ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The client closed.
    Closed,
    /// The client kept the connection open for `LAMEDUCK_LINGER`.
    Ignored,
}

/// Ends a connection whose last response said close; counts it as `closed`.
pub(super) async fn after_last_response(conn: &Conn, closed: Count) {
    after_last_word(conn, closed, conn.worker.config.linger).await;
}

/// Ends an HTTP/2 connection that was told to go away. Its client sends window updates for as long as it reads what the
/// kernel holds for it, and is listened to as long as it does.
pub(super) async fn after_goaway(conn: &Conn) {
    let most = conn.worker.config.timeouts.body;
    after_last_word(conn, Count::ClosedAnnounced, most).await;
}

async fn after_last_word(conn: &Conn, closed: Count, most: Duration) {
    conn.socket.half_close();
    conn.worker.tracker.add(closed, 1);
    if wait(&conn.worker, &conn.alarm, &conn.socket, most).await == Ending::Ignored {
        conn.worker.tracker.add(Count::PeersIgnoringClose, 1);
    }
}

/// Ends an idle connection that was half-closed; a peer that had nothing to say owes us no haste.
pub(super) async fn after_idle(conn: &Conn) {
    listen(&conn.worker, &conn.alarm, &conn.socket).await;
}

/// Reads on after our FIN, for whoever is no [`Conn`] yet.
pub(super) async fn listen(worker: &Worker, alarm: &Alarm, socket: &Socket) {
    let _either_way = wait(worker, alarm, socket, worker.config.linger).await;
}

/// Listens for `LAMEDUCK_LINGER`, and on for as long as it hears something in that time, but no longer than `most`.
async fn wait(worker: &Worker, alarm: &Alarm, socket: &Socket, most: Duration) -> Ending {
    let (linger, now) = (worker.config.linger, worker.clock.now());
    let (mut give_up, latest) = (now + linger, now + most.max(linger));
    alarm.arm();
    poll_fn(|cx| {
        loop {
            let mut scratch = worker.scratch();
            match socket.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ending::Closed),
                Poll::Ready(Ok(n)) => {
                    worker.tracker.add(Count::ClientBytesIn, n as u64);
                    give_up = (worker.clock.now() + linger).min(latest);
                }
                Poll::Pending => break,
            }
        }
        if alarm.take_rung() && worker.is_past(give_up) {
            return Poll::Ready(Ending::Ignored);
        }
        alarm.set(cx, give_up);
        Poll::Pending
    })
    .await
}
