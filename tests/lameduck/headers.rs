//! What happens to fields on their way. Belongs here: hop-by-hop removal, forwarding fields, limits of heads; not keep-alive.

use crate::support::{FakeApp, TestPod, Then, wire::Fields};

/// The fields that the app receives for a GET with `fields`.
fn sent_to_app(pod: &TestPod, app: &FakeApp, fields: &str) -> Fields {
    let before = app.requests().len();
    let request = format!("GET / HTTP/1.1\r\nHost: app.test:8080\r\n{fields}\r\n");
    pod.client().send(request).response().expect(200);
    app.requests().remove(before).fields
}

#[test]
fn hop_by_hop_fields_of_requests_are_removed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let sent = sent_to_app(
        &pod,
        &app,
        "Connection: keep-alive, X-Named\r\nKeep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\
         Upgrade: foo\r\nX-Named: 1\r\nAuthorization: Basic eA==\r\nX-Kept: 2\r\n",
    );
    for gone in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "x-named",
        "transfer-encoding",
        "via",
    ] {
        assert!(!sent.has(gone), "{gone} reached the app: {sent:?}");
    }
    assert_eq!((sent.get("authorization"), sent.get("x-kept")), (Some("Basic eA=="), Some("2")));
    assert_eq!(sent.get("host"), Some("app.test:8080"), "Host is kept");
}

#[test]
fn hop_by_hop_fields_of_responses_are_removed() {
    let app = FakeApp::new(|exchange| {
        exchange.reply(
            "200 OK",
            "Connection: close, X-Named\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-Named: 1\r\n\
             Connection: X-Also\r\nX-Also: 1\r\nUpgrade: h2c\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: app/1\r\nX-Kept: 2\r\n",
            b"ok",
        );
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for _ in 0..2 {
        let response = client.get("/").response().expect(200).expect_close(false);
        let fields = &response.head.fields;
        for gone in ["keep-alive", "proxy-connection", "x-named", "x-also", "upgrade", "via"] {
            assert!(!fields.has(gone), "{gone} reached the client: {fields:?}");
        }
        assert_eq!(fields.get("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!((fields.get("server"), fields.get("x-kept")), (Some("app/1"), Some("2")));
    }
}

#[test]
fn duplicates_keep_their_order_and_values_their_bytes() {
    let app = FakeApp::new(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Between: 1\r\nSet-Cookie: b=\xe9\xff\r\nset-cookie: c=3\r\nContent-Length: 0\r\n\r\n");
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-D: 1\r\nX-E: \xc3\xa9\r\nX-D: 2, 3\r\nX-Empty:\r\nx-d: 4\r\n\r\n");
    let response = client.response().expect(200);
    assert_eq!(response.head.fields.all("set-cookie"), ["a=1", "b=\u{e9}\u{ff}", "c=3"]);
    let sent = app.only().fields;
    assert_eq!(sent.all("x-d"), ["1", "2, 3", "4"]);
    assert_eq!((sent.get("x-e"), sent.get("x-empty")), (Some("\u{c3}\u{a9}"), Some("")));
}

#[test]
fn forwarding_fields_of_untrusted_clients_are_not_believed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let sent = sent_to_app(
        &pod,
        &app,
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         Forwarded: for=6.6.6.6;proto=https;host=evil\r\nx-forwarded-for: 7.7.7.7\r\n",
    );
    // Whoever reads the chain trusts its last elements: there stands what we know ourselves.
    let chain = sent.all("x-forwarded-for").join(", ");
    assert_eq!(chain.rsplit(", ").next(), Some("127.0.0.1"), "{chain}");
    assert_eq!(sent.get("x-forwarded-proto"), Some("http"));
    assert_eq!(sent.get("x-forwarded-host"), Some("app.test:8080"));
    let forwarded = sent.all("forwarded").join(", ");
    let last = forwarded.rsplit(", ").next().unwrap();
    assert!(!last.contains("6.6.6.6") && !last.contains("evil"), "{forwarded}");
}

#[test]
fn forwarding_fields_of_trusted_proxies_are_extended() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("TRUSTED_HOPS", 1).start();
    let sent = sent_to_app(
        &pod,
        &app,
        "X-Forwarded-For: 6.6.6.6, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.test\r\n",
    );
    let chain = sent.all("x-forwarded-for").join(", ");
    assert!(chain.ends_with("10.1.1.1, 127.0.0.1"), "{chain}");
    assert_eq!(sent.get("x-forwarded-proto"), Some("https"));
    assert_eq!(sent.get("x-forwarded-host"), Some("public.test"));
}

#[test]
fn forwarding_fields_are_added_where_there_are_none() {
    let app = FakeApp::echo();
    for hops in [0, 1, 2] {
        let pod = TestPod::before(&app).env("TRUSTED_HOPS", hops).start();
        let sent = sent_to_app(&pod, &app, "");
        assert_eq!(sent.get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(sent.get("x-forwarded-proto"), Some("http"));
    }
}

/// Fields that make a head of `fields` fields with `Host`, nothing else.
fn with_fields(fields: usize) -> String {
    let more: String = (1..fields).map(|n| format!("X-{n}: y\r\n")).collect();
    format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n")
}

#[test]
fn heads_over_their_limits_are_refused_and_counted() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let head = |size: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(size - frame))
    };
    let target = |size: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(size - 1));
    for (what, request, status) in [
        ("100 fields", with_fields(100), 200),
        ("101 fields", with_fields(101), 431),
        ("1000 fields", with_fields(1000), 431),
        ("32 KiB less a bit", head(32 * 1024 - 64), 200),
        ("32 KiB and 1", head(32 * 1024 + 1), 431),
        ("200 KiB", head(200 * 1024), 431),
        ("a target of 8 KiB", target(8 * 1024), 200),
        ("a target of 8 KiB and 1", target(8 * 1024 + 1), 414),
    ] {
        let mut client = pod.client();
        client.send(request);
        let response = client.response();
        assert_eq!(response.head.status, status, "{what}");
        if status != 200 {
            assert!(response.announces_close(), "{what}");
            assert!(response.head.fields.has("proxy-status"), "{what}: {response:?}");
            client.expect_eof();
        }
    }
    let counts = pod.status()["counts"].clone();
    assert_eq!(app.requests().len(), 3);
    for (name, count) in [("error_headers_too_large", 4), ("error_target_too_long", 1)] {
        assert_eq!(counts[name], count, "{name} in {counts:#}");
    }
}

#[test]
fn limits_of_heads_can_be_set() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("MAX_HEADERS", 10).env("MAX_HEADER_SIZE", "1KiB").start();
    pod.client().send(with_fields(10)).response().expect(200);
    pod.client().send(with_fields(11)).response().expect(431);
    let big = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1024));
    pod.client().send(big).response().expect(431);
}

#[test]
fn errors_by_the_proxy_are_short_text_and_say_so() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for request in
        ["CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "GET foo HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let response = pod.client().send(request).response();
        let said = response.field("proxy-status").unwrap_or_default();
        assert!(said.starts_with("lameduck; error="), "{response:?}");
        assert!(response.field("content-type").unwrap_or_default().starts_with("text/plain"));
        assert!((1..500).contains(&response.body.len()), "{response:?}");
    }
}
