//! WebSockets through the proxy. Belongs here: frames both ways, and how a drain ends them.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use crate::support::{
    End, FakeApp, Gate, PATIENCE, Random, RawClient, TestPod, Then,
    app::{Exchange, thread},
    assert_about, let_pass, ms, now,
    pod::PodBuilder,
    repetitions,
    tls::{Authority, Mounted, TlsClient},
};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
/// What ends a message.
const FIN: u8 = 0x80;

/// Status 1001 and the reason.
const GOING_AWAY: &[u8] = b"\x03\xe9this pod is leaving";

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    is_final: bool,
    opcode: u8,
    payload: Vec<u8>,
}

/// A frame as a server sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..=125 => frame.push(n as u8),
        n @ 126..=0xffff => {
            frame.push(126);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x88, 0x02, 0x7f, 0xa5];
    let mut bytes = frame(first, payload);
    bytes[1] |= 0x80;
    let body = bytes.len() - payload.len();
    bytes.iter_mut().skip(body).zip(KEY.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    bytes.splice(body..body, KEY);
    bytes
}

/// Takes one whole frame out of what `exactly` gives.
fn read_frame<E>(mut exactly: impl FnMut(usize) -> Result<Vec<u8>, E>) -> Result<Frame, E> {
    let head = exactly(2)?;
    let wide = match head[1] & 0x7f {
        126 => exactly(2)?,
        127 => exactly(8)?,
        short => vec![short],
    };
    let length = wide.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let key = if head[1] & 0x80 != 0 { exactly(4)? } else { vec![0; 4] };
    let mut payload = exactly(length)?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok(Frame { is_final: head[0] & FIN != 0, opcode: head[0] & 0x0f, payload })
}

/// What the app's side of a WebSocket read, frame by frame.
struct Server<'a, 'b> {
    exchange: &'a mut Exchange<'b>,
    unread: Vec<u8>,
}

impl Server<'_, '_> {
    fn frame(&mut self) -> Result<Frame, End> {
        let Self { exchange, unread } = self;
        read_frame(|n| {
            while unread.len() < n {
                unread.extend(exchange.some()?);
            }
            Ok(unread.drain(..n).collect())
        })
    }
}

/// Client side: the next frame.
fn next(client: &mut RawClient) -> Frame {
    read_frame(|n| client.exactly(n)).unwrap_or_else(|fault| panic!("no frame: {fault:?}"))
}

/// A server as RFC 6455 wants it: echoes messages, answers a close frame with one, and closes first.
fn echo(exchange: &mut Exchange<'_>) -> Then {
    if !exchange.request.fields.has("upgrade") {
        return exchange.reply("200 OK", "", b"plain");
    }
    exchange.send(SWITCH);
    let mut server = Server { exchange, unread: Vec::new() };
    while let Ok(Frame { is_final, opcode, payload }) = server.frame() {
        let fin = if is_final { FIN } else { 0 };
        server.exchange.send(frame(fin | opcode, &payload));
        if opcode == CLOSE {
            break;
        }
    }
    Then::Close
}

fn upgraded(pod: &TestPod) -> RawClient {
    let mut client = pod.client();
    let head = client.send(UPGRADE).head();
    assert_eq!(head.status, 101, "{head:?}");
    client
}

/// A pod with a second between the sign and the first goodbye, and half a second of spread.
fn leaving(app: &FakeApp) -> PodBuilder {
    TestPod::before(app).env("DRAIN_TIMEOUT", "2200ms").env("TERMINATION_GRACE_PERIOD", "9s")
}

/// Answers a goodbye as a client library does, and expects the FIN that follows.
fn answer_goodbye(client: &mut RawClient, payload: &[u8]) {
    let said = now();
    client.send(masked(FIN | CLOSE, payload));
    client.expect_eof();
    assert!(said.elapsed() < ms(400), "the FIN came after {:?}", said.elapsed());
}

