//! One direction of a message body: bytes from one socket to the other, re-framed, with backpressure.
//!
//! A relay reads only when everything it has read before is written, so it never holds more than one read. While it
//! waits for its source it holds nothing. It is polled, not awaited, because two relays and the wait for a response
//! share one task.

use std::task::{Context, Poll, ready};

use super::{
    framing::{Decoder, Framing, FramingError, Step, write_chunk, write_last_chunk},
    goodbye::Events,
    headers,
    io::Socket,
    worker::Worker,
};
use crate::{tracker::Count, units::Uptime};

/// One direction of a message, head included.
#[derive(Debug)]
pub(super) struct Relay {
    decoder: Decoder,
    output: Output,
    declared_trailers: Vec<u8>,
    /// The body's events, if it is a stream of them.
    events: Option<Events>,
    /// What has to be written, from `written` on.
    pending: Vec<u8>,
    written: usize,
    finished: bool,
    held: bool,
    retains: bool,
    moved_at: Uptime,
    waits_for: End,
    count: Count,
}

/// How the body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// In chunks, with the trailers that pass.
    Chunked,
    /// Byte by byte as it came in.
    Plain,
}

/// One end of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where the bytes go.
    Sink,
    /// Where the bytes come from.
    Source,
}

/// Why a relay can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The body can't be read any further.
    Framing(FramingError),
    /// Whoever the bytes go to takes no more.
    Sink,
    /// Whoever sends the body stopped before its end.
    Source,
    /// The trailer section can't be read.
    Trailers,
}

// === impl Relay ===

impl Relay {
    /// A relay that writes `head` first. `count` is what its written or read bytes are counted as.
    pub(super) fn new(
        framing: Framing,
        output: Output,
        head: Vec<u8>,
        worker: &Worker,
        count: Count,
    ) -> Self {
        Self {
            decoder: Decoder::new(framing, worker.config.limits.max_header_size),
            output,
            declared_trailers: Vec::new(),
            events: None,
            pending: head,
            written: 0,
            finished: false,
            held: false,
            retains: false,
            moved_at: worker.clock.now(),
            waits_for: End::Sink,
            count,
        }
    }

    /// Lets the trailers of these names pass.
    pub(super) fn pass_trailers(&mut self, declared: Vec<u8>) {
        self.declared_trailers = declared;
    }

    /// Follows the body's events, so that it can be ended between two of them.
    pub(super) fn follow(&mut self, events: Option<Events>) {
        self.events = events;
    }

    /// Whether the body can be ended before its end, and nobody has asked for that.
    pub(super) fn has_goodbye(&self) -> bool {
        self.events.as_ref().is_some_and(Events::is_unasked)
    }

    /// Ends the body where no event is cut in two: at once or behind the event that has begun.
    pub(super) fn ask_for_goodbye(&mut self) {
        if let Some(events) = &mut self.events
            && !self.finished
        {
            events.ask();
            self.end_if_over();
        }
    }

