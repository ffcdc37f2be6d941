//! Pure. Every header rule: what of a request goes to the app, what of a response goes to the client.
//!
//! Heads are written straight from the bytes that were read: names, values, case and order stay as they came.
//! Only fields for one hop are left out, and only those about this hop are added (RFC 9110 §7.6.1).

pub mod http2;

use std::{io::Write as _, net::IpAddr, time::Duration};

use httparse::Header;

use super::{
    error::Fault,
    fields::{Field, is_forbidden_trailer, list},
    framing::Framing,
    keep_alive::Verdict,
    request::Request,
    response::Response,
};
use crate::config::KeepAlive;

/// RFC 9110 §15.5.6: a 405 names what is allowed.
pub const ALLOWED: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// What the app is told about the client's side.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The client's address.
    pub peer: IpAddr,
    /// How the peer has connected.
    pub scheme: Scheme,
    /// Whether the peer is a proxy whose `X-Forwarded-…` and `Forwarded` are believed.
    pub trusted: bool,
    /// `Host` for clients that sent none (HTTP/1.0).
    pub default_host: &'a str,
}

/// How the peer has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS that ended here.
    Https,
}

/// What the client is told about its connection.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// What becomes of the connection.
    pub verdict: Verdict,
    /// `LAMEDUCK_KEEP_ALIVE`.
    pub policy: KeepAlive,
    /// What `rewrite` promises.
    pub idle_timeout: Duration,
}

/// How the body goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Chunked, trailers included if the client takes them.
    Chunked,
    /// As it comes: a declared length, or until the end of the connection.
    Plain,
}

/// Writes the head that goes to the app.
pub fn to_upstream(request: &Request<'_, '_>, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
    // RFC 9112 §3.2.1: an empty path is sent as "/".
    let root: &[u8] = if request.target.starts_with('?') { b"/" } else { b"" };
    put(
        out,
        &[request.method.as_bytes(), b" ", root, request.target.as_bytes(), b" HTTP/1.1\r\nHost: "],
    );
    put(out, &[request.host.unwrap_or(forwarding.default_host.as_bytes()), b"\r\n"]);
    let mut seen = Seen::default();
    for field in request.fields {
        if passes_to_upstream(field, request, forwarding, &mut seen) {
            put_field(out, field);
        }
    }
    let host = request.host.unwrap_or(forwarding.default_host.as_bytes());
    put_forwarding(host, forwarding, &seen, out);
    match request.framing {
        Framing::Chunked => put(out, &[b"Transfer-Encoding: chunked\r\n"]),
        Framing::Length(length) => put_length(out, length),
        Framing::None | Framing::UntilClose => {}
    }
    if request.expects_continue {
        put(out, &[b"Expect: 100-continue\r\n"]);
    }
    match &request.upgrade {
        Some(offers) => {
            put(out, &[b"Connection: Upgrade\r\nUpgrade: ", &offers.join(&b", "[..]), b"\r\n"]);
        }
        None if request.takes_trailers => put(out, &[b"TE: trailers\r\nConnection: TE\r\n"]),
        None => {}
    }
    put(out, &[b"\r\n"]);
}

/// Which fields about the client came with the request.
#[derive(Debug, Default)]
struct Seen<'b> {
    forwarded_for: Vec<&'b [u8]>,
    forwarded: bool,
    host: bool,
    proto: bool,
}

fn passes_to_upstream<'b>(
    field: &Header<'b>,
    request: &Request<'_, 'b>,
    forwarding: &Forwarding<'_>,
    seen: &mut Seen<'b>,
) -> bool {
    match Field::of(field.name) {
        Field::Connection
        | Field::ContentLength
        | Field::Expect
        | Field::HopByHop
        | Field::Host
        | Field::KeepAlive
        | Field::LookAlike
        | Field::Te
        | Field::TransferEncoding
        | Field::Upgrade => false,
        Field::ForwardedFor => {
            if forwarding.trusted {
                seen.forwarded_for.push(field.value);
            }
            false
        }
        Field::ClientCertificate => forwarding.trusted && !is_nominated(field, &request.nominated),
        Field::Forwarded => {
            seen.forwarded = true;
            forwarding.trusted && !is_nominated(field, &request.nominated)
        }
        Field::ForwardedHost => {
            seen.host |= forwarding.trusted;
            forwarding.trusted
        }
        Field::ForwardedProto => {
            seen.proto |= forwarding.trusted;
            forwarding.trusted
        }
        Field::Other | Field::Trailer | Field::UserAgent => {
            !is_nominated(field, &request.nominated)
        }
    }
}

