//! The app's streams, which never end by themselves: a WebSocket, server-sent events, a gRPC method.
//!
//! Each ticks. They know as little of graceful shutdown as the rest of the app.

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, Stream, StreamExt as _, stream::unfold};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
    },
};
use http_body_util::{BodyExt as _, Empty, Limited, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{Body, text};
use crate::demo::{settings::TICK, ticker};

/// A request of the gRPC method has at most 16 bytes.
const GRPC_REQUEST_MAX: usize = 1024;

/// `google.rpc.Code`: the request can't be read.
const INVALID_ARGUMENT: &str = "3";

// === WebSocket ===

/// Switches protocols and ticks in text messages from then on.
pub(super) fn websocket(request: &mut Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::UPGRADE_REQUIRED, "a WebSocket lives here");
    };
    let accept = derive_accept_key(key.as_bytes());
    let Ok(accept) = HeaderValue::try_from(accept) else {
        return text(StatusCode::BAD_REQUEST, "the key can't be used");
    };
    let upgrade = hyper::upgrade::on(request);
    // Its own task, because hyper's connection ends where the WebSocket begins. It ends with the socket or the app.
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            talk(upgraded).await;
        }
    });
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Ticks until the peer has closed; a close frame is answered.
async fn talk(upgraded: Upgraded) {
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    let mut clock = clock();
    let mut number = 0_u64;
    loop {
        tokio::select! {
            _ = clock.tick() => {
                number += 1;
                if socket.send(Message::text(number.to_string())).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Close(_))) => {
                    // The library has put the answer in its buffer.
                    let _gone_already = socket.flush().await;
                    return;
                }
                Some(Ok(_)) => {} // whatever it says, and pings are answered by the library
                Some(Err(_)) | None => return,
            },
        }
    }
}

// === server-sent events ===

/// Ticks in events, numbered on from the last one that the client says it has seen.
pub(super) fn events(request: &HeaderMap) -> Response<Body> {
    let seen = request.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let events = ticks(seen.unwrap_or(0))
        .map(|number| Ok(Frame::data(Bytes::from(format!("id: {number}\ndata: tick\n\n")))));
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

// === gRPC ===

/// `Ticker/Watch`: as many ticks as are asked for, then the trailers.
pub(super) async fn grpc(request: Request<Incoming>) -> Response<Body> {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if !request.headers().get(CONTENT_TYPE).is_some_and(grpc) {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this is a gRPC method");
    }
    let body = Limited::new(request.into_body(), GRPC_REQUEST_MAX).collect().await;
    let mut bytes = body.map_or_else(|_broken| BytesMut::new(), |body| body.to_bytes().into());
    let mut response = match ticker::take(&mut bytes) {
        Ok(Some(count)) if bytes.is_empty() => {
            let count =
                if count == 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) };
            let ticks = ticks(0).take(count).map(|number| Frame::data(ticker::encode(number)));
            let end = futures_util::stream::iter([Frame::trailers(status(ticker::OK))]);
            Response::new(StreamBody::new(ticks.chain(end).map(Ok)).boxed_unsync())
        }
        Ok(_) | Err(ticker::Malformed) => {
            let mut response = Response::new(Empty::new().boxed_unsync());
            *response.headers_mut() = status(INVALID_ARGUMENT);
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn status(code: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers
}

// === helpers ===

/// The numbers after `seen`: the first at once, then one per tick.
fn ticks(seen: u64) -> impl Stream<Item = u64> + Send + 'static {
    unfold((clock(), seen), async |(mut clock, seen)| {
        clock.tick().await;
        let number = seen.checked_add(1)?;
        Some((number, (clock, number)))
    })
}

fn clock() -> Interval {
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}
