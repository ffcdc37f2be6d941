//! The tools themselves: a strict reader that is not strict, or a client that reads anything, would prove nothing.

use super::{
    FakeApp, RawClient, Then,
    client::get,
    http2::{
        Http2Client, frame,
        hpack::{self, Decoder},
    },
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

#[test]
fn the_hpack_reader_knows_the_examples_of_the_rfc() {
    // RFC 7541 C.4 and C.6.1: three requests and a response, Huffman-coded, over a dynamic table.
    let mut decoder = Decoder::new();
    let mut check = |hex: &str, expected: &[(&str, &str)]| {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let fields = decoder.decode(&digits.chunks(2).map(octet).collect::<Vec<_>>()).unwrap();
        let read: Vec<_> = fields.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(read, expected);
    };
    let (method, scheme, path) = ((":method", "GET"), (":scheme", "http"), (":path", "/"));
    let authority = (":authority", "www.example.com");
    check("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &[method, scheme, path, authority]);
    check(
        "8286 84be 5886 a8eb 1064 9cbf",
        &[method, scheme, path, authority, ("cache-control", "no-cache")],
    );
    check(
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        &[
            method,
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ],
    );
    let written = hpack::block(&[("x", "1".repeat(300).as_str()), ("empty", "")]);
    let read = Decoder::new().decode(&written).unwrap();
    assert_eq!((read.get("x").unwrap().len(), read.get("empty")), (300, Some("")));
}

/// A stock server, so that what the client says about the proxy is not its own mistake: echoes bodies and trailers.
fn stock_server() -> std::net::SocketAddr {
    let (send, receive) = std::sync::mpsc::channel();
    let _ends_with_the_process = crate::support::app::thread("stock server", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream));
            }
        });
    });
    receive.recv().unwrap()
}

async fn serve(stream: tokio::net::TcpStream) {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(3)
        .initial_window_size(20_000)
        .handshake::<_, bytes::Bytes>(stream)
        .await
        .unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::task::spawn_local(async move {
            if request.uri().path() == "/parked" {
                return std::future::pending().await;
            }
            let mut body = request.into_body();
            let head = http::Response::builder().header("x-long", "y".repeat(20_000));
            let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
            while let Some(Ok(bytes)) = body.data().await {
                let _credit = body.flow_control().release_capacity(bytes.len());
                send.send_data(bytes, false).unwrap();
            }
            let trailers = body.trailers().await.unwrap().unwrap_or_default();
            send.send_trailers(trailers).unwrap();
        });
    }
}

#[test]
fn the_http2_client_speaks_with_a_stock_server() {
    let mut client = Http2Client::with_settings(stock_server(), &[(0x4, 10_000)]);
    let body: Vec<u8> = (0..300_000).map(|n: u32| n.to_le_bytes()[1]).collect();
    let stream = client.post("/");
    client.upload(stream, &body, 7_000, false);
    client.send(frame::headers(stream, &hpack::block(&[("x-trailer", "t")]), true));
    let answer = client.response(stream).expect(200);
    assert!(answer.body == body, "{} bytes", answer.body.len());
    assert_eq!(
        (answer.trailers.get("x-trailer"), answer.fields.get("x-long").map(str::len)),
        (Some("t"), Some(20_000))
    );
    assert!(client.count(|f| f.kind == frame::kind::CONTINUATION) > 0);

    let parked: Vec<u32> = (0..4).map(|_| client.get("/parked")).collect();
    client.expect_reset(parked[3], frame::code::REFUSED_STREAM);
    client.expect_alive();
    client.replenishes = false;
    client.send(frame::reset(parked[0], frame::code::CANCEL));
    let stream = client.post("/");
    client.upload(stream, &body[..15_000], 15_000, true);
    client.wait("a window's worth", |client| {
        (client.stream(stream).body.len() >= 10_000).then_some(())
    });
    client.expect_alive();
    assert_eq!((client.stream(stream).body.len(), client.stream(stream).ended), (10_000, false));
    client.grant(stream, 5_000);
    client.response(stream).expect(200);
    client.send(frame::ping([0; 8])).send(frame::window_update(0, 0));
    client.expect_goaway(frame::code::PROTOCOL_ERROR);
    client.expect_closed();
}
