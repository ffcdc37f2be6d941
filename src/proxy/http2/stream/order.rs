//! One request as it waits to be sent: everything that is needed once its head is gone.

use http::{header, request::Parts};

use super::super::{
    app::{App, Http1App, Outline},
    grpc,
};
use crate::proxy::{
    downstream::Conn,
    framing::Framing,
    headers::{self, Forwarding},
    record::{Origin, Record},
    request::Request,
    upstream::Lease,
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
    /// For the app; empty once it has been given up.
    head: Vec<u8>,
    chunked: bool,
    declared_trailers: Vec<u8>,
}

// === impl Order ===

impl Order {
    /// Settles what to send for `request`, whose original parts are `parts`.
    pub(super) fn new(
        conn: &Conn,
        is_first: bool,
        request: &Request<'_, '_>,
        parts: &Parts,
        ends: bool,
    ) -> Self {
        let worker = &conn.worker;
        let forwarding = Forwarding {
            peer: conn.peer,
            trusted: worker.config.trusted_hops > 0,
            default_host: &worker.upstreams[conn.route].default_host,
        };
        let mut head = worker.take_buffer();
        headers::to_upstream(request, &forwarding, &mut head);
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        Self {
            record: Record::new(&Origin { is_first, ..conn.origin() }, request, worker.clock.now()),
            to_head: request.method == "HEAD",
            is_grpc: content_type.is_some_and(|value| grpc::is_grpc(value.as_bytes())),
            is_idempotent: request.is_idempotent(),
            has_body: !ends,
            head,
            chunked: request.framing == Framing::Chunked,
            declared_trailers: headers::declared_trailers(request.fields),
        }
    }

    /// Begins the exchange on a connection to the app. The head is kept only if it may have to be sent again.
    pub(super) fn begin(&mut self, lease: Lease) -> App {
        let head = if lease.reused && self.is_idempotent {
            self.head.clone()
        } else {
            std::mem::take(&mut self.head)
        };
        let outline = Outline {
            chunked: self.chunked,
            has_body: self.has_body,
            to_head: self.to_head,
            declared_trailers: self.declared_trailers.clone(),
        };
        App::Http1(Http1App::new(lease, head, outline))
    }

    /// Whether there is still something to send.
    pub(super) const fn can_be_sent(&self) -> bool {
        !self.head.is_empty()
    }

    /// Gives up what would be needed to send it again.
    pub(super) fn forget(&mut self) {
        self.head = Vec::new();
    }
}
