//! Against the app, and against servers that end their streams in every way.

use std::{
    future::poll_fn,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_tungstenite::{
    accept_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use super::*;
use crate::demo::{app, nat::Nat, ticker};

const LIMIT: Duration = Duration::from_secs(10);

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// The app. Aborting the task drops its connections, apart from WebSockets.
async fn app() -> (SocketAddr, JoinHandle<()>) {
    let (listener, addr) = listen().await;
    let served = async { app::serve(listener, app::Ready::default()).await.unwrap() };
    (addr, tokio::spawn(served))
}

/// The ticks of one stream, and its end.
async fn hear(kind: StreamKind, addr: SocketAddr) -> (Vec<u64>, End) {
    let mut stream = Stream::open(kind, addr, None).await.unwrap();
    let mut ticks = Vec::new();
    loop {
        match stream.next().await {
            Heard::Tick(number) => ticks.push(number),
            Heard::End(end) => return (ticks, end),
        }
    }
}

fn is_told(words: &str) -> End {
    End::Told(words.to_owned())
}

fn is_cut(why: &str) -> End {
    End::Cut(why.to_owned())
}

#[tokio::test]
async fn each_stream_of_the_app_ticks_from_the_beginning() {
    let (addr, _app) = app().await;
    for kind in [StreamKind::WebSocket, StreamKind::Events, StreamKind::Grpc] {
        let mut stream = Stream::open(kind, addr, None).await.unwrap();
        for number in 1..=3 {
            assert_eq!(stream.next().await, Heard::Tick(number), "{kind}");
        }
    }
}

#[tokio::test]
async fn events_go_on_after_the_last_one_that_was_seen() {
    let (addr, _app) = app().await;
    let mut stream = Stream::open(StreamKind::Events, addr, Some(41)).await.unwrap();
    assert_eq!(stream.next().await, Heard::Tick(42));
}

#[tokio::test]
async fn a_call_for_two_ticks_ends_after_two_with_status_0() {
    let (addr, _app) = app().await;
    let mut call = Grpc::call(TcpStream::connect(addr).await.unwrap(), 2).await.unwrap();
    assert_eq!(call.next().await, Heard::Tick(1));
    assert_eq!(call.next().await, Heard::Tick(2));
    assert_eq!(call.next().await, cut("status 0"));
}

#[tokio::test]
async fn the_app_answers_a_close_frame() {
    let (addr, _app) = app().await;
    let tcp = TcpStream::connect(addr).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://demo/ws", tcp).await.unwrap();
    socket.close(Some(CloseFrame { code: 1001.into(), reason: "bye".into() })).await.unwrap();
    let mut answer = None;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Close(frame) = message {
            answer = frame;
        }
    }
    assert_eq!(answer.map(|frame| u16::from(frame.code)), Some(1001));
}

#[tokio::test]
async fn a_websocket_knows_a_goodbye_by_its_code_and_answers_it() {
    for (code, expect) in [
        (Some(1001), is_told("close 1001")),
        (Some(1012), is_told("close 1012")),
        (Some(1000), is_cut("close 1000")),
        (None, is_cut("no close frame")),
    ] {
        let (listener, addr) = listen().await;
        let server = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut socket = accept_async(tcp).await.unwrap();
            socket.send(Message::text("7")).await.unwrap();
            if let Some(code) = code {
                let frame = CloseFrame { code: u16::into(code), reason: "".into() };
                socket.send(Message::Close(Some(frame))).await.unwrap();
                let Some(Ok(Message::Close(Some(answer)))) = socket.next().await else {
                    panic!("close {code} was not answered")
                };
                assert_eq!(u16::from(answer.code), code);
            }
        });
        assert_eq!(hear(StreamKind::WebSocket, addr).await, (vec![7], expect));
        server.await.unwrap();
    }
}

#[tokio::test]
async fn events_know_a_goodbye_by_the_last_chunk_after_a_whole_event() {
    const EVENT: &str = "c\r\nid:7\ndata:\n\n\r\n";
    for (rest, expect) in [
        ("0\r\n\r\n", is_told("last chunk")),
        ("d\r\nretry: 5000\n\n\r\n0\r\n\r\n", is_told("last chunk")),
        ("5\r\ndata:\r\n0\r\n\r\n", is_cut("ended within an event")),
        ("", is_cut("no last chunk")),
        ("d\r\nid:8\n", is_cut("no last chunk")),
    ] {
        let (listener, addr) = listen().await;
        let server = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _read = tcp.read(&mut request).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            tcp.write_all([head, EVENT, rest].concat().as_bytes()).await.unwrap();
        });
        assert_eq!(hear(StreamKind::Events, addr).await, (vec![7], expect), "{rest:?}");
        server.await.unwrap();
    }
}