/// How many WebSockets turned out to be none.
fn lost(pod: &TestPod) -> u64 {
    let metrics = pod.get("/metrics").text();
    let line = metrics.lines().find(|line| line.contains("websocket_frame")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn assert_clean_end(pod: &TestPod, goodbyes: u64) {
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["goodbyes"]["websocket"], goodbyes, "{report}");
    assert_eq!(report["abandoned"]["tunnels"], 0, "{report}");
}

// === without a drain ===

#[test]
fn messages_of_every_size_are_echoed() {
    let app = FakeApp::new(echo);
    let pod = TestPod::before(&app).start();
    let mut client = upgraded(&pod);
    for size in [1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        let block: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut writer = client.writer();
        let message = masked(FIN | BINARY, &block);
        let sending = thread("writer", move || std::io::Write::write_all(&mut writer, &message));
        let echoed = next(&mut client);
        assert!(echoed == Frame { is_final: true, opcode: BINARY, payload: block }, "{size} bytes");
        sending.join().unwrap().unwrap();
    }
    client.send(masked(FIN | CLOSE, b"\x03\xe8"));
    assert_eq!(next(&mut client).payload, b"\x03\xe8");
    client.expect_eof();
    drop(client);
    pod.wait_for_count("tunnels", 0);
}

#[test]
fn frames_right_behind_the_switch_are_followed_too() {
    let app = FakeApp::new(|exchange| {
        let half = frame(FIN | TEXT, b"said at once");
        exchange.send([SWITCH.as_bytes(), &half[..7]].concat());
        let _until_the_client_speaks = exchange.some();
        exchange.send(&half[7..]);
        let _closed = exchange.rest(PATIENCE);
        Then::Close
    });
    let pod = leaving(&app).start();
    let mut client = upgraded(&pod);
    pod.terminate();
    pod.wait_for_phase("Draining");
    // Its turn comes while the app is within its first frame.
    let_pass(ms(1800));
    client.send(masked(FIN | TEXT, b"go on"));
    assert_eq!(next(&mut client).payload, b"said at once");
    assert_eq!(next(&mut client).payload, GOING_AWAY);
    answer_goodbye(&mut client, b"\x03\xe9");
    drop(client);
    assert_clean_end(&pod, 1);
}

#[test]
fn what_is_negotiated_passes_untouched_both_ways() {
    let offers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other\r\n\
                  Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat.v2, chat\r\n\
                  Origin: https://app.test\r\n\r\n";
    let app = FakeApp::new(|exchange| {
        let extension = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                         client_max_window_bits=15\r\nSec-WebSocket-Protocol: chat.v2\r\n\r\n";
        exchange.send([SWITCH.trim_end(), "\r\n", extension].concat());
        // RSV1: a compressed message; its bytes mean nothing to the proxy.
        exchange.send(frame(FIN | 0x40 | TEXT, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]));
        let _closed = exchange.rest(PATIENCE);
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    let head = client.send([UPGRADE.trim_end(), "\r\n", offers].concat()).head();
    let sent = app.only().fields;
    for (name, values) in [
        (
            "sec-websocket-extensions",
            &["permessage-deflate; client_max_window_bits, x-other", "permessage-deflate"][..],
        ),
        ("sec-websocket-protocol", &["chat.v2, chat"]),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ=="]),
        ("sec-websocket-version", &["13"]),
        ("origin", &["https://app.test"]),
    ] {
        assert_eq!(sent.all(name), values);
    }
    for (name, value) in [
        ("upgrade", "WebSocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat.v2"),
        (
            "sec-websocket-extensions",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=15",
        ),
    ] {
        assert_eq!(head.fields.get(name), Some(value));
    }
    assert_eq!(client.exactly(9).unwrap()[..2], [0xc1, 7]);
    assert_eq!(lost(&pod), 0);
}

// === a drain ===

#[test]
fn an_idle_websocket_holds_the_drain_until_it_is_told_goodbye_and_no_longer() {
    let app = FakeApp::new(echo);
    let pod = leaving(&app).env("CLOSE_SPREAD", "0s").env("DRAIN_TIMEOUT", "4s").start();
    let mut client = upgraded(&pod);
    let began = now();
    pod.terminate();
    pod.wait_for_phase("Draining");
    client.send(masked(FIN | TEXT, b"still there"));
    assert_eq!(next(&mut client).payload, b"still there");
    let goodbye = next(&mut client);
    assert_eq!(goodbye, Frame { is_final: true, opcode: CLOSE, payload: GOING_AWAY.to_vec() });
    // The deadline less the linger of 500 ms and the margin.
    assert_about("the goodbye", began.elapsed(), ms(3300));
    let told = now();
    answer_goodbye(&mut client, b"\x03\xe9");
    drop(client);
    assert_clean_end(&pod, 1);
    assert_eq!(pod.report()["outcome"], "drained");
    assert!(told.elapsed() < ms(1500), "ended {:?} after the goodbye", told.elapsed());
}

#[test]
fn the_configured_status_is_sent() {
    let app = FakeApp::new(echo);
    let pod = leaving(&app).env("WEBSOCKET_CLOSE_CODE", "1012").start();
    let mut client = upgraded(&pod);
    pod.terminate();
    assert_eq!(next(&mut client).payload[..2], 1012u16.to_be_bytes());
    answer_goodbye(&mut client, b"\x03\xf4");
    drop(client);
    assert_clean_end(&pod, 1);
}

#[test]
fn goodbyes_are_spread_and_all_come_before_the_deadline() {
    let app = FakeApp::new(echo);
    let pod = leaving(&app).env("DRAIN_TIMEOUT", "4s").env("CLOSE_SPREAD", "2s").start();
    let clients: Vec<_> = (0..40).map(|_| upgraded(&pod)).collect();
    pod.terminate();
    let began = now();
    let told: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            thread("client", move || {
                assert_eq!(next(&mut client).payload, GOING_AWAY);
                let at = began.elapsed();
                answer_goodbye(&mut client, b"\x03\xe9");
                at
            })
        })
        .collect();
    let mut told: Vec<Duration> = told.into_iter().map(|client| client.join().unwrap()).collect();
    told.sort_unstable();
    let (first, last) = (told[0], told[told.len() - 1]);
    assert!(first > ms(1100) && last < ms(4000), "{told:?}");
    // 40 seeds all within half of the spread: once in 2^39 runs.
    assert!(last - first > ms(1000), "{told:?}");
    assert_clean_end(&pod, 40);
}

