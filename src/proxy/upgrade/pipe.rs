//! One direction of a tunnel: bytes from one socket to the other with backpressure, and for a WebSocket the place
//! where its last frame is put.
//!
//! It reads only when everything it has read before is written, and holds a buffer only while the other side takes
//! less than it was given.

use std::task::{Context, Poll, ready};

use crate::{
    config::WebSocketCloseCode,
    proxy::{
        io::Socket,
        websocket::{self, Follower, Position, Sender},
        worker::Worker,
    },
    tracker::Count,
};

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Pipe {
    sender: Sender,
    /// Knows where frames end; nobody does if this is no WebSocket, or has ceased to be one.
    follower: Option<Follower>,
    flow: Flow,
    /// What has to be written, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// Whether what was written is with the kernel, not only with TLS.
    flushed: bool,
}

/// What becomes of the bytes that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// They pass until what is under way has ended; behind it goes a close frame.
    Closing { code: WebSocketCloseCode, gap: Gap },
    /// They are read and dropped, so that whoever sends them is not blocked.
    Dropping,
    /// They pass.
    Passing,
}

/// Where a close frame may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// Between two frames.
    Frames,
    /// Between two messages: RFC 6455 §5.4 allows a close frame within a fragmented one, but there are libraries that
    /// take it for a broken message and answer 1002 (Python's websockets 17).
    Messages,
}

/// Which side of a pipe broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Sink,
    Source,
}

/// Who has told the receiver of a direction that it was the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The sender itself.
    BySender,
    /// We did.
    ByUs,
    /// Nobody yet.
    No,
}

// === impl Gap ===

impl Gap {
    fn is_at(self, follower: &Follower) -> bool {
        let between = follower.position() == Position::Between;
        match self {
            Self::Frames => between,
            Self::Messages => between && !follower.in_message(),
        }
    }
}

// === impl Pipe ===

impl Pipe {
    /// A pipe for what `sender` sends, which writes `head` first.
    pub(super) fn new(sender: Sender, is_websocket: bool, head: Vec<u8>) -> Self {
        let follower = is_websocket.then(|| Follower::new(sender));
        Self { sender, follower, flow: Flow::Passing, pending: head, written: 0, flushed: true }
    }

    /// Whether it is known where frames end.
    pub(super) const fn is_followed(&self) -> bool {
        self.follower.is_some()
    }

    /// Puts a close frame behind the message that is under way, and drops what comes after it.
    pub(super) fn close(&mut self, code: WebSocketCloseCode) {
        if self.flow == Flow::Passing {
            self.flow = Flow::Closing { code, gap: Gap::Messages };
            self.put_close_frame();
        }
    }

    /// The message has had its time: the close frame that still waits goes behind the frame that is under way.
    pub(super) fn hurry(&mut self) {
        if let Flow::Closing { gap, .. } = &mut self.flow {
            *gap = Gap::Frames;
            self.put_close_frame();
        }
    }

    /// Writes nothing more: whoever it was for is gone.
    pub(super) fn drop_rest(&mut self) {
        self.flow = Flow::Dropping;
        self.pending = Vec::new();
        self.written = 0;
        self.flushed = true;
    }

    /// Who has told the receiver that it had the last frame; that frame is with the kernel by then.
    pub(super) fn told(&self) -> Told {
        match self.flow {
            _ if !self.has_written_all() => Told::No,
            _ if self.is_closed() => Told::BySender,
            Flow::Dropping => Told::ByUs,
            Flow::Closing { .. } | Flow::Passing => Told::No,
        }
    }

    /// Whether the sender's own close frame has come.
    pub(super) fn is_closed(&self) -> bool {
        self.follower.is_some_and(|follower| follower.position() == Position::Closed)
    }

    /// Whether all that came and passes is with the kernel.
    pub(super) const fn has_written_all(&self) -> bool {
        self.written == self.pending.len() && self.flushed
    }

    /// Moves what can be moved, until the source has ended. `early` holds bytes of the source that were read before.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        (source, early): (&Socket, &mut Vec<u8>),
        sink: &Socket,
    ) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.flush(cx, worker, sink))?;
            if !early.is_empty() {
                let bytes = std::mem::take(early);
                self.pass(cx, worker, &bytes, sink)?;
                continue;
            }
            let mut scratch = worker.scratch();
            match ready!(source.poll_read(cx, &mut scratch)) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(n) => {
                    self.count(worker, Sender::Client, n);
                    self.pass(cx, worker, &scratch[..n], sink)?;
                }
                Err(_) => return Poll::Ready(Err(Broken::Source)),
            }
        }
    }

    /// Writes what the sink takes of `bytes`, and keeps the rest of what may pass.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        bytes: &[u8],
        sink: &Socket,
    ) -> Result<(), Broken> {
        let passing = &bytes[..self.follow(worker, bytes)];
        if self.flow == Flow::Dropping {
            return Ok(());
        }
        let taken = match sink.poll_write(cx, passing) {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) => return Err(Broken::Sink),
            Poll::Pending => 0,
        };
        self.flushed &= taken == 0;
        self.count(worker, Sender::Server, taken);
        self.pending.extend_from_slice(&passing[taken..]);
        self.put_close_frame();
        Ok(())
    }

    /// Follows the frames in `bytes`; returns how many bytes pass.
    fn follow(&mut self, worker: &Worker, bytes: &[u8]) -> usize {
        let Some(follower) = &mut self.follower else { return bytes.len() };
        let mut seen = 0;
        while seen < bytes.len() {
            seen += follower.step(&bytes[seen..]);
            if let Flow::Closing { gap, .. } = self.flow
                && gap.is_at(follower)
            {
                break;
            }
        }
        if let Position::Lost(fault) = follower.position() {
            tracing::debug!(sender = ?self.sender, %fault, "a WebSocket's bytes are no frames");
            if self.sender == Sender::Server {
                worker.tracker.add(Count::FaultWebSocket, 1);
            }
            self.follower = None;
        }
        seen
    }

    /// Puts the close frame where it is due, if the stream stands there.
    fn put_close_frame(&mut self) {
        if let (Flow::Closing { code, gap }, Some(follower)) = (self.flow, &self.follower)
            && gap.is_at(follower)
        {
            self.pending.extend_from_slice(&websocket::close_frame(code));
            self.flow = Flow::Dropping;
            // Frames that are dropped close nothing.
            self.follower = None;
        }
    }

    fn flush(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        sink: &Socket,
    ) -> Poll<Result<(), Broken>> {
        while self.written < self.pending.len() {
            match ready!(sink.poll_write(cx, &self.pending[self.written..])) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Sink)),
                Ok(n) => {
                    self.written += n;
                    self.flushed = false;
                    self.count(worker, Sender::Server, n);
                }
            }
        }
        if !self.flushed {
            ready!(sink.poll_flush(cx)).map_err(|_| Broken::Sink)?;
            self.flushed = true;
        }
        if self.pending.capacity() > 0 {
            worker.give_buffer(std::mem::take(&mut self.pending));
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Counts bytes on the client's side of this direction: those read from it, or those written to it.
    fn count(&self, worker: &Worker, counted: Sender, n: usize) {
        if self.sender == counted {
            let count = match counted {
                Sender::Client => Count::ClientBytesIn,
                Sender::Server => Count::ClientBytesOut,
            };
            worker.tracker.add(count, n as u64);
        }
    }
}
