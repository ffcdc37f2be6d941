use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 100 };

/// What a head means, in words, or the fault.
fn meaning(head: &str) -> Result<String, Fault> {
    let parsed = parse(head.as_bytes(), LIMITS, |length, request| {
        let host = request.host.unwrap_or(b"-").escape_ascii().to_string();
        let upgrade = request
            .upgrade
            .as_ref()
            .map(|offers| offers.join(&b","[..]).escape_ascii().to_string());
        Ok(format!(
            "{} {} {host} {:?} persistent={} continue={} upgrade={upgrade:?} length={length}",
            request.method,
            request.target,
            request.framing,
            request.persistent,
            request.expects_continue,
        ))
    })?;
    Ok(match parsed {
        Parsed::Whole(_, meaning) => meaning,
        Parsed::Partial => "partial".to_owned(),
    })
}

#[track_caller]
fn check(head: &str, expected: &str) {
    let found = meaning(head).unwrap();
    assert!(found.starts_with(expected), "{head:?}\n   found {found}\nexpected {expected}");
}

#[track_caller]
fn check_status(head: &str, status: u16) {
    let fault = meaning(head).unwrap_err();
    assert_eq!(fault.status().0, status, "{head:?}: {fault}");
}

/// A request whose further field lines are `lines`.
fn with(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn targets_are_reduced_to_origin_form() {
    check("GET /a?b HTTP/1.1\r\nHost: h:1\r\n\r\n", "GET /a?b h:1 None persistent=true");
    check("GET http://t:2/a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a t:2 ");
    check("GET HTTPS://t HTTP/1.1\r\nHost: h\r\n\r\n", "GET / t ");
    check("GET http://t?q HTTP/1.1\r\nHost: h\r\n\r\n", "GET ?q t ");
    check("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * h ");
    check("OPTIONS http://t HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * t ");
    check("\r\nGET / HTTP/1.0\r\n\r\n", "GET / - None persistent=false");
}

#[test]
fn targets_and_hosts_that_are_neither_are_refused() {
    for head in [
        "GET foo HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET ftp://t/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://u@t/a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    ] {
        check_status(head, 400);
    }
    check_status("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 405);
}

#[test]
fn framing_has_one_reading_or_is_refused() {
    check(&with("Content-Length: 5\r\n"), "POST /x a Length(5)");
    check(&with("Content-Length: 5\r\nContent-Length: 5\r\n"), "POST /x a Length(5)");
    check(&with("Content-Length: 05\r\n"), "POST /x a Length(5)");
    check(&with("Transfer-Encoding: Chunked\r\n"), "POST /x a Chunked");
    for lines in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Content_Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "X: a\nContent-Length: 5\r\n",
        "X: a\0b\r\n",
    ] {
        check_status(&with(lines), 400);
    }
    check_status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

#[test]
fn every_line_end_needs_its_cr() {
    check_status("GET / HTTP/1.1\nHost: a\r\n\r\n", 400);
    check_status("GET / HTTP/1.1\r\nHost: a\n\r\n", 400);
    check_status("GET / HTTP/1.1\r\nHost: a\r\n\n", 400);
    check_status("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

#[test]
fn expectations_and_offers_to_switch() {
    check(
        &with("Expect: 100-Continue\r\nContent-Length: 1\r\n"),
        "POST /x a Length(1) persistent=true continue=true",
    );
    check(&with("Expect: 100-continue\r\n"), "POST /x a None persistent=true continue=false");
    check_status(&with("Expect: y 100-continue\r\nContent-Length: 1\r\n"), 417);
    let upgrade = |lines: &str, expected: &str| {
        assert!(
            meaning(&with(lines)).unwrap().contains(&format!("upgrade={expected} ")),
            "{lines:?}"
        );
    };
    upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n", "Some(\"websocket\")");
    upgrade(
        "Connection: keep-alive, upgrade\r\nUpgrade: H2C, websocket\r\n",
        "Some(\"websocket\")",
    );
    upgrade("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", "None");
    upgrade("Connection: Upgrade\r\nUpgrade: h2c/14\r\n", "None");
    upgrade("Upgrade: websocket\r\n", "None");
}

#[test]
fn sizes_are_limited_each_with_its_own_status() {
    let fields = |n: usize| with(&"X: y\r\n".repeat(n - 1));
    check(&fields(100), "POST /x a ");
    check_status(&fields(101), 431);
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1));
    check(&target(MAX_TARGET), "GET /x");
    check_status(&target(MAX_TARGET + 1), 414);
    check_status(&format!("GET /{}", "x".repeat(2 * MAX_TARGET)), 414);
    check_status(&with(&format!("X: {}\r\n", "y".repeat(32 * 1024))), 431);
    check_status(&format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(32 * 1024)), 431);
}

proptest! {
    /// However a head is cut off, it is partial or refused, never taken for a whole one.
    #[test]
    fn the_front_of_a_head_is_not_a_head(cut in 0usize..58) {
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y z\r\n\r\n";
        prop_assert_eq!(meaning(&head[..cut.min(head.len() - 1)]), Ok("partial".to_owned()));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _any = parse(&bytes, LIMITS, |_, _| Ok(()));
    }
}
