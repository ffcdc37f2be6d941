//! Pure. One HTTP/2 request head, put into the form in which all requests are judged.
//!
//! The h2 crate has refused what RFC 9113 §8.2 and §8.3 call malformed: connection-specific fields, uppercase names,
//! pseudo-header fields twice or in the wrong place. What is left is what every request must keep, and that
//! `:authority` and `Host` agree.

use http::{HeaderMap, Method, header, request::Parts};
use httparse::Header;

use crate::proxy::{
    error::Fault,
    request::{HeadLimits, Request},
};

/// Settles the meaning of the head and hands it to `then`. `ends` says that no body follows.
///
/// # Errors
/// The fault to answer with; the connection and its other streams go on.
pub fn settle<T>(
    parts: &Parts,
    ends: bool,
    limits: HeadLimits,
    then: impl FnOnce(&Request<'_, '_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    if parts.headers.len() > limits.fields || size(parts) > limits.bytes {
        return Err(Fault::HeadersTooLarge);
    }
    let cookies = joined_cookies(&parts.headers);
    let host = host(parts)?;
    let mut lines = Vec::with_capacity(parts.headers.len() + 2);
    lines.extend(host.map(|value| Header { name: "host", value }));
    for (name, value) in &parts.headers {
        if name != header::HOST && name != header::COOKIE {
            lines.push(Header { name: name.as_str(), value: value.as_bytes() });
        }
    }
    lines.extend(cookies.as_deref().map(|value| Header { name: "cookie", value }));
    lines.extend(framing(parts, ends));
    let mut raw = httparse::Request::new(&mut lines);
    raw.method = Some(parts.method.as_str());
    raw.path = Some(target(parts));
    raw.version = Some(1);
    Request::settle(raw).and_then(|request| then(&request))
}

/// What the head would take in HTTP/1.1, where each field line has four bytes besides its name and value.
fn size(parts: &Parts) -> usize {
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    target(parts).len() + fields.sum::<usize>()
}

/// RFC 9113 §8.2.3: an HTTP/1.1 app gets one `Cookie`, however many crumbs the client made of it.
fn joined_cookies(headers: &HeaderMap) -> Option<Vec<u8>> {
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().map(|v| v.as_bytes()).collect();
    (!crumbs.is_empty()).then(|| crumbs.join(&b"; "[..]))
}

/// RFC 9113 §8.3.1: `:authority` and `Host` say the same, if both are there.
fn host(parts: &Parts) -> Result<Option<&[u8]>, Fault> {
    let mut lines = parts.headers.get_all(header::HOST).iter();
    let line = lines.next().map(|value| value.as_bytes());
    if lines.next().is_some() {
        return Err(Fault::BadRequest("more than one Host"));
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, line) {
        (Some(authority), Some(line)) if !authority.eq_ignore_ascii_case(line) => {
            Err(Fault::BadRequest("Host and :authority differ"))
        }
        (Some(authority), _) => Ok(Some(authority)),
        (None, line) => Ok(line),
    }
}

/// How the body's end is told to an app that counts or chunks: by the length the client gave, else in chunks.
fn framing(parts: &Parts, ends: bool) -> Option<Header<'static>> {
    let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
    let wants_body = [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method);
    match (has_length, ends) {
        (true, _) => None,
        (false, false) => Some(Header { name: "transfer-encoding", value: b"chunked" }),
        // RFC 9110 §8.6: where a body would be expected, its absence is said.
        (false, true) => wants_body.then_some(Header { name: "content-length", value: b"0" }),
    }
}

fn target(parts: &Parts) -> &str {
    match parts.uri.path_and_query() {
        Some(path) => path.as_str(),
        // Only CONNECT has none, and that is refused.
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use http::Request as Http;

    use super::*;
    use crate::proxy::framing::Framing;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1_024, fields: 10 };

    fn check(builder: http::request::Builder, ends: bool, expected: Result<&str, Fault>) {
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let found = settle(&parts, ends, LIMITS, |request| {
            let host = String::from_utf8_lossy(request.host.unwrap_or(b"-")).into_owned();
            let cookie = request.fields.iter().find(|field| field.name == "cookie");
            let cookie = cookie.map_or(String::new(), |field| {
                format!(" cookie={}", String::from_utf8_lossy(field.value))
            });
            let body = match request.framing {
                Framing::None => "none".to_owned(),
                Framing::Chunked => "chunked".to_owned(),
                Framing::Length(length) => length.to_string(),
                Framing::UntilClose => unreachable!("a request has a length"),
            };
            Ok(format!("{} {} {host} body={body}{cookie}", request.method, request.target))
        });
        assert_eq!(found.as_deref().map_err(|fault| *fault), expected);
    }

    #[test]
    fn the_authority_is_the_host() {
        check(Http::get("http://a/x?y"), true, Ok("GET /x?y a body=none"));
        check(Http::get("http://a/").header("host", "A"), true, Ok("GET / a body=none"));
        check(Http::get("/").header("host", "b:1"), true, Ok("GET / b:1 body=none"));
        check(Http::options("*").header("host", "b"), true, Ok("OPTIONS * b body=none"));
    }

    #[test]
    fn one_host_no_more_and_no_less() {
        let differ = Fault::BadRequest("Host and :authority differ");
        check(Http::get("http://a/").header("host", "b"), true, Err(differ));
        let twice = Fault::BadRequest("more than one Host");
        check(Http::get("http://a/").header("host", "a").header("host", "a"), true, Err(twice));
        check(Http::get("/"), true, Err(Fault::BadRequest("Host is missing")));
    }

    #[test]
    fn a_body_without_a_length_goes_in_chunks() {
        check(Http::post("http://a/"), false, Ok("POST / a body=chunked"));
        check(Http::post("http://a/"), true, Ok("POST / a body=0"));
        check(Http::post("http://a/").header("content-length", "7"), false, Ok("POST / a body=7"));
        check(Http::delete("http://a/"), true, Ok("DELETE / a body=none"));
    }

    #[test]
    fn cookie_crumbs_become_one() {
        let crumbs = Http::get("http://a/").header("cookie", "a=1").header("cookie", "b=2");
        check(crumbs, true, Ok("GET / a body=none cookie=a=1; b=2"));
    }

    #[test]
    fn what_no_request_may_do_no_http2_request_may() {
        check(Http::connect("a:1"), true, Err(Fault::Connect));
        let many = (0..11).fold(Http::get("http://a/"), |b, n| b.header(format!("x-{n}"), "1"));
        check(many, true, Err(Fault::HeadersTooLarge));
        let large = Http::get("http://a/").header("x", "y".repeat(1_020));
        check(large, true, Err(Fault::HeadersTooLarge));
        let look_alike = Http::get("http://a/").header("content_length", "1");
        let fault = Fault::BadRequest("field name with underscore that reads like framing");
        check(look_alike, true, Err(fault));
        check(Http::get("http://u@a/"), true, Err(Fault::BadRequest("Host is not an authority")));
    }
}
