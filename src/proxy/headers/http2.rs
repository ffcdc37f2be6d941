//! Pure. The header rules where one side speaks HTTP/2 (RFC 9113 §8.2, §8.3).
//!
//! They are the rules of [`super`], for heads whose names are lower-case, whose host is `:authority`, and whose
//! connection has no fields of its own.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{CONNECTION, FORWARDED, TE},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{Forwarding, Seen, is_challenge, is_nominated, put_forwarding};
use crate::proxy::{
    error::Fault,
    fields::{CLIENT_CERTIFICATES, Field, list},
    request,
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The head that goes to an app that speaks HTTP/2, for a request that came in HTTP/1.
///
/// # Errors
/// [`Fault::BadRequest`]: HTTP/2 has no way to say it.
pub fn to_upstream(
    request: &request::Request<'_, '_>,
    forwarding: &Forwarding<'_>,
) -> Result<Request<()>, Fault> {
    let host = request.host.filter(|host| !host.is_empty());
    let host = host.unwrap_or(forwarding.default_host.as_bytes());
    let mut translated = translate(request, host)?;
    note_client(translated.headers_mut(), host, forwarding);
    Ok(translated)
}

/// The same request in HTTP/2: the meaning stays, what is about the connection goes. `host` becomes `:authority`.
///
/// An offer to switch protocols is about the connection (RFC 9113 §8.6): it is not passed on, and the app answers
/// the request as it stands, which RFC 9110 §7.8 leaves to it anyway.
///
/// # Errors
/// [`Fault::BadRequest`]: HTTP/2 has no way to say it.
pub fn translate(request: &request::Request<'_, '_>, host: &[u8]) -> Result<Request<()>, Fault> {
    let root = if request.target.starts_with('?') { "/" } else { "" };
    let path = PathAndQuery::from_maybe_shared(format!("{root}{}", request.target));
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::try_from(host).map_err(|_| UNFIT_HOST)?);
    uri.path_and_query = Some(path.map_err(|_| UNFIT_TARGET)?);
    let mut translated = Request::new(());
    *translated.method_mut() = request.method.parse().map_err(|_| UNFIT_METHOD)?;
    *translated.uri_mut() = Uri::from_parts(uri).map_err(|_| UNFIT_TARGET)?;
    *translated.version_mut() = Version::HTTP_2;
    let headers = translated.headers_mut();
    headers.reserve(request.fields.len());
    for field in request.fields {
        if passes(field, request) {
            headers.append(name(field.name)?, value(field.value)?);
        }
    }
    if request.expects_continue {
        headers.insert(http::header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    if request.takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(translated)
}

const UNFIT_HOST: Fault = Fault::BadRequest("HTTP/2 has no such authority");
const UNFIT_METHOD: Fault = Fault::BadRequest("HTTP/2 has no such method");
const UNFIT_TARGET: Fault = Fault::BadRequest("HTTP/2 has no such path");
const UNFIT_FIELD: Fault = Fault::BadRequest("HTTP/2 has no such field");

fn name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| UNFIT_FIELD)
}

fn value(value: &[u8]) -> Result<HeaderValue, Fault> {
    HeaderValue::from_bytes(value).map_err(|_| UNFIT_FIELD)
}

fn passes(field: &httparse::Header<'_>, request: &request::Request<'_, '_>) -> bool {
    match Field::of(field.name) {
        Field::Connection
        | Field::Expect
        | Field::HopByHop
        | Field::Host
        | Field::KeepAlive
        | Field::LookAlike
        | Field::Te
        | Field::TransferEncoding
        | Field::Upgrade => false,
        // They are judged by trust, and the length by HTTP/2 itself: naming them in Connection does not hide them.
        Field::ContentLength
        | Field::ForwardedFor
        | Field::ForwardedHost
        | Field::ForwardedProto => true,
        Field::ClientCertificate
        | Field::Forwarded
        | Field::Other
        | Field::Trailer
        | Field::UserAgent => !is_nominated(field, &request.nominated),
    }
}

/// Says who the peer is, by the same trust as in HTTP/1.1.
pub fn note_client(headers: &mut HeaderMap, host: &[u8], forwarding: &Forwarding<'_>) {
    let mut lines = Vec::new();
    let earlier: Vec<HeaderValue> = headers.get_all(FORWARDED_FOR).iter().cloned().collect();
    let mut seen = Seen { forwarded: headers.contains_key(FORWARDED), ..Seen::default() };
    headers.remove(FORWARDED_FOR);
    if forwarding.trusted {
        seen.forwarded_for = earlier.iter().map(HeaderValue::as_bytes).collect();
        seen.host = headers.contains_key(FORWARDED_HOST);
        seen.proto = headers.contains_key(FORWARDED_PROTO);
    } else {
        for name in [FORWARDED, FORWARDED_HOST, FORWARDED_PROTO] {
            headers.remove(name);
        }
        for name in CLIENT_CERTIFICATES {
            headers.remove(name);
        }
    }
    put_forwarding(host, forwarding, &seen, &mut lines);
    append_lines(headers, &lines);
}

/// Raw field lines, as a map. Lines that are none are left out.
#[must_use]
pub fn from_lines(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    append_lines(&mut headers, lines);
    headers
}

fn append_lines(headers: &mut HeaderMap, lines: &[u8]) {
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

/// Takes out what a message that comes in HTTP/2 must not say about its connection (RFC 9113 §8.2.2), and what is for
/// one hop only.
pub fn strip_connection(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for name in nominated.iter().flat_map(|value| list(value.as_bytes())) {
        if let Ok(name) = HeaderName::from_bytes(name) {
            headers.remove(name);
        }
    }
    let hops: Vec<HeaderName> =
        headers.keys().filter(|name| is_for_one_hop(name)).cloned().collect();
    for name in hops {
        headers.remove(name);
    }
}

fn is_for_one_hop(name: &HeaderName) -> bool {
    match Field::of(name.as_str()) {
        Field::Connection
        | Field::KeepAlive
        | Field::Te
        | Field::TransferEncoding
        | Field::Upgrade => true,
        Field::HopByHop => !is_challenge(name.as_str()),
        Field::ClientCertificate
        | Field::ContentLength
        | Field::Expect
        | Field::Forwarded
        | Field::ForwardedFor
        | Field::ForwardedHost
        | Field::ForwardedProto
        | Field::Host
        | Field::LookAlike
        | Field::Other
        | Field::Trailer
        | Field::UserAgent => false,
    }
}

#[cfg(test)]
mod tests;