/// Says who the peer is. What proxies in front have noted is appended to if they are trusted: nothing they noted is
/// lost, and the app reads such lists from the right. Without trust it is replaced: an app that reads a list from
/// the left would believe whatever a client says of itself.
fn put_forwarding(host: &[u8], forwarding: &Forwarding<'_>, seen: &Seen<'_>, out: &mut Vec<u8>) {
    let scheme: &[u8] = match forwarding.scheme {
        Scheme::Http => b"http",
        Scheme::Https => b"https",
    };
    put(out, &[b"X-Forwarded-For: "]);
    for earlier in &seen.forwarded_for {
        put(out, &[earlier, b", "]);
    }
    put_display(out, forwarding.peer);
    put(out, &[b"\r\n"]);
    if !seen.proto {
        put(out, &[b"X-Forwarded-Proto: ", scheme, b"\r\n"]);
    }
    if !seen.host {
        put(out, &[b"X-Forwarded-Host: ", host, b"\r\n"]);
    }
    if seen.forwarded {
        // A second line continues the first one's list (RFC 7239 §4); an IPv6 address is quoted and bracketed.
        let (open, close): (&[u8], &[u8]) =
            if forwarding.peer.is_ipv6() { (b"\"[", b"]\"") } else { (b"", b"") };
        put(out, &[b"Forwarded: for=", open]);
        put_display(out, forwarding.peer);
        put(out, &[close, b";proto=", scheme, b"\r\n"]);
    }
}

/// Writes the head that goes to the client.
pub fn to_client(
    response: &Response<'_, '_>,
    delivery: Delivery,
    closing: &Closing,
    out: &mut Vec<u8>,
) {
    put(out, &[b"HTTP/1.1 "]);
    put_display(out, response.status);
    put(out, &[b" ", response.reason.as_bytes(), b"\r\n"]);
    let passes_keep_alive =
        closing.verdict == Verdict::Persist && closing.policy == KeepAlive::Pass;
    for field in response.fields {
        if passes_to_client(field, response, passes_keep_alive) {
            put_field(out, field);
        }
    }
    put_body_fields(response, delivery, out);
    put_connection(closing, response.keep_alive_timeout.is_some() && passes_keep_alive, out);
    put(out, &[b"\r\n"]);
}

/// Whether a field of the app's response is for the client. `keep_alive` says whether the app's `Keep-Alive` is.
#[must_use]
pub fn passes_to_client(field: &Header<'_>, response: &Response<'_, '_>, keep_alive: bool) -> bool {
    match Field::of(field.name) {
        Field::Connection | Field::ContentLength | Field::TransferEncoding | Field::Upgrade => {
            false
        }
        Field::KeepAlive => keep_alive,
        Field::HopByHop => is_challenge(field.name),
        Field::ClientCertificate
        | Field::Expect
        | Field::Forwarded
        | Field::ForwardedFor
        | Field::ForwardedHost
        | Field::ForwardedProto
        | Field::Host
        | Field::LookAlike
        | Field::Other
        | Field::Te
        | Field::Trailer
        | Field::UserAgent => !is_nominated(field, &response.nominated),
    }
}

fn put_body_fields(response: &Response<'_, '_>, delivery: Delivery, out: &mut Vec<u8>) {
    // 1xx and 204 must not carry either field (RFC 9112 §6.1, RFC 9110 §8.6).
    if response.status == 204 || response.status < 200 {
        return;
    }
    match (delivery, response.declared_length) {
        (Delivery::Chunked, _) => put(out, &[b"Transfer-Encoding: chunked\r\n"]),
        (Delivery::Plain, Some(length)) => put_length(out, length),
        (Delivery::Plain, None) => {}
    }
}

fn put_connection(closing: &Closing, promised: bool, out: &mut Vec<u8>) {
    match (closing.verdict, closing.policy) {
        (Verdict::Close, _) => put(out, &[b"Connection: close\r\n"]),
        (Verdict::Persist, KeepAlive::Rewrite) => {
            put(out, &[b"Connection: keep-alive\r\nKeep-Alive: timeout="]);
            put_display(out, closing.idle_timeout.as_secs());
            put(out, &[b"\r\n"]);
        }
        (Verdict::Persist, KeepAlive::Pass) if promised => {
            put(out, &[b"Connection: keep-alive\r\n"])
        }
        (Verdict::Persist, KeepAlive::Close | KeepAlive::Pass | KeepAlive::Strip) => {}
    }
}