/// A message in fragments of random sizes, with pings between them; the receiver knows each byte that may come.
fn fragments(random: &mut Random) -> Vec<Vec<u8>> {
    let count = random.within(1..5);
    let mut frames = Vec::new();
    for n in 0..count {
        let fin = if n + 1 == count { FIN } else { 0 };
        let opcode = if n == 0 { BINARY } else { CONTINUATION };
        let most = *random.pick(&[&4u64, &130, &70_000]);
        let size = random.within(0..most) as usize;
        // Payload that reads as close frames to whoever loses count.
        let payload: Vec<u8> = [0x88, 0].iter().copied().cycle().take(size).collect();
        frames.push(frame(fin | opcode, &payload));
        if random.one_in(3) {
            frames.push(frame(FIN | PING, b"are you there"));
        }
    }
    frames
}

/// Streams messages in random segments until the connection takes no more.
fn stream(exchange: &mut Exchange<'_>, random: &mut Random) -> Then {
    exchange.send(SWITCH);
    loop {
        let bytes = fragments(random).concat();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = *random.pick(&[&3u64, &200, &20_000]);
            let (now, later) = rest.split_at(rest.len().min(1 + random.within(0..most) as usize));
            if !exchange.send(now) {
                return Then::Close;
            }
            rest = later;
            if random.one_in(4) {
                let_pass(random.up_to(ms(2)));
            }
        }
    }
}

