//! Server-sent events that count ticks. Their goodbye is the clean end of the response, after a whole event.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Heard, cut, told};
use crate::demo::task::Task;

/// An event of the app's has some thirty bytes; whatever has more than this without an end is none.
const EVENT_MAX: usize = 4096;

/// An open event stream.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    /// What has come of the next event.
    pending: BytesMut,
    _driver: Task,
}

/// One block up to its empty line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// An event with its id.
    Event(u64),
    /// A comment, a `retry:`: nothing that a page would be told.
    Nothing,
}

// === impl Events ===

impl Events {
    /// Asks on `tcp` for the events after the one numbered `seen`.
    pub(super) async fn open(tcp: TcpStream, seen: Option<u64>) -> Result<Self, String> {
        let (mut sender, connection) =
            handshake(TokioIo::new(tcp)).await.map_err(|error| error.to_string())?;
        let driver = Task::start(async move {
            // Its errors reach whoever reads the body.
            let _ended = connection.await;
        });
        let mut request = Request::get("/events")
            .header(header::HOST, HeaderValue::from_static("demo"))
            .header(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(seen) = seen {
            request = request.header("last-event-id", HeaderValue::from(seen));
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .expect("must be a valid request: everything in it is the demo's own");
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}", response.status()));
        }
        Ok(Self { body: response.into_body(), pending: BytesMut::new(), _driver: driver })
    }

    /// The next tick, or the end.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            while let Some(block) = take(&mut self.pending) {
                if let Block::Event(number) = block {
                    return Heard::Tick(number);
                }
            }
            if self.pending.len() > EVENT_MAX {
                return cut("no event of ours");
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return cut("no last chunk"),
                None if self.pending.is_empty() => return told("last chunk"),
                None => return cut("ended within an event"),
            }
        }
    }
}

// === helpers ===

/// Takes the first whole block off `bytes`. Lines end with LF here, as the app's do.
fn take(bytes: &mut BytesMut) -> Option<Block> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")? + 2;
    let block = String::from_utf8_lossy(&bytes[..end]);
    let id = block.lines().find_map(|line| line.strip_prefix("id:")?.trim().parse().ok());
    let has_data = block.lines().any(|line| line.starts_with("data"));
    let found = match id {
        Some(id) if has_data => Block::Event(id),
        Some(_) | None => Block::Nothing,
    };
    bytes.advance(end);
    Some(found)
}
