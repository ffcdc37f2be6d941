//! A WebSocket that counts ticks. Its goodbye is a close frame that says "going away" or "service restart".

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{Heard, cut, told};

/// Close codes that send a client elsewhere (RFC 6455 §7.4.1, and the registry's 1012).
const GOODBYES: [u16; 2] = [1001, 1012];

/// How long the server may take to end the connection once its close frame is answered.
const FAREWELL: Duration = Duration::from_secs(1);

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket(WebSocketStream<TcpStream>);

// === impl WebSocket ===

impl WebSocket {
    /// Shakes hands on `tcp`.
    pub(super) async fn open(tcp: TcpStream) -> Result<Self, String> {
        let opened = client_async("ws://demo/ws", tcp).await;
        opened.map(|(socket, _response)| Self(socket)).map_err(|error| error.to_string())
    }

    /// The next tick, or the end. A close frame is answered before it is told.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    let number = text.parse().ok();
                    return number.map_or_else(|| cut("no tick of ours"), Heard::Tick);
                }
                Some(Ok(Message::Close(frame))) => {
                    // The answer goes out while the end of the connection is waited for.
                    let _ended = timeout(FAREWELL, self.0.next()).await;
                    return match frame.map(|frame| u16::from(frame.code)) {
                        Some(code) if GOODBYES.contains(&code) => told(format!("close {code}")),
                        Some(code) => cut(format!("close {code}")),
                        None => cut("close without a code"),
                    };
                }
                // Pings are answered by the library.
                Some(Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_),
                )) => {}
                Some(Err(_)) | None => return cut("no close frame"),
            }
        }
    }
}
