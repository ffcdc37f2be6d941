use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 100 };

fn meaning(head: &str, to_head: bool) -> Result<String, Fault> {
    let parsed = parse(head.as_bytes(), LIMITS, to_head, |_, response| {
        Ok(format!("{} {:?} persistent={}", response.status, response.framing, response.persistent))
    })?;
    Ok(match parsed {
        Parsed::Whole(_, meaning) => meaning,
        Parsed::Partial => "partial".to_owned(),
    })
}

#[track_caller]
fn check(lines: &str, expected: &str) {
    assert_eq!(meaning(&format!("{lines}\r\n\r\n"), false).unwrap(), expected, "{lines:?}");
}

#[test]
fn the_end_of_a_body_is_settled_in_the_order_of_the_standard() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 5", "200 Length(5) persistent=true");
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "200 Chunked persistent=true");
    check("HTTP/1.1 200 OK", "200 UntilClose persistent=false");
    check("HTTP/1.1 204 No Content\r\nContent-Length: 5", "204 None persistent=true");
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", "304 None persistent=true");
    check("HTTP/1.1 100 Continue", "100 None persistent=true");
    let to_head = meaning("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true);
    assert_eq!(to_head.unwrap(), "200 None persistent=true");
}

#[test]
fn who_sends_both_lengths_is_read_by_chunks_and_not_trusted_again() {
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "200 Chunked persistent=false",
    );
}

#[test]
fn a_connection_persists_if_both_versions_and_words_allow_it() {
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close",
        "200 Length(0) persistent=false",
    );
    check("HTTP/1.0 200 OK\r\nContent-Length: 0", "200 Length(0) persistent=false");
    check(
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: close, keep-alive",
        "200 Length(0) persistent=false",
    );
    check(
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive",
        "200 Length(0) persistent=true",
    );
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_the_apps_fault() {
    for lines in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        "HTTP/1.1 200 OK\r\nContent-Length: +5",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nX: a\0b",
        "HTTP/3.0 200 OK",
        "SSH-2.0-OpenSSH",
    ] {
        let fault = meaning(&format!("{lines}\r\n\r\n"), false).unwrap_err();
        assert_eq!(fault.status().0, 502, "{lines:?}");
    }
}

#[test]
fn the_apps_keep_alive_timeout_is_found_among_other_parameters() {
    let found = |value: &str| timeout(value.as_bytes()).map(|found| found.as_secs());
    assert_eq!(found("max=100, Timeout=7"), Some(7));
    assert_eq!(found("timeout=x"), None);
    assert_eq!(found("max=5"), None);
}
