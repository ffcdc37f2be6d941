//! An HTTP/1.1 client connection as the balancer and the kubelet of the demo use it.
//!
//! It never sends a request twice. A request that was never written is handed back, since nothing is known to
//! have left; anything later is a [`Fault`] with its own name.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::demo::task::Task;

/// Loopback answers a connect at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client connection. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Moves the bytes.
    driver: Task,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    /// The response's status.
    pub(super) status: StatusCode,
    /// Whether the server keeps the connection.
    pub(super) reusable: bool,
    /// The whole body.
    pub(super) body: String,
}

/// How an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Nobody took the connection, or no pod was there to be chosen.
    Refused,
    /// The connection ended after the request was sent and before any response head.
    Cut,
    /// The connection ended in the response's body.
    CutInBody,
    /// The answer's status is 400 or above.
    ErrorStatus,
    /// No answer in time.
    TimedOut,
}

/// Why there is no [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// The connection was closed before a byte of the request was written: it may go elsewhere.
    NotSent,
    /// It failed.
    Failed(Fault),
}

/// One request on a connection of its own: a probe, a hook, a person with curl.
pub(super) async fn get(addr: SocketAddr, path: &str, limit: Duration) -> Result<Reply, Fault> {
    let mut connection = Connection::open(addr).await?;
    match connection.exchange(path, limit).await {
        Ok(reply) => Ok(reply),
        Err(NoReply::NotSent) => Err(Fault::Cut),
        Err(NoReply::Failed(fault)) => Err(fault),
    }
}

// === impl Connection ===

impl Connection {
    /// Connects to `addr`.
    pub(super) async fn open(addr: SocketAddr) -> Result<Self, Fault> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr))
            .await
            .map_err(|_elapsed| Fault::TimedOut)?
            .map_err(|_not_taken| Fault::Refused)?;
        let _unset_is_only_slower = stream.set_nodelay(true);
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|_closed| Fault::Cut)?;
        let driver = Task::start(async move {
            // Its errors reach whoever waits for a response; an idle connection's end is no error.
            let _ended = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// Whether the connection is known to have ended.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.driver.is_finished()
    }

    /// Sends `GET path` and reads the whole answer, all within `limit`.
    pub(super) async fn exchange(&mut self, path: &str, limit: Duration) -> Result<Reply, NoReply> {
        match timeout(limit, self.exchange_untimed(path)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(NoReply::Failed(Fault::TimedOut)),
        }
    }

    async fn exchange_untimed(&mut self, path: &str) -> Result<Reply, NoReply> {
        if self.sender.ready().await.is_err() {
            return Err(NoReply::NotSent);
        }
        let request = Request::get(path)
            .header(header::HOST, HeaderValue::from_static("demo"))
            .body(Empty::new())
            .expect("must be a valid request: paths are the demo's own");
        let sent = self.sender.try_send_request(request).await;
        let response = sent.map_err(|mut error| match error.take_message() {
            Some(_unsent) => NoReply::NotSent,
            None => NoReply::Failed(Fault::Cut),
        })?;
        let status = response.status();
        let announced = announces_close(response.headers());
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|_broken| NoReply::Failed(Fault::CutInBody))?
            .to_bytes();
        // After an announced close there is nothing to wait for; else hyper needs a moment to be ready again.
        let reusable = !announced && self.sender.ready().await.is_ok();
        Ok(Reply { status, reusable, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

// === impl Fault ===

impl Fault {
    /// Every kind, as the table lists them.
    pub(super) const ALL: [Self; 5] =
        [Self::Refused, Self::Cut, Self::CutInBody, Self::ErrorStatus, Self::TimedOut];

    /// The kind in the table's words.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Cut => "cut before the response",
            Self::CutInBody => "cut in the response",
            Self::ErrorStatus => "error status",
            Self::TimedOut => "timed out",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Fault {}

// === helpers ===

fn announces_close(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("close"))
}