#[test]
fn a_goodbye_lands_between_two_frames_never_within_one() {
    let mut random = Random::for_test("a_goodbye_lands_between_two_frames_never_within_one");
    for _ in 0..repetitions(2) {
        let seeds = Arc::new(Mutex::new(random.fork()));
        let app = FakeApp::new(move |exchange| {
            let mut random = seeds.lock().unwrap().fork();
            stream(exchange, &mut random)
        });
        let pod = leaving(&app).start();
        let clients: Vec<_> = (0..12).map(|_| upgraded(&pod)).collect();
        pod.terminate();
        let reading: Vec<_> = clients
            .into_iter()
            .map(|mut client| thread("client", move || read_until_goodbye(&mut client)))
            .collect();
        for client in reading {
            client.join().unwrap();
        }
        assert_clean_end(&pod, 12);
        drop(app);
    }
}

/// Reads frames, each of them whole and as the app sent it, up to the goodbye.
fn read_until_goodbye(client: &mut RawClient) {
    let mut in_message = false;
    loop {
        let Frame { is_final, opcode, payload } = next(client);
        match opcode {
            CLOSE => {
                assert_eq!(payload, GOING_AWAY);
                break;
            }
            PING => assert_eq!(payload, b"are you there"),
            BINARY | CONTINUATION => {
                assert_eq!(in_message, opcode == CONTINUATION);
                in_message = !is_final;
                let pairs = payload.chunks(2).all(|pair| pair == [0x88, 0] || pair == [0x88]);
                assert!(pairs, "payload changed");
            }
            opcode => panic!("opcode {opcode}"),
        }
    }
    // Nothing of the app's comes behind the close frame.
    answer_goodbye(client, b"\x03\xe9");
}

#[test]
fn the_apps_own_close_frame_is_the_only_one() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        exchange.send(frame(FIN | CLOSE, b"\x0f\xa0my own words"));
        let answer = masked(FIN | CLOSE, b"\x0f\xa0");
        let mut heard = Vec::new();
        while heard.len() < answer.len() {
            heard.extend(exchange.some().unwrap());
        }
        assert_eq!(heard, answer);
        Then::Close
    });
    let pod = leaving(&app).env("DRAIN_TIMEOUT", "4s").env("LINGER", "2s").start();
    let mut client = upgraded(&pod);
    assert_eq!(next(&mut client).payload, b"\x0f\xa0my own words");
    pod.terminate();
    pod.wait_for_phase("Draining");
    // Its turn is 1.8 s after the beginning at the latest: past it, and within the linger, nothing of ours comes.
    let_pass(ms(2000));
    assert!(client.is_open_and_silent());
    client.send(masked(FIN | CLOSE, b"\x0f\xa0"));
    client.expect_eof();
    drop(client);
    assert_clean_end(&pod, 0);
}

#[test]
fn a_client_that_ignores_the_goodbye_is_ended_after_the_linger() {
    let app = FakeApp::new(echo);
    let pod = leaving(&app).env("LINGER", "700ms").start();
    let mut client = upgraded(&pod);
    pod.terminate();
    assert_eq!(next(&mut client).payload, GOING_AWAY);
    let told = now();
    client.send(masked(FIN | TEXT, b"I did not listen"));
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end != End::Silence, "{bytes:?} {end}");
    assert_about("the end", told.elapsed(), ms(700));
    drop(client);
    assert_clean_end(&pod, 1);
    assert_eq!(pod.report()["peers_ignoring_close"], 1);
    app.wait_until_unconnected();
}

