//! How a response can be ended before its app ends it: in the words of the protocol inside it, and only where one of
//! that protocol's messages ends.

use bytes::Bytes;
use h2::SendStream;
use http::{Response, header};

use super::{
    super::{grpc::Messages, reply},
    order::Order,
};
use crate::{
    config::Config,
    lifecycle::Departure,
    proxy::{
        goodbye::{self, Events},
        pace,
    },
    tracker::Count,
    units::Uptime,
};

/// What kind of end a response has, besides its app's own.
#[derive(Debug)]
pub(super) enum Ending {
    /// Between two events; the stream just ends.
    Events(Events),
    /// Between two messages, with trailers.
    Grpc {
        /// What has been sent of them.
        messages: Messages,
        /// Whether the end was asked for.
        asked: bool,
    },
    /// None.
    Opaque,
}

// === impl Ending ===

impl Ending {
    /// The end that the response to `order` with this head can have.
    pub(super) fn of(order: &Order, head: &Response<()>, config: &Config) -> Self {
        if order.is_grpc {
            return Self::Grpc { messages: Messages::default(), asked: false };
        }
        // A length is a promise.
        if head.headers().contains_key(header::CONTENT_LENGTH) {
            return Self::Opaque;
        }
        let fields = head.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let events = Events::of(head.status().as_u16(), fields, config.sse_retry);
        events.map_or(Self::Opaque, Self::Events)
    }

    /// When it is due, if the request began at `started`.
    pub(super) fn turn(
        &self,
        config: &Config,
        departure: &Departure,
        seed: f32,
        started: Uptime,
    ) -> Uptime {
        match self {
            Self::Events(_) => goodbye::stream_turn(config, departure, seed, started),
            Self::Grpc { .. } => pace::goodbye_at(departure, seed, started, config.parked_after),
            Self::Opaque => Uptime::NEVER,
        }
    }

    /// Asks for the end, which comes at once or with the message under way.
    pub(super) fn ask(&mut self) {
        match self {
            Self::Events(events) => events.ask(),
            Self::Grpc { asked, .. } => *asked = true,
            Self::Opaque => {}
        }
    }

    /// Whether there is nothing to ask for, or it was asked for already.
    pub(super) fn was_asked(&self) -> bool {
        match self {
            Self::Events(events) => !events.is_unasked(),
            Self::Grpc { asked, .. } => *asked,
            Self::Opaque => true,
        }
    }

    /// Follows bytes that may be sent; returns how many of them are.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Events(events) => events.take(bytes),
            Self::Grpc { messages, asked } => {
                let end = if *asked { messages.first_boundary(bytes) } else { None };
                let taken = end.unwrap_or(bytes.len());
                messages.feed(&bytes[..taken]);
                taken
            }
            Self::Opaque => bytes.len(),
        }
    }

    /// Whether the response ends here.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Events(events) => events.is_over(),
            Self::Grpc { messages, asked } => *asked && messages.at_boundary(),
            Self::Opaque => false,
        }
    }

    /// Ends the response; returns what that is counted as.
    ///
    /// # Errors
    /// The stream has ended meanwhile.
    pub(super) fn say(&self, send: &mut SendStream<Bytes>) -> Result<Option<Count>, h2::Error> {
        match self {
            Self::Events(events) => {
                send.send_data(events.last_words().into(), true).map(|()| Some(Count::GoodbyeSse))
            }
            Self::Grpc { .. } => {
                send.send_trailers(reply::grpc_goodbye()).map(|()| Some(Count::GoodbyeGrpc))
            }
            Self::Opaque => Ok(None),
        }
    }
}