/// Writes an informational response's head (1xx but 101): end-to-end fields only.
pub fn to_client_informational(response: &Response<'_, '_>, out: &mut Vec<u8>) {
    put(out, &[b"HTTP/1.1 "]);
    put_display(out, response.status);
    put(out, &[b" ", response.reason.as_bytes(), b"\r\n"]);
    for field in response.fields {
        if Field::of(field.name) == Field::Other && !is_nominated(field, &response.nominated) {
            put_field(out, field);
        }
    }
    put(out, &[b"\r\n"]);
}

/// Writes the 101 that turns the connection into a tunnel; it never says close.
pub fn to_client_switching(response: &Response<'_, '_>, out: &mut Vec<u8>) {
    put(out, &[b"HTTP/1.1 101 ", response.reason.as_bytes(), b"\r\nConnection: Upgrade\r\n"]);
    for field in response.fields {
        if matches!(Field::of(field.name), Field::Other | Field::Upgrade)
            && !is_nominated(field, &response.nominated)
        {
            put_field(out, field);
        }
    }
    put(out, &[b"\r\n"]);
}

/// Writes a whole answer of our own for `fault`; the connection closes after it.
pub fn fault(fault: Fault, to_head: bool, out: &mut Vec<u8>) {
    let (status, reason) = fault.status();
    let body = format!("{status} {reason}: {fault}\n");
    // Writing into a vector can't fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Proxy-Status: lameduck; error={}; details=\"{fault}\"\r\nConnection: close\r\n",
        body.len(),
        fault.proxy_status(),
    );
    if fault.is_temporary() {
        // One second is long enough for the client's balancer to have picked another pod.
        put(out, &[b"Retry-After: 1\r\n"]);
    }
    if fault == Fault::Connect {
        put(out, &[b"Allow: ", ALLOWED.as_bytes(), b"\r\n"]);
    }
    put(out, &[b"\r\n"]);
    if !to_head {
        put(out, &[body.as_bytes()]);
    }
}

/// Writes the whole early answer of a release rule; the connection closes after it.
pub fn release(status: http::StatusCode, out: &mut Vec<u8>) {
    let reason = status.canonical_reason().unwrap_or("Released");
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
    if status != http::StatusCode::NO_CONTENT && status != http::StatusCode::NOT_MODIFIED {
        put(out, &[b"Content-Length: 0\r\n"]);
    }
    if status.is_server_error() {
        put(out, &[b"Retry-After: 1\r\n"]);
    }
    put(
        out,
        &[b"Proxy-Status: lameduck; error=proxy_internal_response; details=\"released\"\r\nConnection: close\r\n\r\n"],
    );
}

/// Of raw trailer lines, those that were declared and may come as trailers.
pub fn trailers(raw: &[u8], declared: &[u8], out: &mut Vec<u8>) -> Result<(), httparse::Error> {
    if raw.is_empty() {
        return Ok(());
    }
    let mut section = raw.to_vec();
    section.extend_from_slice(b"\r\n");
    let mut lines = [httparse::EMPTY_HEADER; 32];
    let httparse::Status::Complete((_, fields)) = httparse::parse_headers(&section, &mut lines)?
    else {
        return Err(httparse::Error::NewLine);
    };
    for field in fields {
        if is_passed_trailer(field.name, declared) {
            put_field(out, field);
        }
    }
    Ok(())
}

/// Whether a trailer of this name was declared and may come as a trailer.
#[must_use]
pub fn is_passed_trailer(name: &str, declared: &[u8]) -> bool {
    let is_declared = list(declared).any(|known| known.eq_ignore_ascii_case(name.as_bytes()));
    is_declared && !is_forbidden_trailer(name)
}

/// The names in all `Trailer` lines, comma-separated; empty if there are none.
#[must_use]
pub fn declared_trailers(fields: &[Header<'_>]) -> Vec<u8> {
    let mut declared = Vec::new();
    for field in fields.iter().filter(|field| Field::of(field.name) == Field::Trailer) {
        put(&mut declared, &[field.value, b","]);
    }
    declared
}

/// The app's challenge to the client's proxy credentials is for the client: it passes (RFC 9110 §11.7.1 leaves it
/// to the proxies that consume it, and we consume none).
fn is_challenge(name: &str) -> bool {
    name.eq_ignore_ascii_case("proxy-authenticate")
}

fn is_nominated(field: &Header<'_>, nominated: &[&[u8]]) -> bool {
    nominated.iter().any(|name| name.eq_ignore_ascii_case(field.name.as_bytes()))
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_field(out: &mut Vec<u8>, field: &Header<'_>) {
    put(out, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
}

fn put_length(out: &mut Vec<u8>, length: u64) {
    put(out, &[b"Content-Length: "]);
    put_display(out, length);
    put(out, &[b"\r\n"]);
}

fn put_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing into a vector can't fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests;