#[test]
fn what_the_client_says_after_the_goodbye_still_goes_to_the_app() {
    let (heard, hears) = mpsc::channel();
    let heard = Mutex::new(heard);
    let app = FakeApp::new(move |exchange| {
        exchange.send(SWITCH);
        let mut server = Server { exchange, unread: Vec::new() };
        while let Ok(frame) = server.frame() {
            heard.lock().unwrap().send((frame.opcode, frame.payload)).unwrap();
        }
        Then::Close
    });
    let pod = leaving(&app).start();
    let mut client = upgraded(&pod);
    pod.terminate();
    assert_eq!(next(&mut client).payload, GOING_AWAY);
    client.send(masked(FIN | TEXT, b"one last thing"));
    answer_goodbye(&mut client, b"\x03\xe9and a reason");
    drop(client);
    assert_eq!(hears.recv_timeout(PATIENCE), Ok((TEXT, b"one last thing".to_vec())));
    assert_eq!(hears.recv_timeout(PATIENCE), Ok((CLOSE, b"\x03\xe9and a reason".to_vec())));
    assert_clean_end(&pod, 1);
}

/// An app that begins a fragmented message, and ends it once its client has asked for that.
fn unfinished(exchange: &mut Exchange<'_>) -> Then {
    exchange.send(SWITCH);
    exchange.send(frame(TEXT, b"begun"));
    let mut server = Server { exchange, unread: Vec::new() };
    while let Ok(asked) = server.frame() {
        if asked.opcode == TEXT {
            server.exchange.send(frame(FIN | CONTINUATION, b" and ended"));
        }
    }
    Then::Close
}

#[test]
fn a_goodbye_waits_for_the_end_of_a_fragmented_message() {
    let app = FakeApp::new(unfinished);
    // The turn comes 3.8 s after the sign, and the message has one second more: half of the linger.
    let pod = leaving(&app)
        .env("CLOSE_SPREAD", "0s")
        .env("LINGER", "2s")
        .env("DRAIN_TIMEOUT", "6s")
        .env("TERMINATION_GRACE_PERIOD", "12s")
        .start();
    let mut client = upgraded(&pod);
    pod.terminate();
    pod.wait_for_phase("Draining");
    let began = now();
    assert_eq!(next(&mut client).payload, b"begun");
    let_pass(ms(4100).saturating_sub(began.elapsed()));
    client.send(masked(FIN | TEXT, b"go on"));
    assert_eq!(next(&mut client).payload, b" and ended");
    assert_eq!(next(&mut client).payload, GOING_AWAY);
    answer_goodbye(&mut client, b"\x03\xe9");
    drop(client);
    assert_clean_end(&pod, 1);
}

#[test]
fn a_message_that_does_not_end_does_not_cost_the_goodbye() {
    let app = FakeApp::new(unfinished);
    let pod = leaving(&app).env("CLOSE_SPREAD", "0s").start();
    let mut client = upgraded(&pod);
    pod.terminate();
    assert_eq!(next(&mut client).payload, b"begun");
    assert_eq!(next(&mut client).payload, GOING_AWAY);
    answer_goodbye(&mut client, b"\x03\xe9");
    drop(client);
    assert_clean_end(&pod, 1);
}

#[test]
fn an_app_that_floods_does_not_keep_the_close_frame_from_the_client() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        let message = frame(FIN | BINARY, &[7; 100_000]);
        while exchange.send(&message) {}
        Then::Close
    });
    let pod = leaving(&app).start();
    let mut client = upgraded(&pod);
    pod.terminate();
    let goodbye = loop {
        let frame = next(&mut client);
        if frame.opcode != BINARY {
            break frame;
        }
    };
    assert_eq!(goodbye.payload, GOING_AWAY);
    answer_goodbye(&mut client, b"\x03\xe9");
    drop(client);
    // The app never ends by itself: it has the linger.
    assert_clean_end(&pod, 1);
    app.wait_until_unconnected();
}

