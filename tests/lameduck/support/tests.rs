//! The tools themselves: a strict reader that is not strict, or a client that reads anything, would prove nothing.

use super::{
    FakeApp, RawClient, Then,
    client::get,
    wire::{Fault, Framing, Length, requests_in},
};

#[track_caller]
fn check(bytes: &str, length: Length, complete: usize, legal: bool) {
    let (requests, fault) = requests_in(bytes.as_bytes(), length);
    let refused = matches!(fault, Some(Fault::Illegal(_)));
    assert_eq!((requests.len(), !refused), (complete, legal), "{bytes:?}: {requests:?} {fault:?}");
}

#[test]
fn the_strict_reader_is_strict() {
    let post =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let strict = Length::Canonical;
    check(&get("/").repeat(2), strict, 2, true);
    check(&post("Content-Length: 5\r\n", "hello"), strict, 1, true);
    check(&post("Content-Length: 5\r\n", "hell"), strict, 0, true);
    check(&post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), strict, 1, true);
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: y\r\n z\r\n",
        "X: y\nZ: 1\r\n",
        "X: y\rZ: 1\r\n",
        "Host: b\r\n",
    ] {
        check(&post(fields, "5\r\nhello\r\n0\r\n\r\n"), strict, 0, false);
    }
    for body in
        ["5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "\r\nhello"]
    {
        check(&post("Transfer-Encoding: chunked\r\n", body), strict, 0, false);
    }
    check(&post("Content-Length: 5, 05\r\n", "hello"), Length::Unambiguous, 1, true);
    check(&post("Content-Length: 5, 6\r\n", "hello"), Length::Unambiguous, 0, false);
}

#[test]
fn the_client_tells_the_ends_of_a_connection_apart() {
    let app = FakeApp::new(|exchange| match exchange.request.target.as_str() {
        "/fin" => Then::Close,
        "/rst" => Then::Reset,
        "/until-close" => {
            exchange.send("HTTP/1.1 200 OK\r\n\r\nrest");
            Then::Close
        }
        _ => exchange.reply("200 OK", "", b"ok"),
    });
    let mut kept = RawClient::connect(app.addr);
    for _ in 0..2 {
        assert_eq!(kept.get("/").response().expect(200).text(), "ok");
    }
    assert!(kept.is_open_and_silent());
    let ask = |target: &str| RawClient::connect(app.addr).get(target).try_response();
    assert_eq!(ask("/fin"), Err(Fault::Cut(super::End::Eof)));
    assert_eq!(ask("/rst"), Err(Fault::Cut(super::End::Reset)));
    let response = ask("/until-close").unwrap();
    assert_eq!((response.framing, response.text().as_str()), (Framing::UntilClose, "rest"));
    assert_eq!(app.requests().len(), 5);
    assert_eq!(app.connections(), 4);
    app.assert_unambiguous();
}
