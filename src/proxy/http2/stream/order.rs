//! One request as it waits to be sent: everything that is needed once its head is gone.

use http::{HeaderValue, header, request::Parts};

use super::super::app::{App, Http1App, Outline};
use crate::proxy::{
    downstream::Conn,
    error::Fault,
    framing::Framing,
    headers::{self, Forwarding},
    record::{Origin, Record},
    request::Request,
    upstream::{Lease, Upstream, protocol},
};

/// One request as it waits to be sent.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) record: Record,
    /// Whether it is HEAD: its response has no body.
    pub(super) to_head: bool,
    pub(super) is_grpc: bool,
    /// Whether it may be sent again although the app may have seen it.
    pub(super) is_idempotent: bool,
    has_body: bool,
    head: Head,
    chunked: bool,
    declared_trailers: Vec<u8>,
}

/// What the app is sent first.
#[derive(Debug)]
enum Head {
    /// It has been given up: the request can't be sent again.
    Gone,
    Http1(Vec<u8>),
    Http2(http::Request<()>),
}

// === impl Order ===

impl Order {
    /// Settles what to send for `request`, whose original parts are `parts`.
    ///
    /// # Errors
    /// The app's protocol can't say it.
    pub(super) fn new(
        conn: &Conn,
        is_first: bool,
        request: &Request<'_, '_>,
        parts: &Parts,
        ends: bool,
    ) -> Result<Self, Fault> {
        let worker = &conn.worker;
        let forwarding = Forwarding {
            peer: conn.peer,
            scheme: conn.scheme(),
            trusted: worker.config.trusted_hops > 0,
            default_host: &worker.upstreams[conn.route].default_host,
        };
        let content_type = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let configured = worker.config.upstream.protocol;
        let head = match protocol::Protocol::choose(configured, content_type, false) {
            protocol::Protocol::Http1 => {
                let mut head = worker.take_buffer();
                headers::to_upstream(request, &forwarding, &mut head);
                Head::Http1(head)
            }
            protocol::Protocol::Http2 => {
                Head::Http2(headers::http2::to_upstream(request, &forwarding)?)
            }
        };
        let origin = Origin { is_first, ..conn.origin() };
        Ok(Self {
            record: Record::new(&origin, request, worker.clock.now()),
            to_head: request.method == "HEAD",
            is_grpc: content_type.is_some_and(protocol::is_grpc),
            is_idempotent: request.is_idempotent(),
            has_body: !ends,
            head,
            chunked: request.framing == Framing::Chunked,
            declared_trailers: headers::declared_trailers(request.fields),
        })
    }

    /// Takes a connection that was used before, if the app speaks HTTP/1.1 and there is one.
    pub(super) fn reuse(&mut self, upstream: &Upstream, is_sent: bool) -> Option<App> {
        let Head::Http1(head) = &self.head else { return None };
        let replayable = self.is_idempotent && is_sent;
        let lease = upstream.reuse(self.record.started, replayable)?;
        // Kept, because it may have to be sent again.
        let head = if self.is_idempotent { head.clone() } else { self.take_http1() };
        Some(self.begin(lease, head))
    }

    /// Begins on a new connection, or on a new stream of one.
    pub(super) async fn connect(
        &mut self,
        upstream: &Upstream,
        may_return: impl Fn() -> bool,
    ) -> Result<App, Fault> {
        if let Head::Http2(head) = &self.head {
            let begun = upstream.http2.begin(head.clone(), !self.has_body, may_return).await;
            return begun.map(App::Http2);
        }
        let lease = upstream.connect(protocol::Protocol::Http1, may_return).await?;
        let head = self.take_http1();
        Ok(self.begin(lease, head))
    }

    /// Whether there is still something to send.
    pub(super) const fn can_be_sent(&self) -> bool {
        !matches!(self.head, Head::Gone)
    }

    /// Gives up what would be needed to send it again.
    pub(super) fn forget(&mut self) {
        self.head = Head::Gone;
    }

    fn take_http1(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.head, Head::Gone) {
            Head::Http1(head) => head,
            Head::Gone | Head::Http2(_) => Vec::new(),
        }
    }

    fn begin(&self, lease: Lease, head: Vec<u8>) -> App {
        let outline = Outline {
            chunked: self.chunked,
            has_body: self.has_body,
            to_head: self.to_head,
            declared_trailers: self.declared_trailers.clone(),
        };
        App::Http1(Http1App::new(lease, head, outline))
    }
}
