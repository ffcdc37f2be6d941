//! The response head as the client gets it: framing, connection, and the relay that carries its body.

use std::time::Duration;

use super::Wait;
use crate::{
    proxy::{
        error::Fault,
        framing::Framing,
        headers::{self, Delivery},
        keep_alive::{self, Facts, Verdict},
        relay::{Output, Relay},
        response::Response,
        websocket,
    },
    tracker::Count,
};

/// A response head, on its way to the client.
#[derive(Debug)]
pub(in crate::proxy) struct Answer {
    pub(in crate::proxy) status: u16,
    /// The head and the body to the client.
    pub(in crate::proxy) download: Relay,
    /// Bytes the app sent after the end of its response, or of the head of a 101.
    pub(in crate::proxy) excess: Vec<u8>,
    pub(in crate::proxy) verdict: Verdict,
    /// Whether the connection to the app outlives the response.
    pub(in crate::proxy) app_persists: bool,
    /// The app's `Keep-Alive: timeout`.
    pub(in crate::proxy) hint: Option<Duration>,
    /// Whether there is no body because of the request's method or the status, which some apps overlook.
    pub(in crate::proxy) is_bodiless: bool,
    /// Whether a cut body would look whole: its end is the end of the connection.
    pub(in crate::proxy) ends_with_connection: bool,
    pub(in crate::proxy) was_parked: bool,
    /// Whether it begins a WebSocket.
    pub(in crate::proxy) is_websocket: bool,
}

/// How often a close that is due waits for a request that has been read already. The inbox holds fewer requests than
/// that, so nobody who stops is cut short; who pipelines without end is told all the same.
const MAX_DEFERRALS: u32 = 1_000;

// === impl Wait ===

impl Wait<'_> {
    /// Settles a 101: the connection leaves HTTP.
    pub(super) fn switch(
        &mut self,
        response: &Response<'_, '_>,
        rest: &[u8],
    ) -> Result<Answer, Fault> {
        if !self.task.upgrade {
            return Err(Fault::BadUpstream("it switched protocols unasked"));
        }
        let mut head = std::mem::take(&mut self.reply);
        headers::to_client_switching(response, &mut head);
        let worker = &self.conn.worker;
        let download =
            Relay::new(Framing::UntilClose, Output::Plain, head, worker, Count::ClientBytesOut);
        let mut answer = self.outcome(response, download, Verdict::Close);
        answer.excess.extend_from_slice(rest);
        answer.is_websocket = websocket::begins(response.fields);
        Ok(answer)
    }

    /// Settles the final response: this is the moment at which the connection's fate is decided.
    pub(super) fn answer(
        &mut self,
        response: &Response<'_, '_>,
        rest: &[u8],
    ) -> Result<Answer, Fault> {
        let chunked = match response.framing {
            Framing::Chunked | Framing::UntilClose => self.task.http11,
            Framing::Length(_) | Framing::None => false,
        };
        let verdict = self.verdict();
        let worker = &self.conn.worker;
        let (delivery, output) = if chunked {
            (Delivery::Chunked, Output::Chunked)
        } else {
            (Delivery::Plain, Output::Plain)
        };
        let mut head = std::mem::take(&mut self.reply);
        if head.capacity() == 0 {
            head = worker.take_buffer();
        }
        headers::to_client(response, delivery, &worker.closing(verdict), &mut head);
        let mut download =
            Relay::new(response.framing, output, head, worker, Count::ClientBytesOut);
        if chunked && self.task.takes_trailers {
            download.pass_trailers(headers::declared_trailers(response.fields));
        }
        let used =
            download.feed(rest).map_err(|_| Fault::BadUpstream("its chunked body is broken"))?;
        let mut answer = self.outcome(response, download, verdict);
        answer.excess.extend_from_slice(&rest[used..]);
        answer.ends_with_connection =
            !chunked && matches!(response.framing, Framing::UntilClose | Framing::Chunked);
        Ok(answer)
    }

    fn outcome(
        &mut self,
        response: &Response<'_, '_>,
        download: Relay,
        verdict: Verdict,
    ) -> Answer {
        Answer {
            status: response.status,
            download,
            excess: Vec::new(),
            verdict,
            app_persists: response.persistent,
            hint: response.keep_alive_timeout,
            is_bodiless: response.framing == Framing::None,
            ends_with_connection: false,
            was_parked: self.parked.take().is_some(),
            is_websocket: false,
        }
    }

    fn verdict(&mut self) -> Verdict {
        let worker = &self.conn.worker;
        let facts = Facts {
            accepted_at: self.conn.accepted_at,
            seed: self.conn.seed,
            requests: self.conn.requests,
            client_persists: self.task.client_persists,
            request_read: self.upload.has_read_all(),
            next_request_read: self.conn.has_next() && self.conn.deferrals < MAX_DEFERRALS,
        };
        let decide =
            |facts| keep_alive::decide(&worker.phase(), &worker.rules(), facts, worker.clock.now());
        let verdict = decide(&facts);
        if facts.next_request_read
            && verdict != decide(&Facts { next_request_read: false, ..facts })
        {
            self.conn.deferrals += 1;
        }
        verdict
    }
}
