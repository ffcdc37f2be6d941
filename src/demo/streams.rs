//! The clients of the app's streams: each stays as long as it is served, notes how it ended, and comes back at once.
//!
//! They connect as everybody does, to the pod that the NAT rules choose for a new connection, and they know what a
//! goodbye is in their own protocol. Whatever else ends a stream has cut it.

mod events;
mod grpc;
mod websocket;

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use self::{events::Events, grpc::Grpc, websocket::WebSocket};
use crate::{
    clock::Clock,
    demo::{
        balancer::{SharedNat, lock},
        nat::PodId,
        scene::Scene,
        settings::{AFTER_FAILURE, SILENCE},
        tally::{StreamKind, StreamTally},
    },
    units::Uptime,
};

/// A client with one stream.
#[derive(Debug)]
pub(super) struct Client {
    kind: StreamKind,
    clock: Clock,
    nat: SharedNat,
    scene: Scene,
    /// The last tick: its number, and when it came.
    last: Option<(u64, Uptime)>,
    /// Where the stream ended last, and how, until it ticks again.
    ended: Option<(PodId, End)>,
    /// Whether the last try was not taken: a row of them is one piece of news.
    refused: bool,
}

/// How a stream ended, in words for the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Its protocol's own goodbye was said.
    Told(String),
    /// It broke off, or ended in another way than a goodbye does.
    Cut(String),
}

/// What is heard from a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    /// A tick with its number.
    Tick(u64),
    /// Nothing more.
    End(End),
}

/// An open stream. Dropping it closes its connection.
#[derive(Debug)]
enum Stream {
    WebSocket(Box<WebSocket>),
    Events(Events),
    Grpc(Grpc),
}

// === impl Client ===

impl Client {
    /// A client that has not connected yet.
    pub(super) const fn new(kind: StreamKind, clock: Clock, nat: SharedNat, scene: Scene) -> Self {
        Self { kind, clock, nat, scene, last: None, ended: None, refused: false }
    }

    /// Follows the stream from pod to pod for ever.
    pub(super) async fn follow(mut self) {
        loop {
            let route = lock(&self.nat).choose(self.clock.now());
            let seen = self.last.map(|(number, _)| number);
            let opened = match route {
                None => Err("no pod is there to be chosen".to_owned()),
                Some((pod, addr)) => {
                    Stream::open(self.kind, addr, seen).await.map(|stream| (pod, stream))
                }
            };
            match opened {
                Ok((pod, mut stream)) => {
                    let end = self.listen(pod, &mut stream).await;
                    self.note_end(pod, end);
                }
                Err(why) => {
                    self.note_refusal(&why);
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    /// Notes the ticks of one connection until its end.
    async fn listen(&mut self, pod: PodId, stream: &mut Stream) -> End {
        loop {
            match stream.next().await {
                Heard::Tick(number) => self.note_tick(pod, number),
                Heard::End(end) => return end,
            }
        }
    }

    fn note_tick(&mut self, pod: PodId, number: u64) {
        let now = self.clock.now();
        let silence = self.last.map_or(Duration::ZERO, |(_, at)| now.saturating_since(at));
        self.last = Some((number, now));
        self.refused = false;
        let ended = self.ended.take();
        let moved = ended.as_ref().is_some_and(|(from, _)| *from != pod);
        self.note(|tally| {
            tally.pod = Some(pod);
            tally.silence = tally.silence.max(silence);
            tally.moved += u64::from(moved);
        });
        if let Some((from, end)) = ended {
            self.scene.say(match end {
                End::Told(words) => {
                    format!("{} told goodbye by {from} ({words}), now on {pod}", self.kind)
                }
                End::Cut(why) => format!("{} CUT by {from} ({why}), now on {pod}", self.kind),
            });
        }
    }

    fn note_refusal(&mut self, why: &str) {
        self.note(|tally| tally.refused += 1);
        if !std::mem::replace(&mut self.refused, true) {
            self.scene.say(format!("{} is not taken: {why}", self.kind));
        }
    }

    fn note_end(&mut self, pod: PodId, end: End) {
        self.note(|tally| {
            tally.pod = None;
            match end {
                End::Told(_) => tally.told += 1,
                End::Cut(_) => tally.cut += 1,
            }
        });
        self.ended = Some((pod, end));
    }

    fn note(&self, change: impl FnOnce(&mut StreamTally)) {
        change(self.scene.stage().tally.streams.entry(self.kind).or_default());
    }
}

// === impl Stream ===

impl Stream {
    /// Opens a stream of `kind` at `addr`, after the tick `seen` if the protocol can say so.
    async fn open(kind: StreamKind, addr: SocketAddr, seen: Option<u64>) -> Result<Self, String> {
        let opening = async {
            let tcp = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
            let _unset_is_only_slower = tcp.set_nodelay(true);
            Ok(match kind {
                StreamKind::WebSocket => Self::WebSocket(Box::new(WebSocket::open(tcp).await?)),
                StreamKind::Events => Self::Events(Events::open(tcp, seen).await?),
                StreamKind::Grpc => Self::Grpc(Grpc::call(tcp, 0).await?),
            })
        };
        timeout(SILENCE, opening)
            .await
            .unwrap_or_else(|_elapsed| Err(format!("no answer in {} s", SILENCE.as_secs())))
    }

    /// The next tick, or the end.
    async fn next(&mut self) -> Heard {
        let hearing = async {
            match self {
                Self::WebSocket(stream) => stream.next().await,
                Self::Events(stream) => stream.next().await,
                Self::Grpc(stream) => stream.next().await,
            }
        };
        timeout(SILENCE, hearing)
            .await
            .unwrap_or_else(|_elapsed| cut(format!("silent for {} s", SILENCE.as_secs())))
    }
}

// === helpers ===

fn told(words: impl Into<String>) -> Heard {
    Heard::End(End::Told(words.into()))
}

fn cut(why: impl Into<String>) -> Heard {
    Heard::End(End::Cut(why.into()))
}

#[cfg(test)]
mod tests;