/// Over TLS bytes can lie in more places, and the end is a word of its own. The app is flooded and floods: neither keeps
/// the goodbye from a client that reads slowly.
#[test]
fn over_tls_the_goodbye_comes_whole_and_the_end_is_announced() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority, &authority.issue(1));
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        while exchange.send(frame(FIN | BINARY, &[7; 5_000])) {}
        Then::Close
    });
    let pod = mounted.switched_on(leaving(&app)).start();
    let clients = 10;
    let mut open: Vec<_> = (0..clients)
        .map(|_| {
            let mut client = TlsClient::shake_hands(pod.proxy, &authority.client_config());
            assert_eq!(client.send(UPGRADE).head().status, 101);
            client
        })
        .collect();
    let_pass(ms(200));
    pod.terminate();
    // Later than the last turn.
    let_pass(ms(1600));
    for client in &mut open {
        let goodbye = loop {
            let frame = read_frame(|n| client.exactly(n)).expect("a frame");
            if frame.opcode != BINARY {
                break frame;
            }
            assert!(frame.payload == [7; 5_000], "a frame was cut");
        };
        assert_eq!((goodbye.opcode, &goodbye.payload[..]), (CLOSE, GOING_AWAY));
        client.send(masked(FIN | CLOSE, b"\x03\xe9"));
    }
    for client in &mut open {
        client.expect_eof();
    }
    drop(open);
    assert_clean_end(&pod, clients);
}

#[test]
fn a_frame_that_never_ends_is_cut_at_the_deadline_and_counted() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        exchange.send(&frame(FIN | BINARY, &[7; 70_000])[..50_000]);
        let _closed = exchange.rest(PATIENCE);
        Then::Close
    });
    let pod = leaving(&app).start();
    let mut client = upgraded(&pod);
    pod.terminate();
    let (bytes, end) = client.rest();
    assert!(bytes.len() == 50_000 && end != End::Silence, "{} bytes, {end}", bytes.len());
    assert_eq!(pod.wait_for_exit(), 75);
    let report = pod.report();
    assert_eq!(report["goodbyes"]["websocket"], 0);
    assert_eq!(report["abandoned"]["tunnels"], 1);
}

#[test]
fn what_is_no_frame_is_passed_on_counted_once_and_cut_at_the_deadline() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        exchange.send("HELO this is no frame\r\n");
        while let Ok(bytes) = exchange.some() {
            exchange.send(bytes);
        }
        Then::Close
    });
    let pod = leaving(&app).env("LOG", "debug").start();
    let mut client = upgraded(&pod);
    assert_eq!(client.exactly(23).unwrap(), b"HELO this is no frame\r\n");
    client.send("QUIT\r\n");
    assert_eq!(client.exactly(6).unwrap(), b"QUIT\r\n");
    assert_eq!(lost(&pod), 1);
    pod.wait_for_log("fragmented control frame");
    pod.terminate();
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end != End::Silence, "{bytes:?} {end}");
    assert_eq!(pod.wait_for_exit(), 75);
    assert_eq!(pod.report()["abandoned"]["tunnels"], 1);
}

#[test]
fn an_undone_drain_tells_nobody() {
    let app = FakeApp::new(echo);
    let pod = leaving(&app).env("CLOSE_SPREAD", "0s").start();
    let mut client = upgraded(&pod);
    pod.post("/drain").expect(200);
    pod.wait_for_phase("Shedding");
    let mut during = upgraded(&pod);
    let_pass(ms(300));
    pod.post("/undrain").expect(200);
    pod.wait_for_phase("Serving");
    for client in [&mut client, &mut during] {
        client.send(masked(FIN | TEXT, b"as before"));
        assert_eq!(next(client).payload, b"as before");
        assert!(client.is_open_and_silent());
    }
    assert_eq!(pod.status()["tunnels"], 2);
}

