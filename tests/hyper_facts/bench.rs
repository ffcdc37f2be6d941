//! The bench on which hyper is examined: a server connection that moves only when a test drives it, a service
//! whose every answer the test gives by hand, and a peer that is nothing but a socket.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1::{Builder, Connection},
    service::Service,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Nothing here takes longer than a few milliseconds; a test that waits this long has found a changed fact.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says, if the test that holds it fails, what in lameduck has to be thought over again.
pub(crate) struct RestsOn(&'static str);

/// A hyper server connection.
pub(crate) struct Server<IO: AsyncRead + AsyncWrite + Unpin + 'static> {
    conn: Pin<Box<Connection<TokioIo<IO>, Front>>>,
    visits: mpsc::UnboundedReceiver<Visit>,
}

/// A request that has reached the service, and the way to answer it.
pub(crate) struct Visit {
    pub(crate) request: Request<Incoming>,
    pub(crate) answer: oneshot::Sender<Response<Tape>>,
}

/// The service: shows each request to the test and waits for its answer.
pub(crate) struct Front(mpsc::UnboundedSender<Visit>);

/// A response body that the test writes frame by frame; it ends when the sender is dropped.
pub(crate) struct Tape(mpsc::UnboundedReceiver<Bytes>);

/// An IO that remembers how much room it was offered by the last read that found nothing.
pub(crate) struct Spy<IO> {
    io: IO,
    offered: Arc<AtomicUsize>,
}

/// The server's end of a loopback connection, still without a server, and a second handle on the same socket
/// with which a test can see what the kernel holds.
pub(crate) struct Accepted {
    pub(crate) server: TcpStream,
    pub(crate) tap: TcpStream,
    pub(crate) client: TcpStream,
}

/// Prints `decision` if the test fails.
#[must_use]
pub(crate) fn rests_on_this(decision: &'static str) -> RestsOn {
    RestsOn(decision)
}

// === impl RestsOn ===

impl Drop for RestsOn {
    #[allow(clippy::print_stderr, reason = "part of the failure message of a test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("hyper no longer behaves as recorded here. What rests on it: {}", self.0);
        }
    }
}

// === impl Server ===

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Server<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self::with(&Builder::new(), io)
    }

    pub(crate) fn with(builder: &Builder, io: IO) -> Self {
        let (sender, visits) = mpsc::unbounded_channel();
        Self { conn: Box::pin(builder.serve_connection(TokioIo::new(io), Front(sender))), visits }
    }

    pub(crate) fn graceful_shutdown(&mut self) {
        self.conn.as_mut().graceful_shutdown();
    }

    /// Drives the connection once, as far as it gets.
    pub(crate) async fn poll_once(&mut self) -> Poll<hyper::Result<()>> {
        poll_fn(|cx| Poll::Ready(self.conn.as_mut().poll(cx))).await
    }

    /// Drives the connection until `event` has come.
    pub(crate) async fn until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let conn = self.conn.as_mut();
        let race = async {
            tokio::select! {
                biased;
                end = conn => panic!("the connection ended first: {end:?}"),
                outcome = event => outcome,
            }
        };
        timeout(PATIENCE, race).await.expect("must come, or the fact has changed")
    }

    /// Drives the connection until a request reaches the service.
    pub(crate) async fn visit(&mut self) -> Visit {
        let conn = self.conn.as_mut();
        let race = async {
            tokio::select! {
                biased;
                end = conn => panic!("the connection ended first: {end:?}"),
                visit = self.visits.recv() => visit.expect("must be open: the connection holds the sender"),
            }
        };
        timeout(PATIENCE, race).await.expect("must reach the service, or the fact has changed")
    }

    /// Drives the connection to its end and closes it; says how it ended, and whether a request that no
    /// test had looked at yet had reached the service.
    pub(crate) async fn end(self) -> (hyper::Result<()>, bool) {
        let Self { conn, mut visits } = self;
        let end = timeout(PATIENCE, conn).await.expect("must end by itself");
        (end, visits.try_recv().is_ok())
    }

    /// Gives up the connection for one that can be upgraded.
    pub(crate) fn into_upgradeable(
        self,
    ) -> (
        hyper::server::conn::http1::UpgradeableConnection<TokioIo<IO>, Front>,
        mpsc::UnboundedReceiver<Visit>,
    )
    where
        IO: Send,
    {
        let conn = *Pin::into_inner(self.conn);
        (conn.with_upgrades(), self.visits)
    }
}

// === impl Visit ===

impl Visit {
    /// Answers 200 with no body; gives the request back.
    pub(crate) fn ok(self) -> Request<Incoming> {
        self.respond(Response::new(Tape::blank()))
    }

    pub(crate) fn respond(self, response: Response<Tape>) -> Request<Incoming> {
        self.answer.send(response).ok().expect("must be awaited by the service");
        self.request
    }
}

// === impl Front ===

impl Service<Request<Incoming>> for Front {
    type Response = Response<Tape>;
    type Error = oneshot::error::RecvError;
    type Future = oneshot::Receiver<Response<Tape>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        // A test that has stopped looking gives no answer, which the connection then reports.
        let _unseen = self.0.send(Visit { request, answer });
        answered
    }
}

// === impl Tape ===

impl Tape {
    pub(crate) fn new() -> (mpsc::UnboundedSender<Bytes>, Self) {
        let (sender, frames) = mpsc::unbounded_channel();
        (sender, Self(frames))
    }

    pub(crate) fn blank() -> Self {
        Self::new().1
    }
}

impl Body for Tape {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

// === impl Spy ===

impl<IO> Spy<IO> {
    pub(crate) fn new(io: IO) -> (Self, Arc<AtomicUsize>) {
        let offered = Arc::new(AtomicUsize::new(0));
        (Self { io, offered: Arc::clone(&offered) }, offered)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Spy<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let room = buf.remaining();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_pending() {
            self.offered.store(room, Relaxed);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Spy<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

// === impl Accepted ===

impl Accepted {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("must bind on loopback");
        let addr = listener.local_addr().expect("must be bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let server = accepted.expect("must accept").0.into_std().expect("must be registered");
        let tap = server.try_clone().expect("must have a descriptor left");
        Self {
            server: TcpStream::from_std(server).expect("must register"),
            tap: TcpStream::from_std(tap).expect("must register"),
            client: client.expect("must connect on loopback"),
        }
    }
}

// === helpers ===

/// Waits until the kernel holds `len` unread bytes for the socket that `tap` looks at.
pub(crate) async fn in_kernel(tap: &TcpStream, len: usize) {
    let mut seen = vec![0; len];
    let peek = async { while tap.peek(&mut seen).await.expect("must be readable") < len {} };
    timeout(PATIENCE, peek).await.expect("must arrive over loopback");
}

/// Reads a response head.
pub(crate) async fn head(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("must send a whole head"));
    }
    String::from_utf8(head).expect("must be text")
}

/// Everything that still comes, to the end of the stream.
pub(crate) async fn rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut rest = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut rest))
        .await
        .expect("must end")
        .expect("must end with FIN");
    String::from_utf8(rest).expect("must be text")
}

/// Waits for the peer's RST, and says what could be read behind it.
pub(crate) async fn reset(client: &mut TcpStream) -> String {
    let error = timeout(PATIENCE, client.ready(Interest::ERROR)).await;
    error.expect("must be reset, not just closed").expect("must be registered");
    let mut rest = Vec::new();
    // How the end of what was readable shows depends on whether the FIN was seen before the RST.
    let _either = client.read_to_end(&mut rest).await;
    String::from_utf8(rest).expect("must be text")
}
