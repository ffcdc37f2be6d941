//! One connection to the app over HTTP/2: opened, driven, shared by streams, closed when idle.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use crate::{
    proxy::{
        alarm::Alarms,
        error::Fault,
        io::{Peeked, Socket},
        request::HeadLimits,
        upstream::dial::Dialer,
    },
    tracker::{Count, Guard},
    units::Uptime,
};

/// Bytes of one response that wait here for its client: what a TCP connection has at the least, too.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Requests on one connection at most, whatever the app allows; common servers allow 100 to 250.
const STREAMS: usize = 100;
/// Bytes that wait here for all clients of one connection. With less than all streams' windows together, a few
/// clients that read slowly would hold up everybody else's responses.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// The smallest that RFC 9113 §4.2 allows, so that frames of many streams take turns.
const FRAME: u32 = 16 * 1024;
/// What h2 charges for frames smaller than 256 bytes that wait for their clients, before it ends the connection and
/// all that is on it: enough for 4,000 small events in every stream, so that no slow reader of an event stream ends
/// what others are waiting for.
const SMALL_FRAMES: usize = STREAMS * 1024 * 1024;
/// Streams reset by us that are remembered: frames for them may be on their way when many clients leave at once.
const RESETS_REMEMBERED: usize = 1024;

/// What all connections of a channel need.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) dialer: Rc<Dialer>,
    alarms: Rc<Alarms>,
    /// A stream has ended, or a connection: somebody who waits may find a place.
    pub(super) freed: Notify,
}

/// One connection, as those who use it see it. Once nobody holds it, h2 closes the connection.
pub(super) struct Link {
    sender: SendRequest<Bytes>,
    vitals: Rc<Vitals>,
}

/// The state of one connection that its driver and its users share.
#[derive(Debug)]
struct Vitals {
    keeper: Rc<Keeper>,
    socket: Socket,
    /// Bytes written so far.
    written: Cell<u64>,
    /// Places taken.
    streams: Cell<usize>,
    /// Whether any request went over it.
    used: Cell<bool>,
    idle_since: Cell<Uptime>,
    broken: Cell<bool>,
}

/// A place for one stream on a connection.
pub(super) struct Place {
    link: Rc<Link>,
    reused: bool,
}

/// The socket, as h2 uses it.
struct Wire(Rc<Vitals>);

/// Tells the end of a connection, however its driver ends.
struct Ending(Rc<Vitals>, #[allow(dead_code, reason = "counts while it lives")] Guard);

/// What has to run for a connection to do anything.
pub(super) struct Driver {
    connection: Connection<Wire, Bytes>,
    ending: Ending,
}

/// Opens a connection: it is open when the app's SETTINGS have come. Returns what drives it, too.
pub(super) async fn open(
    keeper: &Rc<Keeper>,
    limits: HeadLimits,
    started: Uptime,
    may_return: impl Fn() -> bool,
) -> Result<(Rc<Link>, Driver), Fault> {
    let greet = async |socket| greet(keeper, limits, socket).await;
    let (link, connection) = keeper.dialer.dial(started, may_return, greet).await?;
    let counted = keeper.dialer.tracker.guard(Count::UpstreamHttp2);
    let ending = Ending(Rc::clone(&link.vitals), counted);
    Ok((link, Driver { connection, ending }))
}

/// Says hello and waits for the app's SETTINGS: before they have come it is not known how many streams it takes, nor
/// whether it speaks HTTP/2 at all. On loopback this costs a request the time of one round trip, once per connection.
async fn greet(
    keeper: &Rc<Keeper>,
    limits: HeadLimits,
    socket: Socket,
) -> Result<(Rc<Link>, Connection<Wire, Bytes>), Fault> {
    let vitals = Rc::new(Vitals {
        keeper: Rc::clone(keeper),
        socket,
        written: Cell::new(0),
        streams: Cell::new(0),
        used: Cell::new(false),
        idle_since: Cell::new(keeper.dialer.clock.now()),
        broken: Cell::new(false),
    });
    let handshake = builder(limits).handshake(Wire(Rc::clone(&vitals))).await;
    let (sender, mut connection) = handshake.map_err(|error| refusal(&error))?;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            let fault = ended.err().map_or(CLOSED, |error| refusal(&error));
            return Poll::Ready(Err(fault));
        }
        if sender.current_max_send_streams() > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await?;
    Ok((Rc::new(Link { sender, vitals }), connection))
}

