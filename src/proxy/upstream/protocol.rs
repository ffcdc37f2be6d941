//! Pure. Which HTTP a request goes to the app in: `LAMEDUCK_UPSTREAM_PROTOCOL`, and in `auto` the request itself.
//!
//! gRPC is defined over HTTP/2 alone, so an app that is sent `application/grpc` speaks it. gRPC-Web
//! (`application/grpc-web…`) was made for HTTP/1.1, and servers that take both take it there.

use crate::config::UpstreamProtocol;

/// What is spoken to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2 without TLS, begun without asking (RFC 9113 §3.3).
    Http2,
}

// === impl Protocol ===

impl Protocol {
    /// What a request with this `Content-Type` is sent in. `upgrades`: it offers to switch protocols, which HTTP/2 has
    /// no word for (RFC 9113 §8.6).
    pub(crate) fn choose(
        configured: UpstreamProtocol,
        content_type: Option<&[u8]>,
        upgrades: bool,
    ) -> Self {
        match configured {
            UpstreamProtocol::Auto if !upgrades && content_type.is_some_and(is_grpc) => Self::Http2,
            UpstreamProtocol::Auto | UpstreamProtocol::Http1 => Self::Http1,
            UpstreamProtocol::H2c => Self::Http2,
        }
    }
}

/// `application/grpc`, perhaps with a format (`+proto`) or parameters (`;…`).
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = content_type.trim_ascii();
    content_type.split_at_checked(GRPC.len()).is_some_and(|(name, rest)| {
        let ends = rest.trim_ascii_start().first().is_none_or(|byte| *byte == b';');
        name.eq_ignore_ascii_case(GRPC) && (ends || rest.starts_with(b"+"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(configured: UpstreamProtocol, content_type: &str, expected: Protocol) {
        let found = Protocol::choose(configured, Some(content_type.as_bytes()), false);
        assert_eq!(found, expected, "{content_type:?}");
    }

    #[test]
    fn grpc_goes_over_http2_and_nothing_that_only_looks_like_it() {
        for grpc in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC+json",
            "application/grpc;charset=utf-8",
            " application/grpc ; a=b",
        ] {
            check(UpstreamProtocol::Auto, grpc, Protocol::Http2);
            check(UpstreamProtocol::Http1, grpc, Protocol::Http1);
        }
        for other in [
            "",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpcx",
            "application/grp",
            "application/json",
            "text/plain; application/grpc",
        ] {
            check(UpstreamProtocol::Auto, other, Protocol::Http1);
            check(UpstreamProtocol::H2c, other, Protocol::Http2);
        }
    }

    #[test]
    fn what_offers_another_protocol_goes_over_http1_if_the_app_may_speak_it() {
        let grpc = Some(&b"application/grpc"[..]);
        let auto = Protocol::choose(UpstreamProtocol::Auto, grpc, true);
        assert_eq!(auto, Protocol::Http1);
        assert_eq!(Protocol::choose(UpstreamProtocol::H2c, None, true), Protocol::Http2);
        assert_eq!(Protocol::choose(UpstreamProtocol::Auto, None, false), Protocol::Http1);
    }
}
