//! Pure. Response heads as HTTP/2 clients get them: the app's without what is for one hop only, and our own.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::proxy::{error::Fault, fields::Field, headers, response::Response as Http1Response};

/// `UNAVAILABLE`: the status after which gRPC clients may ask somebody else.
const GRPC_UNAVAILABLE: &str = "14";

/// The head of an app that speaks HTTP/1.1.
///
/// # Errors
/// A field that HTTP/2 can't carry.
pub fn from_http1(response: &Http1Response<'_, '_>) -> Result<Response<()>, Fault> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(response.status)
        .map_err(|_| Fault::BadUpstream("its status is above 999"))?;
    let fields = head.headers_mut();
    for field in response.fields {
        // RFC 9113 §8.2.2: `TE` is about the connection, and for requests only.
        if headers::passes_to_client(field, response, false) && Field::of(field.name) != Field::Te {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Fault::BadUpstream("a field of its response can't be passed on"));
            };
            fields.append(name, value);
        }
    }
    // 1xx and 204 must not carry it (RFC 9110 §8.6).
    if let Some(length) = response.declared_length
        && response.status >= 200
        && response.status != 204
    {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(head)
}

/// Our own answer: its head, and its body unless the request was HEAD.
#[must_use]
pub fn fault(fault: Fault, to_head: bool) -> (Response<()>, Option<Bytes>) {
    let (status, reason) = fault.status();
    let body = Bytes::from(format!("{status} {reason}: {fault}\n"));
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = head.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(header::CONTENT_TYPE, text);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    insert_proxy_status(fields, fault.proxy_status(), &fault.to_string());
    if fault.is_temporary() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if fault == Fault::Connect {
        fields.insert(header::ALLOW, HeaderValue::from_static(headers::ALLOWED));
    }
    (head, (!to_head).then_some(body))
}

/// Our own answer to a gRPC call: always 200, what happened stands in the trailers, which are the head if there is
/// nothing else ("Trailers-Only" of the gRPC protocol).
#[must_use]
pub fn grpc_fault(fault: Fault) -> Response<()> {
    let mut head = Response::new(());
    let fields = head.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.extend(grpc_trailers(grpc_status(fault), &fault.to_string()));
    insert_proxy_status(fields, fault.proxy_status(), &fault.to_string());
    head
}

/// The trailers that end a gRPC stream of a pod that leaves.
#[must_use]
pub fn grpc_goodbye() -> HeaderMap {
    grpc_trailers(GRPC_UNAVAILABLE, &Fault::Departing.to_string())
}

/// The early answer of a release rule.
#[must_use]
pub fn release(status: StatusCode) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    let fields = head.headers_mut();
    if status.is_server_error() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    insert_proxy_status(fields, "proxy_internal_response", "released");
    head
}

/// What gRPC's own table makes of the status (grpc/doc/http-grpc-status-mapping.md).
fn grpc_status(fault: Fault) -> &'static str {
    match fault.status().0 {
        400 | 431 => "13",
        429 | 502..=504 => GRPC_UNAVAILABLE,
        _ => "2",
    }
}

fn grpc_trailers(status: &'static str, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    // gRPC percent-encodes what is not printable ASCII, and `%`; our own sentences hold neither.
    if let Ok(message) = HeaderValue::from_str(message) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

fn insert_proxy_status(fields: &mut HeaderMap, error: &str, details: &str) {
    let status = format!("lameduck; error={error}; details=\"{details}\"");
    if let Ok(status) = HeaderValue::from_str(&status) {
        fields.insert("proxy-status", status);
    }
}

/// The trailers of an app that speaks HTTP/1.1: those that were declared and may come as trailers.
///
/// # Errors
/// The trailer section can't be read.
pub fn trailers(raw: &[u8], declared: &[u8]) -> Result<HeaderMap, httparse::Error> {
    let mut passed = Vec::new();
    headers::trailers(raw, declared, &mut passed)?;
    let mut map = HeaderMap::new();
    passed.extend_from_slice(b"\r\n");
    let mut lines = [httparse::EMPTY_HEADER; 32];
    if let httparse::Status::Complete((_, fields)) = httparse::parse_headers(&passed, &mut lines)? {
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value);
            if let (Ok(name), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
    }
    Ok(map)
}

/// Of a client's trailers, those that were declared and may come as trailers, as lines for an HTTP/1.1 app.
#[must_use]
pub fn trailer_lines(trailers: &HeaderMap, declared: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        if headers::is_passed_trailer(name.as_str(), declared) {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{
        request::{HeadLimits, Parsed},
        response,
    };

    fn passed(head: &str) -> String {
        let limits = HeadLimits { bytes: 1_024, fields: 20 };
        let parsed = response::parse(head.as_bytes(), limits, false, |_, head| from_http1(head));
        let Ok(Parsed::Whole(_, head)) = parsed else { panic!("{head:?} is no head") };
        let fields = head.headers().iter();
        let fields = fields.map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
        format!("{} {}", head.status().as_u16(), fields.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn fields_for_one_hop_stay_behind() {
        let head = "HTTP/1.1 200 OK\r\nConnection: x-a, keep-alive\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\n\
                    Transfer-Encoding: chunked\r\nUpgrade: a\r\nX-B: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n";
        assert_eq!(passed(head), "200 x-b=2 set-cookie=a set-cookie=b");
        assert_eq!(passed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), "200 content-length=3");
        assert_eq!(passed("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n"), "204 ");
    }

    #[test]
    fn grpc_calls_are_answered_in_their_own_words() {
        let head = grpc_fault(Fault::Departing);
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(head.headers()["grpc-status"], "14");
        assert_eq!(head.headers()["grpc-message"], "this pod is leaving; ask again");
        assert_eq!(grpc_fault(Fault::BadRequest("x")).headers()["grpc-status"], "13");
    }

    #[test]
    fn a_fault_says_when_to_come_again() {
        let (head, body) = fault(Fault::Departing, false);
        assert_eq!(
            (head.status().as_u16(), &head.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        assert!(head.headers()["proxy-status"].to_str().unwrap().starts_with("lameduck; error="));
        assert_eq!(body.unwrap(), "503 Service Unavailable: this pod is leaving; ask again\n");
        assert_eq!(fault(Fault::Departing, true).1, None);
    }

    #[test]
    fn declared_trailers_pass_both_ways() {
        let map =
            trailers(b"x-sum: 1\r\nx-other: 2\r\ncontent-length: 3\r\n", b"x-sum, content-length")
                .unwrap();
        assert_eq!((map.len(), &map["x-sum"]), (1, &"1".parse().unwrap()));
        assert_eq!(trailer_lines(&map, b"X-Sum"), b"x-sum: 1\r\n");
        assert_eq!(trailer_lines(&map, b""), b"");
    }
}