const CLOSED: Fault = Fault::Unreachable("it closes connections at once");

/// Why an app does not return the greeting.
fn refusal(error: &h2::Error) -> Fault {
    tracing::debug!(%error, "the app did not greet in HTTP/2");
    if error.is_io() { CLOSED } else { Fault::BadUpstream("it does not speak HTTP/2") }
}

fn builder(limits: HeadLimits) -> Builder {
    let mut builder = Builder::new();
    // Each field counts for 32 bytes more than it has (RFC 9113 §6.5.2).
    let list = limits.bytes.saturating_add(limits.fields * 32);
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .data_frame_budget(SMALL_FRAMES)
        .max_concurrent_reset_streams(RESETS_REMEMBERED)
        // The app in our own pod is not a stranger: what it sends to streams that clients have left is no attack.
        .max_local_error_reset_streams(None)
        // Nothing is sent before the app has said how much it takes.
        .initial_max_send_streams(0)
        .enable_push(false);
    builder
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(dialer: &Rc<Dialer>, alarms: &Rc<Alarms>) -> Rc<Self> {
        let (dialer, alarms) = (Rc::clone(dialer), Rc::clone(alarms));
        Rc::new(Self { dialer, alarms, freed: Notify::new() })
    }
}

// === impl Driver ===

impl Driver {
    pub(super) async fn run(self) {
        let Self { connection, ending } = self;
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the app has ended");
        }
        drop(ending);
    }
}

// === impl Link ===

impl Link {
    /// A place, if the app takes another stream.
    pub(super) fn place(self: &Rc<Self>) -> Option<Place> {
        if self.is_broken() {
            return None;
        }
        let vitals = &self.vitals;
        let streams = vitals.streams.get();
        if streams >= self.sender.current_max_send_streams().min(STREAMS) {
            return None;
        }
        vitals.streams.set(streams + 1);
        Some(Place { link: Rc::clone(self), reused: vitals.used.replace(true) })
    }

    /// Whether it takes no new stream for ever: it ended, was told GOAWAY, or has used up its stream numbers.
    pub(super) fn is_broken(&self) -> bool {
        if !self.vitals.broken.get() {
            let mut sender = self.sender.clone();
            let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
            self.vitals.broken.set(matches!(ready, Poll::Ready(Err(_))));
        }
        self.vitals.broken.get()
    }

    /// When it has been idle for long enough; never while it is in use.
    pub(super) fn idle_until(&self) -> Uptime {
        if self.vitals.streams.get() > 0 {
            return Uptime::NEVER;
        }
        self.vitals.idle_since.get() + self.vitals.keeper.dialer.limits.idle_timeout
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.vitals.streams.fmt(f)
    }
}

// === impl Place ===

impl Place {
    /// Whether requests went over the connection before.
    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether the connection is known to be open: it is new, or in use.
    pub(super) fn is_fresh(&self) -> bool {
        !self.reused || self.link.vitals.streams.get() > 1
    }

    /// Looks whether the idle connection was closed, or is just being closed, by the app. If so, it is used no more.
    pub(super) async fn is_sound(&self) -> bool {
        let vitals = &self.link.vitals;
        if vitals.socket.peek() == Peeked::Bytes {
            // It may be GOAWAY: let the driver read it.
            tokio::task::yield_now().await;
        }
        if vitals.socket.peek() == Peeked::End {
            vitals.broken.set(true);
        }
        !self.link.is_broken()
    }

    /// Where the place's one request is sent.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.link.sender.clone()
    }

    /// Bytes written on the connection so far.
    pub(super) fn written(&self) -> u64 {
        self.link.vitals.written.get()
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.link.fmt(f)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let vitals = &self.link.vitals;
        let streams = vitals.streams.get() - 1;
        vitals.streams.set(streams);
        if streams == 0 {
            vitals.idle_since.set(vitals.keeper.dialer.clock.now());
            vitals.keeper.alarms.expect(self.link.idle_until());
        }
        vitals.keeper.freed.notify_one();
    }
}

// === impl Ending ===

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.broken.set(true);
        self.0.keeper.alarms.expect(Uptime::ZERO);
        self.0.keeper.freed.notify_one();
    }
}

// === impl Wire ===

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.socket.poll_fill(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = self.0.socket.poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(n)) = taken {
            self.0.written.set(self.0.written.get() + n as u64);
        }
        taken
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket.half_close();
        Poll::Ready(Ok(()))
    }
}
