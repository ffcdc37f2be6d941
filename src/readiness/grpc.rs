//! `grpc.health.v1.Health/Check`, by hand: two messages of one field each are no reason for a gRPC stack.
//!
//! ```text
//! message HealthCheckRequest  { string service = 1; }
//! message HealthCheckResponse { enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
//!                               ServingStatus status = 1; }
//! ```

use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::readiness::{
    http::{AskError, authority, connect, drive},
    own_user_agent,
};

/// An answer is 7 bytes; whatever is longer than this is none.
const ANSWER_MAX: usize = 1024;

/// `ServingStatus::SERVING`.
const SERVING: u64 = 1;

/// Asks `service`: 200 if it is SERVING, 503 with the reason if the app says anything else.
pub(super) async fn check(
    host: &str,
    port: u16,
    service: &str,
    user_agent: Option<&HeaderValue>,
) -> Result<(StatusCode, Bytes), AskError> {
    let request = request(host, port, service, user_agent)?;
    let tcp = connect(host, port).await?;
    // The executor runs what hyper needs for this connection; it ends when the connection is dropped below.
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(AskError::Grpc(format!("HTTP status {}", head.status)));
        }
        verdict(&head.headers, body).await
    };
    drive(connection, exchange).await
}

// === helpers ===

fn request(
    host: &str,
    port: u16,
    service: &str,
    user_agent: Option<&HeaderValue>,
) -> Result<Request<Full<Bytes>>, AskError> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority(host, port))
        .path_and_query("/grpc.health.v1.Health/Check")
        .build()
        .map_err(|_| AskError::BadProbe { what: "host", value: host.to_owned() })?;
    let mut request = Request::new(Full::new(encode(service)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::USER_AGENT, user_agent.cloned().unwrap_or_else(own_user_agent));
    Ok(request)
}

/// Reads the message and the `grpc-status`, which stands in the head when there is no message.
async fn verdict(head: &HeaderMap, body: Incoming) -> Result<(StatusCode, Bytes), AskError> {
    let body = Limited::new(body, ANSWER_MAX)
        .collect()
        .await
        .map_err(|error| AskError::Grpc(error.to_string()))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| head.get("grpc-status"));
    let status = status.and_then(|status| status.to_str().ok()).unwrap_or("missing");
    match status {
        "0" => match decode(&body.to_bytes()) {
            Some(SERVING) => Ok((StatusCode::OK, Bytes::from_static(b"SERVING"))),
            Some(2) => Ok(unready("NOT_SERVING")),
            Some(status) => Ok(unready(&format!("serving status {status}"))),
            None => Err(AskError::Grpc("the message can't be read".to_owned())),
        },
        // DEADLINE_EXCEEDED, UNAVAILABLE, none at all: the app has not said that it is not ready.
        "4" | "14" | "missing" => Err(AskError::Grpc(format!("grpc-status {status}"))),
        status => Ok(unready(&format!("grpc-status {status}"))),
    }
}

fn unready(why: &str) -> (StatusCode, Bytes) {
    (StatusCode::SERVICE_UNAVAILABLE, Bytes::copy_from_slice(why.as_bytes()))
}

/// A length-prefixed, uncompressed `HealthCheckRequest`. An empty string is the default and not sent.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a); // field 1, length-delimited
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0); // not compressed
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The status in a length-prefixed, uncompressed `HealthCheckResponse`. No field means 0, and the message has
/// no other field.
fn decode(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || message.len() != usize::try_from(length).ok()? {
        return None;
    }
    match message {
        [] => Some(0),
        // Field 1, varint; statuses are one byte long.
        [0x08, status] if *status < 0x80 => Some(u64::from(*status)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_encoded_as_protobuf() {
        assert_eq!(&encode("")[..], b"\0\0\0\0\0");
        assert_eq!(&encode("web")[..], b"\0\0\0\0\x05\x0a\x03web");
        let long = "s".repeat(200);
        assert_eq!(&encode(&long)[..8], b"\0\0\0\0\xcb\x0a\xc8\x01");
    }

    #[test]
    fn a_response_is_decoded_or_refused() {
        assert_eq!(decode(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(decode(b"\0\0\0\0\0"), Some(0));
        for bad in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x02\x10\x01",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