    /// Whether the body was ended by us.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.events.as_ref().is_some_and(Events::is_over)
    }

    /// Keeps the head after it was written, for [`Relay::rewind`].
    pub(super) const fn retain(&mut self) {
        self.retains = true;
    }

    /// Writes the head, but waits with the body until [`Relay::release`].
    pub(super) const fn hold(&mut self) {
        self.held = true;
    }

    /// The body may go.
    pub(super) const fn release(&mut self) {
        self.held = false;
    }

    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the body has been read to its end; its last bytes may still have to be written.
    pub(super) const fn has_read_all(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether the body's last byte is with the kernel: only then may its connection carry another message.
    pub(super) const fn has_sent_all(&self) -> bool {
        self.finished && self.written == self.pending.len()
    }

    /// Which end it waited for when last polled.
    pub(super) const fn waits_for(&self) -> End {
        self.waits_for
    }

    /// When bytes last moved.
    pub(super) const fn moved_at(&self) -> Uptime {
        self.moved_at
    }

    /// The head again, to be sent on another connection; empty once it has been given up.
    pub(super) fn rewind(self) -> Vec<u8> {
        if self.retains { self.pending } else { Vec::new() }
    }

    /// The head of a message that turns out to have no body: nobody has polled the relay.
    pub(super) fn into_head(self) -> Vec<u8> {
        self.pending
    }

    /// Gives the retained head up: nothing is held while a request is parked.
    pub(super) fn forget(&mut self, worker: &Worker) {
        self.retains = false;
        if self.written == self.pending.len() {
            self.recycle(worker);
        }
    }

    /// Moves what can be moved. `early` holds bytes of the source that were read before; what was read past the
    /// body's end is put there.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        (source, early): (&Socket, &mut Vec<u8>),
        sink: &Socket,
    ) -> Poll<Result<(), Broken>> {
        loop {
            self.waits_for = End::Sink;
            ready!(self.flush(cx, worker, sink))?;
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if self.decoder.is_done() {
                self.finish()?;
                continue;
            }
            self.waits_for = End::Source;
            if self.held {
                return Poll::Pending;
            }
            if !self.retains {
                self.recycle(worker);
            }
            if !early.is_empty() {
                let bytes = std::mem::take(early);
                let used = self.feed_through(cx, worker, &bytes, sink)?;
                early.extend_from_slice(&bytes[used..]);
                continue;
            }
            let mut scratch = worker.scratch();
            match ready!(source.poll_read(cx, &mut scratch)) {
                Ok(0) => self.end_of_source()?,
                Ok(n) => {
                    self.moved_at = worker.clock.now();
                    self.count_if(worker, Count::ClientBytesIn, n);
                    let used = self.feed_through(cx, worker, &scratch[..n], sink)?;
                    early.extend_from_slice(&scratch[used..n]);
                }
                Err(_) => return Poll::Ready(Err(Broken::Source)),
            }
        }
    }

    /// Takes body bytes into what has to be written; returns how many belong to the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut rest = bytes;
        loop {
            match self.decoder.step(&mut rest).map_err(Broken::Framing)? {
                Step::Data(data) => {
                    let data = self.before_goodbye(data);
                    self.append(data);
                    if self.end_if_over() {
                        return Ok(bytes.len());
                    }
                }
                Step::End => {
                    self.finish()?;
                    return Ok(bytes.len() - rest.len());
                }
                Step::More => return Ok(bytes.len()),
            }
        }
    }

    /// As [`Relay::feed`], but plain bytes go to the sink without a copy as far as it takes them.
    fn feed_through(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        bytes: &[u8],
        sink: &Socket,
    ) -> Result<usize, Broken> {
        if self.output == Output::Chunked {
            return self.feed(bytes);
        }
        let mut rest = bytes;
        loop {
            match self.decoder.step(&mut rest).map_err(Broken::Framing)? {
                Step::Data(data) => {
                    let data = self.before_goodbye(data);
                    let taken = self.write_through(cx, data, sink)?;
                    self.count_if(worker, Count::ClientBytesOut, taken);
                    if self.end_if_over() {
                        return Ok(bytes.len());
                    }
                }
                Step::End => {
                    self.finish()?;
                    return Ok(bytes.len() - rest.len());
                }
                Step::More => return Ok(bytes.len()),
            }
        }
    }

    /// What of the next bytes of the body still goes to the sink.
    fn before_goodbye<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let Some(events) = &mut self.events else { return data };
        &data[..events.take(data)]
    }

    /// Ends the body if its goodbye has been said; whether it was.
    fn end_if_over(&mut self) -> bool {
        let Some(events) = self.events.as_ref().filter(|events| events.is_over()) else {
            return false;
        };
        let words = events.last_words();
        self.append(&words);
        if self.output == Output::Chunked {
            write_last_chunk(&[], &mut self.pending);
        }
        self.finished = true;
        true
    }

    fn append(&mut self, data: &[u8]) {
        match self.output {
            Output::Chunked => write_chunk(data, &mut self.pending),
            Output::Plain => self.pending.extend_from_slice(data),
        }
    }

    fn write_through(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        sink: &Socket,
    ) -> Result<usize, Broken> {
        let taken = if self.written < self.pending.len() {
            0
        } else {
            match sink.poll_write(cx, data) {
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(_)) => return Err(Broken::Sink),
                Poll::Pending => 0,
            }
        };
        self.pending.extend_from_slice(&data[taken..]);
        Ok(taken)
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
                    self.moved_at = worker.clock.now();
                    self.count_if(worker, Count::ClientBytesOut, n);
                }
            }
        }
        // What waits to be encrypted and sent is not with the kernel yet.
        sink.poll_flush(cx).map_err(|_| Broken::Sink)
    }

    /// Appends the end of the body, once.
    fn finish(&mut self) -> Result<(), Broken> {
        if !self.finished && self.output == Output::Chunked {
            let mut trailers = Vec::new();
            headers::trailers(self.decoder.trailers(), &self.declared_trailers, &mut trailers)
                .map_err(|_| Broken::Trailers)?;
            write_last_chunk(&trailers, &mut self.pending);
        }
        self.finished = true;
        Ok(())
    }

    fn end_of_source(&mut self) -> Result<(), Broken> {
        if !self.decoder.may_end_with_connection() {
            return Err(Broken::Source);
        }
        self.finish()
    }

    fn recycle(&mut self, worker: &Worker) {
        if self.pending.capacity() > 0 {
            worker.give_buffer(std::mem::take(&mut self.pending));
            self.written = 0;
        }
    }

    fn count_if(&self, worker: &Worker, side: Count, n: usize) {
        if self.count == side {
            worker.tracker.add(side, n as u64);
        }
    }
}
