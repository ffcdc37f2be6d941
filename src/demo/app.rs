//! The app of the story: greets, can be made unready by hand, holds long polls, and ticks on [`streams`].
//!
//! HTTP/1.1 and HTTP/2 without TLS come to one port; the first bytes tell which.
//! It knows nothing of graceful shutdown: SIGTERM ends it at once, whatever is open. It runs as a process of its own
//! (`lameduck demo-app`), so that what happens to its sockets is what the kernel does to a real app's.

mod streams;

use std::{
    convert::Infallible,
    io::Cursor,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use crate::{
    demo::ticker,
    proxy::preface::{Sniffed, sniff},
};

/// The longest poll that is held; keeps a mistyped `s=` from parking a connection for ever.
const LONGEST_POLL: Duration = Duration::from_secs(300);

/// A response's body: a text, or a stream without end.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Whether `/ready/` answers 200.
#[derive(Clone, Debug)]
pub(super) struct Ready(Arc<AtomicBool>);

/// Serves the app on loopback port `port` until SIGTERM.
///
/// # Errors
/// When the port can't be bound.
pub fn run(port: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the app's runtime can't be built")?;
    runtime.block_on(async {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener =
            TcpListener::bind(addr).await.with_context(|| format!("the app can't bind {addr}"))?;
        let mut term = signal(SignalKind::terminate()).context("SIGTERM can't be watched")?;
        // Returning drops every connection where it stands. That is the plain app's death, and the point.
        tokio::select! {
            _ = term.recv() => Ok(()),
            ended = serve(listener, Ready::default()) => ended,
        }
    })
}

/// Answers on `listener` for ever.
pub(super) async fn serve(listener: TcpListener, ready: Ready) -> anyhow::Result<()> {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _peer) = listener.accept().await.context("the app can't accept")?;
        while connections.try_join_next().is_some() {}
        let _unset_is_only_slower = stream.set_nodelay(true);
        connections.spawn(speak(stream, ready.clone()));
    }
}

// === impl Ready ===

impl Default for Ready {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Ready {
    fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Turns it over and returns what it is now.
    fn toggle(&self) -> bool {
        !self.0.fetch_not(Relaxed)
    }
}

// === helpers ===

/// Serves one connection in the version of HTTP that it begins with.
async fn speak(mut stream: TcpStream, ready: Ready) {
    let mut first = BytesMut::new();
    let version = loop {
        match stream.read_buf(&mut first).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        match sniff(&first) {
            Sniffed::More => {}
            version @ (Sniffed::Http1 | Sniffed::Http2) => break version,
        }
    };
    let (reader, writer) = stream.into_split();
    let io = TokioIo::new(tokio::io::join(Cursor::new(first).chain(reader), writer));
    let service = service_fn(move |request| answer(request, ready.clone()));
    // A peer that hangs up is none of the app's business.
    let _hung_up = if version == Sniffed::Http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new().serve_connection(io, service).with_upgrades().await
    };
}

async fn answer(
    mut request: Request<Incoming>,
    ready: Ready,
) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/" => kept_alive(text(StatusCode::OK, "hello to you sir or madam")),
        "/poll" => {
            let length = poll_length(request.uri().query().unwrap_or_default());
            tokio::time::sleep(length).await;
            kept_alive(text(StatusCode::OK, "nothing new"))
        }
        "/ready/" if ready.get() => text(StatusCode::OK, "ready"),
        "/ready/" => text(StatusCode::SERVICE_UNAVAILABLE, "unready"),
        "/unready/" if ready.toggle() => text(StatusCode::OK, "server is ready"),
        "/unready/" => text(StatusCode::OK, "server is unready"),
        "/ws" => streams::websocket(&mut request),
        "/events" => streams::events(request.headers()),
        ticker::WATCH => streams::grpc(request).await,
        _unknown => text(StatusCode::NOT_FOUND, "no such page"),
    };
    Ok(response)
}

/// `s=N` in seconds, fractions allowed; 30 s without it, as the story's service polls.
fn poll_length(query: &str) -> Duration {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("s="))
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or(Duration::from_secs(30))
        .min(LONGEST_POLL)
}

/// The two headers that the story's server sets, and that make a balancer keep the connection.
fn kept_alive(mut response: Response<Body>) -> Response<Body> {
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Keep-Alive"));
    headers.insert("keep-alive", HeaderValue::from_static("timeout=30"));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(body).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::client;

    async fn start() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Ready::default()));
        addr
    }

    async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
        let reply = client::get(addr, path, Duration::from_secs(5)).await.unwrap();
        (reply.status.as_u16(), reply.body)
    }

    #[tokio::test]
    async fn unready_toggles_what_the_probe_is_told() {
        let addr = start().await;
        assert_eq!(get(addr, "/").await, (200, "hello to you sir or madam".to_owned()));
        assert_eq!(get(addr, "/ready/").await, (200, "ready".to_owned()));
        assert_eq!(get(addr, "/unready/").await, (200, "server is unready".to_owned()));
        assert_eq!(get(addr, "/ready/").await, (503, "unready".to_owned()));
        assert_eq!(get(addr, "/").await.0, 200, "an unready app still answers");
        assert_eq!(get(addr, "/unready/").await, (200, "server is ready".to_owned()));
        assert_eq!(get(addr, "/ready/").await.0, 200);
        assert_eq!(get(addr, "/nowhere").await.0, 404);
    }

    #[test]
    fn a_poll_takes_what_its_query_says_within_bounds() {
        assert_eq!(poll_length("s=3.5"), Duration::from_millis(3500));
        assert_eq!(poll_length("x=1&s=2"), Duration::from_secs(2));
        assert_eq!(poll_length(""), Duration::from_secs(30));
        assert_eq!(poll_length("s=soon"), Duration::from_secs(30));
        assert_eq!(poll_length("s=-1"), Duration::from_secs(30));
        assert_eq!(poll_length("s=1e9"), LONGEST_POLL);
    }
}
