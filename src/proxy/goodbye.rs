//! The goodbye of responses that have no end of their own: event streams are ended between two events.
//!
//! A client of an event stream reconnects when the stream ends, and with the pod on its way out it does so elsewhere.
//! What it must not see is half an event, or an end that looks like a fault.
//!
//! Not here: where events end ([`super::event_stream`]), and the goodbyes of requests without a response head, which
//! the wait for it gives ([`super::wait`]).

use std::{io::Write as _, time::Duration};

use super::{
    event_stream::{self, EventStream},
    pace,
};
use crate::{config::Config, lifecycle::Departure, units::Uptime};

/// The events of one response, on their way to the client.
#[derive(Debug)]
pub(super) struct Events {
    stream: EventStream,
    state: State,
    /// `LAMEDUCK_SSE_RETRY`.
    retry: Option<Duration>,
}

/// How far the goodbye is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It comes behind the next event.
    Due,
    /// It was said: nothing of the app's follows.
    Said,
    /// Nobody has asked for it.
    Unasked,
}

// === impl Events ===

impl Events {
    /// The events of a response with this status and these fields, if it is a stream of them that can be ended. They
    /// are to be followed from its first byte on.
    pub(super) fn of<'a>(
        status: u16,
        fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        retry: Option<Duration>,
    ) -> Option<Self> {
        let is_stream = status == 200 && event_stream::is_announced_by(fields);
        is_stream.then(|| Self { stream: EventStream::new(), state: State::Unasked, retry })
    }

    /// Takes the next bytes of the body. Returns how many of them go to the client; if that is not all, or the goodbye
    /// is due where they end, [`Events::is_over`] says so.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let boundary = self.stream.feed(bytes);
        match (self.state, boundary) {
            (State::Due, Some(boundary)) => {
                self.state = State::Said;
                boundary
            }
            (State::Due | State::Unasked, _) => bytes.len(),
            (State::Said, _) => 0,
        }
    }

    /// Asks for the goodbye, which is said at once if no event has begun.
    pub(super) fn ask(&mut self) {
        if self.state == State::Unasked {
            self.state = if self.stream.at_boundary() { State::Said } else { State::Due };
        }
    }

    /// Whether [`Events::ask`] has something to do.
    pub(super) fn is_unasked(&self) -> bool {
        self.state == State::Unasked
    }

    /// Whether the client's stream ends here.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Said
    }

    /// The last words, as bytes of the body: when to come back, if that is configured.
    pub(super) fn last_words(&self) -> Vec<u8> {
        let mut words = Vec::new();
        if let Some(retry) = self.retry {
            // Writing into a vector can't fail.
            let _ = write!(words, "retry: {}\n\n", retry.as_millis());
        }
        words
    }
}

/// When the stream that answers a request of `started` is ended; `seed` is its connection's. One that came after its
/// connection's turn has until the last one's: its client was just sent here.
pub(super) fn stream_turn(
    config: &Config,
    departure: &Departure,
    seed: f32,
    started: Uptime,
) -> Uptime {
    let turn = |seed| pace::stream_goodbye_at(departure, config.close_spread, config.linger, seed);
    let own = turn(seed);
    if started < own { own } else { turn(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Facts, MapVars},
        lifecycle::Cause,
    };

    #[test]
    fn a_stream_that_came_after_its_turn_has_until_the_last_one() {
        let config =
            Config::from_vars(&MapVars::new(), &Facts { fd_limit: 1000, cpus: 1 }).unwrap();
        let departure = Departure {
            cause: Cause::PreStop,
            since: Uptime::from_millis(10_000),
            deadline: Uptime::from_millis(70_000),
        };
        let turn = |seed, started| {
            stream_turn(&config, &departure, seed, Uptime::from_millis(started)).as_millis()
        };
        // The spread is 10 s, the linger 2 s.
        assert_eq!([turn(0.0, 0), turn(0.5, 0), turn(1.0, 0)], [57_800, 62_800, 67_800]);
        assert_eq!(
            [turn(0.0, 57_799), turn(0.0, 57_800), turn(0.5, 60_000)],
            [57_800, 67_800, 62_800]
        );
        assert_eq!(turn(0.0, 69_000), 67_800, "it is told at once");
    }

    #[test]
    fn the_goodbye_is_said_once_and_behind_the_event_that_has_begun() {
        let fields = [("content-type", &b"text/event-stream"[..])];
        let mut events = Events::of(200, fields, Some(Duration::from_millis(1500))).unwrap();
        assert_eq!((events.take(b"data: a\n\nda"), events.is_over()), (11, false));
        events.ask();
        assert!(!events.is_unasked() && !events.is_over());
        assert_eq!((events.take(b"ta: b\n"), events.is_over()), (6, false));
        assert_eq!((events.take(b"\n: c\ndata: d"), events.is_over()), (5, true));
        assert_eq!(events.take(b"data: e\n\n"), 0);
        assert_eq!(events.last_words(), b"retry: 1500\n\n");
        assert!(Events::of(206, fields, None).is_none());
    }
}
