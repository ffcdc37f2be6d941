//! One request as it waits to be sent: everything that is needed once the bytes it was read from are gone.

use super::{
    downstream::Conn,
    error::Fault,
    framing::Framing,
    headers::{self, Forwarding},
    record::Record,
    request::Request,
    upstream::protocol::Protocol,
};
use crate::{config::UpstreamProtocol, units::Uptime};

/// One request as it waits to be sent.
#[derive(Debug)]
pub(super) struct Task {
    /// The head for the app, and the body if it was read together with the head.
    pub(super) message: Vec<u8>,
    /// How the rest of the body is delimited.
    pub(super) body: Framing,
    /// Whether it is HEAD: its response has no body.
    pub(super) to_head: bool,
    /// Whether `message` may be sent again on another connection.
    pub(super) replayable: bool,
    /// Whether the client speaks HTTP/1.1.
    pub(super) http11: bool,
    /// Whether the client will send another request.
    pub(super) client_persists: bool,
    pub(super) expects_continue: bool,
    /// Whether the client offered to switch protocols.
    pub(super) upgrade: bool,
    pub(super) takes_trailers: bool,
    /// Trailer names the client declared.
    pub(super) declared_trailers: Vec<u8>,
    /// What it is sent in.
    pub(super) protocol: Protocol,
    /// What is noted about it.
    pub(super) record: Record,
}

// === impl Task ===

impl Task {
    /// Settles what to send for `request`. `rest` is what was read after its head; returns how much of that went in.
    pub(super) fn new(
        conn: &Conn,
        request: &Request<'_, '_>,
        rest: &[u8],
        now: Uptime,
    ) -> Result<(Self, usize), Fault> {
        let worker = &conn.worker;
        let config = &worker.config;
        if request.upgrade.is_some() && request.has_body() {
            // The body would stand where the new protocol's first bytes are expected (CVE-2026-58055).
            return Err(Fault::BadRequest("Upgrade with a body"));
        }
        let mut message = worker.take_buffer();
        let forwarding = Forwarding {
            peer: conn.peer,
            scheme: conn.scheme(),
            trusted: config.trusted_hops > 0,
            default_host: &worker.upstreams[conn.route].default_host,
        };
        headers::to_upstream(request, &forwarding, &mut message);
        let inline = inline_body(request, rest);
        message.extend_from_slice(&rest[..inline.unwrap_or(0)]);
        let body = if inline.is_some() { Framing::None } else { request.framing };
        let task = Self {
            message,
            body,
            to_head: request.method == "HEAD",
            replayable: request.is_idempotent()
                && body == Framing::None
                && request.upgrade.is_none(),
            http11: request.http11,
            client_persists: request.persistent,
            expects_continue: request.expects_continue,
            upgrade: request.upgrade.is_some(),
            takes_trailers: request.takes_trailers,
            declared_trailers: match request.framing {
                Framing::Chunked => headers::declared_trailers(request.fields),
                Framing::Length(_) | Framing::None | Framing::UntilClose => Vec::new(),
            },
            protocol: protocol(config.upstream.protocol, request),
            record: Record::new(&conn.origin(), request, now),
        };
        Ok((task, inline.unwrap_or(0)))
    }
}

fn protocol(configured: UpstreamProtocol, request: &Request<'_, '_>) -> Protocol {
    let is_type = |name: &str| name.eq_ignore_ascii_case("content-type");
    let content_type = request.fields.iter().find(|field| is_type(field.name));
    Protocol::choose(configured, content_type.map(|field| field.value), request.upgrade.is_some())
}

/// How many bytes of `rest` are the whole body, if it has a length, is all there and is wanted at once.
fn inline_body(request: &Request<'_, '_>, rest: &[u8]) -> Option<usize> {
    match request.framing {
        Framing::Length(length) if !request.expects_continue => {
            usize::try_from(length).ok().filter(|length| *length <= rest.len())
        }
        Framing::Chunked | Framing::Length(_) | Framing::None | Framing::UntilClose => None,
    }
}