/// How a gRPC server ends its call.
#[derive(Clone, Copy, Debug)]
enum Finish {
    Trailers(&'static str),
    WithinAMessage,
    Reset,
    Gone,
}

#[tokio::test]
async fn a_call_knows_a_goodbye_by_its_status() {
    for (finish, expect) in [
        (Finish::Trailers("14"), is_told("status 14")),
        (Finish::Trailers("13"), is_cut("status 13")),
        (Finish::WithinAMessage, is_cut("ended within a message")),
        (Finish::Reset, is_cut("no trailers")),
        (Finish::Gone, is_cut("no trailers")),
    ] {
        let (listener, addr) = listen().await;
        let server = tokio::spawn(serve_call(listener, finish));
        assert_eq!(hear(StreamKind::Grpc, addr).await, (vec![7], expect), "{finish:?}");
        server.await.unwrap();
    }
}

async fn serve_call(listener: TcpListener, finish: Finish) {
    let (tcp, _) = listener.accept().await.unwrap();
    let mut connection = h2::server::handshake(tcp).await.unwrap();
    let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(ticker::encode(7), false).unwrap();
    let trailers = |status| {
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))])
    };
    match finish {
        Finish::Trailers(status) => stream.send_trailers(trailers(status)).unwrap(),
        Finish::WithinAMessage => {
            stream.send_data(Bytes::from_static(b"\0\0"), false).unwrap();
            stream.send_trailers(trailers("14")).unwrap();
        }
        Finish::Reset | Finish::Gone => {
            // One turn writes the tick; what is reset or dropped before that is never sent.
            poll_fn(|cx| Poll::Ready(connection.poll_accept(cx).is_ready())).await;
            stream.send_reset(h2::Reason::CANCEL);
        }
    }
    if !matches!(finish, Finish::Gone) {
        // The connection goes on until the client has heard everything and hangs up.
        while connection.accept().await.is_some() {}
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_comes_back_on_another_pod() {
    let clock = Clock::start();
    let nat = Arc::new(Mutex::new(Nat::new(Duration::ZERO)));
    let scene = Scene::new(clock);
    let (one, two) = (app().await, app().await);
    lock(&nat).set_ready(PodId(1), one.0, true, clock.now());
    let client = Client::new(StreamKind::Events, clock, nat.clone(), scene.clone());
    let client = tokio::spawn(client.follow());
    let tally = || scene.stage().tally.stream(StreamKind::Events);
    let until = async |pod| {
        while tally().pod != Some(PodId(pod)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, until(1)).await.unwrap();
    lock(&nat).delete(PodId(1), clock.now());
    lock(&nat).set_ready(PodId(2), two.0, true, clock.now());
    one.1.abort();
    timeout(LIMIT, until(2)).await.unwrap();
    client.abort();
    let StreamTally { told, cut, refused, moved, .. } = tally();
    assert_eq!((told, cut, refused, moved), (0, 1, 0, 1));
    let news: Vec<_> = scene.stage().news.iter().map(|news| news.text.clone()).collect();
    assert_eq!(news, ["event stream CUT by pod-1 (no last chunk), now on pod-2"]);
}

#[tokio::test]
async fn a_stream_that_nobody_takes_is_counted_each_time_and_told_once() {
    let clock = Clock::start();
    let scene = Scene::new(clock);
    let nat = Arc::new(Mutex::new(Nat::new(Duration::ZERO)));
    let client = Client::new(StreamKind::Grpc, clock, nat, scene.clone());
    let client = tokio::spawn(client.follow());
    let several = async {
        while scene.stage().tally.stream(StreamKind::Grpc).refused < 3 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, several).await.unwrap();
    client.abort();
    let news: Vec<_> = scene.stage().news.iter().map(|news| news.text.clone()).collect();
    assert_eq!(news, ["gRPC stream is not taken: no pod is there to be chosen"]);
}
