use super::*;
use crate::proxy::request::{HeadLimits, Parsed};

const FORWARDING: Forwarding<'_> = Forwarding {
    peer: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    scheme: crate::proxy::headers::Scheme::Http,
    trusted: false,
    default_host: "app:80",
};

fn sent_on(forwarding: &Forwarding<'_>, head: &str) -> Result<Request<()>, Fault> {
    let limits = HeadLimits { bytes: 32 * 1024, fields: 100 };
    let parsed =
        request::parse(head.as_bytes(), limits, |_, request| to_upstream(request, forwarding));
    match parsed? {
        Parsed::Whole(_, sent) => Ok(sent),
        Parsed::Partial => panic!("partial: {head:?}"),
    }
}

/// All field lines, sorted.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines
}

#[test]
fn the_target_and_host_become_pseudo_fields() {
    for (head, uri) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: h:81\r\n\r\n", "http://h:81/a?b=c"),
        ("GET http://x?y HTTP/1.1\r\nHost: h\r\n\r\n", "http://x/?y"),
        ("GET / HTTP/1.0\r\n\r\n", "http://app:80/"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "http://app:80/"),
        (
            "GET /{\"a\":1}|\u{e9} HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "http://[::1]:80/{\"a\":1}|\u{e9}",
        ),
    ] {
        let sent = sent_on(&FORWARDING, head).unwrap();
        assert_eq!(sent.uri().to_string(), uri, "{head:?}");
        assert!(!sent.headers().contains_key("host"), "{head:?}");
    }
    let sent = sent_on(&FORWARDING, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(sent.uri().path(), "*");
}

#[test]
fn what_http2_can_not_say_is_refused() {
    for head in ["GET /<a> HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:b:c\r\n\r\n"] {
        let refused = sent_on(&FORWARDING, head);
        assert!(matches!(refused, Err(Fault::BadRequest(_))), "{head:?}: {refused:?}");
    }
}

#[test]
fn end_to_end_fields_pass_and_fields_for_one_hop_stay() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nX-B: 2\r\nCookie: a=b\r\nContent-Length: 3\r\n\
                Connection: keep-alive, X-One\r\nX-One: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n\
                HTTP2-Settings: x\r\nTE: trailers, deflate\r\nExpect: 100-continue\r\nTrailer: X-T\r\n\r\n";
    let sent = sent_on(&FORWARDING, head).unwrap();
    let expected = [
        "content-length: 3",
        "cookie: a=b",
        "expect: 100-continue",
        "te: trailers",
        "trailer: X-T",
        "x-b: 1",
        "x-b: 2",
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: h",
        "x-forwarded-proto: http",
    ];
    assert_eq!(lines(sent.headers()), expected);
}

#[test]
fn an_offer_to_upgrade_is_not_passed_on() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\n\r\n";
    let sent = sent_on(&FORWARDING, head).unwrap();
    assert!(!sent.headers().contains_key("upgrade"));
    assert!(sent.headers().contains_key("sec-websocket-version"));
}

#[test]
fn who_the_client_is_follows_the_same_trust_as_in_http1() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
                X-Forwarded-Proto: https\r\nForwarded: for=1.1.1.1\r\nConnection: X-Forwarded-For\r\n\r\n";
    let untrusted = sent_on(&FORWARDING, head).unwrap();
    let expected = [
        "forwarded: for=192.0.2.7;proto=http",
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: h",
        "x-forwarded-proto: http",
    ];
    assert_eq!(lines(untrusted.headers()), expected);
    let trusted = sent_on(&Forwarding { trusted: true, ..FORWARDING }, head).unwrap();
    let expected = [
        "forwarded: for=1.1.1.1",
        "forwarded: for=192.0.2.7;proto=http",
        "x-forwarded-for: 1.1.1.1, 2.2.2.2, 192.0.2.7",
        "x-forwarded-host: h",
        "x-forwarded-proto: https",
    ];
    assert_eq!(lines(trusted.headers()), expected);
}

#[test]
fn a_response_loses_what_is_about_its_connection() {
    let mut headers = from_lines(
        b"connection: close, x-one\r\nx-one: 1\r\nkeep-alive: timeout=5\r\ntransfer-encoding: chunked\r\n\
          upgrade: h2c\r\nproxy-authenticate: Basic\r\nx-two: 2\r\ntrailer: x-t\r\nset-cookie: a\r\nset-cookie: b\r\n",
    );
    strip_connection(&mut headers);
    let expected =
        ["proxy-authenticate: Basic", "set-cookie: a", "set-cookie: b", "trailer: x-t", "x-two: 2"];
    assert_eq!(lines(&headers), expected);
}
