//! A gRPC stream that counts ticks. Its goodbye is the status UNAVAILABLE, in trailers after the last whole message.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2::handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Heard, cut, told};
use crate::demo::{task::Task, ticker};

/// A call under way.
#[derive(Debug)]
pub(super) struct Grpc {
    body: Incoming,
    /// What has come of the next message.
    pending: BytesMut,
    _driver: Task,
}

// === impl Grpc ===

impl Grpc {
    /// Calls `Ticker/Watch` on `tcp` for `count` ticks, by HTTP/2 with prior knowledge. 0 is no end.
    pub(super) async fn call(tcp: TcpStream, count: u64) -> Result<Self, String> {
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .map_err(|error| error.to_string())?;
        let driver = Task::start(async move {
            // Its errors reach whoever reads the body.
            let _ended = connection.await;
        });
        let request = Request::post(format!("http://demo{}", ticker::WATCH))
            .version(Version::HTTP_2)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::TE, HeaderValue::from_static("trailers"))
            .body(Full::<Bytes>::new(ticker::encode(count)))
            .expect("must be a valid request: everything in it is the demo's own");
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}", response.status()));
        }
        if let Some(status) = status(response.headers()) {
            return Err(format!("grpc-status {status}"));
        }
        Ok(Self { body: response.into_body(), pending: BytesMut::new(), _driver: driver })
    }

    /// The next tick, or the end.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            match ticker::take(&mut self.pending) {
                Ok(Some(number)) => return Heard::Tick(number),
                Ok(None) => {}
                Err(ticker::Malformed) => return cut("no message of ours"),
            }
            let Some(frame) = self.body.frame().await else { return cut("no trailers") };
            let Ok(frame) = frame else { return cut("no trailers") };
            match frame.into_data() {
                Ok(data) => self.pending.extend_from_slice(&data),
                Err(frame) => return self.end(frame.trailers_ref()),
            }
        }
    }

    fn end(&self, trailers: Option<&HeaderMap>) -> Heard {
        match trailers.and_then(status) {
            Some(_) if !self.pending.is_empty() => cut("ended within a message"),
            Some(ticker::UNAVAILABLE) => told("status 14"),
            Some(status) => cut(format!("status {status}")),
            None => cut("no status"),
        }
    }
}

// === helpers ===

fn status(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}