#[test]
fn an_app_that_goes_takes_its_websocket_along_without_words_of_ours() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            exchange.send([SWITCH.as_bytes(), &frame(FIN | TEXT, b"here")].concat());
            gate.wait();
            Then::Close
        }
    });
    let pod = leaving(&app).start();
    let mut client = upgraded(&pod);
    assert_eq!(next(&mut client).payload, b"here");
    pod.terminate();
    pod.wait_for_phase("Draining");
    gate.open();
    client.expect_eof();
    drop(client);
    assert_clean_end(&pod, 0);
}

#[test]
fn a_client_that_has_finished_sending_is_told_and_closed() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        // It goes on although its client has finished, until its connection does.
        let _finished = exchange.rest(PATIENCE);
        while exchange.send(frame(FIN | TEXT, b"more")) {
            let_pass(ms(20));
        }
        Then::Close
    });
    let pod = leaving(&app).start();
    let mut client = upgraded(&pod);
    client.half_close();
    pod.terminate();
    let goodbye = loop {
        let frame = next(&mut client);
        if frame.opcode == CLOSE {
            break frame;
        }
        assert_eq!(frame.payload, b"more");
    };
    assert_eq!(goodbye.payload, GOING_AWAY);
    client.expect_eof();
    assert_clean_end(&pod, 1);
}

// === new ones in a drain ===

/// Tries to upgrade on a new connection: when, and whether it was served.
fn attempt(pod: &TestPod, began: Instant) -> Option<(Duration, bool)> {
    let mut client = RawClient::try_connect(pod.proxy).ok()?;
    client.try_send(UPGRADE).ok()?;
    let head = client.try_head().ok()?;
    if head.status == 101 {
        return Some((began.elapsed(), true));
    }
    assert_eq!(head.status, 503, "{head:?}");
    assert!(head.announces_close() && head.fields.get("retry-after") == Some("1"), "{head:?}");
    let status = head.fields.get("proxy-status");
    assert!(status.is_some_and(|why| why.contains("begins no upgrades any more")), "{head:?}");
    Some((began.elapsed(), false))
}

#[test]
fn new_upgrades_are_served_until_their_own_goodbye_would_be_due_and_then_refused() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            if exchange.request.target == "/ws" {
                return echo(exchange);
            }
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
            gate.wait();
            exchange.send("k");
            Then::Keep
        }
    });
    let pod = leaving(&app).env("DRAIN_TIMEOUT", "3s").env("CLOSE_SPREAD", "1s").start();
    // A response under way has no turn before the deadline: it holds the drain.
    let mut held = pod.client();
    held.get("/slow").head();
    pod.terminate();
    pod.wait_for_phase("Draining");
    let (began, mut attempts) = (now(), Vec::new());
    while began.elapsed() < ms(2700) {
        attempts.extend(attempt(&pod, began));
    }
    // The first turn is 1.65 s after the beginning at the earliest, the last one 2.35 s after it at the latest.
    let early = attempts.iter().filter(|(at, _)| *at < ms(1200));
    let late = attempts.iter().filter(|(at, _)| *at > ms(2500));
    assert!(early.clone().count() > 0 && early.clone().all(|(_, served)| *served), "{attempts:?}");
    assert!(late.clone().count() > 0 && late.clone().all(|(_, served)| !served), "{attempts:?}");
    let asked = attempts.iter().filter(|(_, served)| *served).count();
    assert_eq!(app.asked("/ws"), asked, "the app is asked only for what is served");
    gate.open();
    assert_eq!(held.exactly(2).unwrap(), b"ok");
}

#[test]
fn once_drained_upgrades_are_refused_and_plain_requests_served() {
    let app = FakeApp::new(echo);
    let pod = leaving(&app).start();
    pod.get("/prestop/pod");
    pod.wait_for_phase("Drained");
    assert!(!attempt(&pod, now()).unwrap().1);
    assert_eq!(pod.fetch("/").expect(200).text(), "plain");
    assert_eq!(app.asked("/ws"), 0);
}
