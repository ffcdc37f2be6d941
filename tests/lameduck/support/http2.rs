//! An HTTP/2 client that sends the frames it is told to, legal or not, and records every frame that comes.
//!
//! It reads with its own hands: what is not legal in what comes fails the test. Not here: any wish to be convenient
//! where that would hide a frame.

pub mod frame;
pub mod hpack;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::SockRef;

use super::{
    PATIENCE, now,
    tls::session,
    wire::{End, Fields, shown},
};
use frame::{Frame, code, flag, kind, setting};

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A field of a request.
pub type Field<'a> = (&'a str, &'a str);

/// One connection to the proxy.
pub struct Http2Client {
    io: Io,
    unread: Vec<u8>,
    decoder: hpack::Decoder,
    /// A header block whose end has not come: its stream and whether that ends with it.
    open_block: Option<(u32, bool, Vec<u8>)>,
    next: u32,
    window: i64,
    initial_window: i64,
    /// Everything that came, in order; the payload of DATA is in [`Stream::body`].
    pub frames: Vec<Frame>,
    /// What became of each stream.
    pub streams: BTreeMap<u32, Stream>,
    /// How the connection ended.
    pub end: Option<End>,
    /// Acknowledges SETTINGS by itself.
    pub acks_settings: bool,
    /// Acknowledges PING by itself.
    pub acks_pings: bool,
    /// Gives back by itself what DATA takes of the windows.
    pub replenishes: bool,
}

/// What the frames travel in.
enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What has come on one stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub informational: Vec<Fields>,
    pub head: Option<Fields>,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// It ended with `END_STREAM`.
    pub ended: bool,
    /// It ended with `RST_STREAM` and this code.
    pub reset: Option<u32>,
    /// How much more we have been allowed to send than at the beginning.
    window: i64,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub informational: Vec<Fields>,
}

/// What became of a stream, or of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole response with this status.
    Answered(u16),
    /// The connection ended without a word about an error.
    Closed(End),
    /// The connection was ended with this code.
    Goaway(u32),
    /// The stream was ended with this code.
    Reset(u32),
    /// GOAWAY has said that it will not be looked at.
    Unseen,
}

// === impl Http2Client ===

impl Http2Client {
    /// Connects and sends nothing.
    pub fn raw(addr: SocketAddr) -> Self {
        Self::try_raw(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    /// Connects and sends nothing, if somebody listens.
    pub fn try_raw(addr: SocketAddr) -> std::io::Result<Self> {
        let io = TcpStream::connect_timeout(&addr, PATIENCE)?;
        io.set_nodelay(true)?;
        io.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(Io::Plain(io)))
    }

    /// Connects, shakes hands for `h2` and agrees on `settings`; the kernel takes at most `window` bytes that are not read.
    pub fn over_tls(
        addr: SocketAddr,
        config: &ClientConfig,
        settings: &[(u16, u32)],
        window: usize,
    ) -> Self {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        SockRef::from(&tcp).set_recv_buffer_size(window).unwrap();
        let mut stream = StreamOwned::new(session(&config), tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = Self::over(Io::Tls(Box::new(stream)));
        client.agree(settings);
        client
    }

    fn over(io: Io) -> Self {
        Self {
            io,
            unread: Vec::new(),
            decoder: hpack::Decoder::new(),
            open_block: None,
            next: 1,
            window: 65_535,
            initial_window: 65_535,
            frames: Vec::new(),
            streams: BTreeMap::new(),
            end: None,
            acks_settings: true,
            acks_pings: true,
            replenishes: true,
        }
    }

    /// Connects, sends preface and empty SETTINGS, and waits until the proxy has spoken and agreed.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::with_settings(addr, &[])
    }

    /// The same with settings.
    pub fn with_settings(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::raw(addr);
        client.agree(settings);
        client
    }

    fn agree(&mut self, settings: &[(u16, u32)]) {
        self.send([PREFACE, &frame::settings(settings)].concat());
        self.wait("the proxy's settings and its ACK", |client| {
            let count = |flags| client.count(|f| f.kind == kind::SETTINGS && f.flags == flags);
            (count(0) > 0 && count(flag::ACK) > 0).then_some(())
        });
    }

    /// Makes the kernel take few bytes that are not read; to be called before anything comes.
    pub fn with_small_window(self) -> Self {
        SockRef::from(self.io.tcp()).set_recv_buffer_size(4096).unwrap();
        self
    }

    /// Sends `bytes`; a connection that does not take them is a failure.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        if let Err(error) = self.try_send(bytes) {
            panic!("sending {}: {error}; came: {}", shown(bytes), self.story());
        }
        self
    }

    /// Sends `bytes`, if the connection takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.io.write_all(bytes.as_ref())?;
        self.io.flush()
    }

    /// close_notify towards the proxy, and nothing else.
    pub fn say_goodbye(&mut self) {
        let Io::Tls(stream) = &mut self.io else { panic!("only TLS has such a word") };
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    }

    /// A number for a stream that was never used.
    pub fn next_stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a request's head on a stream of its own; whether it `ends` there.
    #[track_caller]
    pub fn ask(&mut self, fields: &[Field<'_>], ends: bool) -> u32 {
        let stream = self.next_stream();
        self.send(frame::headers(stream, &hpack::block(fields), ends));
        stream
    }

    /// A GET of `path`, without a body.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> u32 {
        self.ask(&request("GET", path), true)
    }

    /// The head of a POST to `path`; a body is to follow.
    #[track_caller]
    pub fn post(&mut self, path: &str) -> u32 {
        self.ask(&request("POST", path), false)
    }

    /// Sends `bytes` as DATA in frames of at most `most`, as fast as the windows allow; whether the stream `ends` there.
    #[track_caller]
    pub fn upload(&mut self, stream: u32, bytes: &[u8], most: usize, ends: bool) {
        let mut left = bytes;
        while !left.is_empty() {
            let room = self.window.min(self.initial_window + self.stream(stream).window);
            let room = usize::try_from(room).unwrap_or(0).min(most).min(left.len());
            if room == 0 {
                let before = self.frames.len();
                self.wait("a larger window", |client| {
                    client.frames[before..]
                        .iter()
                        .any(|f| f.kind == kind::WINDOW_UPDATE)
                        .then_some(())
                });
                continue;
            }
            let (now, later) = left.split_at(room);
            self.send(frame::data(stream, now, ends && later.is_empty()));
            self.window -= i64::try_from(room).unwrap();
            self.streams.entry(stream).or_default().window -= i64::try_from(room).unwrap();
            left = later;
        }
    }

    /// Allows `more` bytes on the connection (0) or a stream.
    #[track_caller]
    pub fn grant(&mut self, stream: u32, more: u32) -> &mut Self {
        self.send(frame::window_update(stream, more))
    }

    /// What has come on `stream`.
    pub fn stream(&self, stream: u32) -> Stream {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Waits for the whole response on `stream`.
    #[track_caller]
    pub fn response(&mut self, stream: u32) -> Answer {
        let outcome = self.outcome(stream);
        let Outcome::Answered(_) = outcome else {
            panic!("stream {stream}: {outcome:?}; came: {}", self.story())
        };
        self.answer(stream)
    }

    /// Waits for the final head on `stream`.
    #[track_caller]
    pub fn head(&mut self, stream: u32) -> Fields {
        self.wait(&format!("a head on stream {stream}"), |client| {
            client.streams.get(&stream)?.head.clone()
        })
    }

    /// Waits until it is settled what becomes of `stream`.
    #[track_caller]
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let what = format!("the end of stream {stream}");
        let settled = self.try_wait(|client| client.settled(stream));
        settled.unwrap_or_else(|| panic!("{what}: never; came: {}", self.story()))
    }

    /// Waits for GOAWAY with an error, or for the end of the connection.
    #[track_caller]
    pub fn fatal(&mut self) -> Outcome {
        let settled = self.try_wait(Self::ended);
        settled.unwrap_or_else(|| panic!("the connection lives on; came: {}", self.story()))
    }

    /// Fails unless GOAWAY with `code` comes.
    #[track_caller]
    pub fn expect_goaway(&mut self, code: u32) -> (u32, u32) {
        self.wait(&format!("GOAWAY with code {code}"), |client| {
            client.goaways().into_iter().find(|(_, said)| *said == code)
        })
    }

    /// Fails unless `stream` is reset with `code`.
    #[track_caller]
    pub fn expect_reset(&mut self, stream: u32, code: u32) {
        assert_eq!(self.outcome(stream), Outcome::Reset(code), "came: {}", self.story());
    }

    /// Reads to the end of the connection, which must come: how it ended.
    #[track_caller]
    pub fn expect_closed(&mut self) -> End {
        self.wait("the end of the connection", |client| client.end)
    }

    /// Fails unless the proxy answers a PING now, which also says that everything sent before has been read.
    #[track_caller]
    pub fn expect_alive(&mut self) -> &mut Self {
        let mark = [
            b"pinged".as_slice(),
            &u16::try_from(self.frames.len() % 65_536).unwrap().to_be_bytes(),
        ]
        .concat();
        self.send(frame::frame(kind::PING, 0, 0, &mark));
        self.wait("the answer to a PING", |client| {
            let answers = |f: &Frame| f.kind == kind::PING && f.is(flag::ACK) && f.payload == mark;
            (client.count(answers) > 0).then_some(())
        });
        self
    }

    /// Every GOAWAY that came: last stream and code.
    pub fn goaways(&self) -> Vec<(u32, u32)> {
        let goaways = self.frames.iter().filter(|f| f.kind == kind::GOAWAY);
        goaways.map(|f| (f.word(0) & 0x7fff_ffff, f.word(4))).collect()
    }

    /// How many of the frames that came are so.
    pub fn count(&self, so: impl Fn(&Frame) -> bool) -> usize {
        self.frames.iter().filter(|f| so(f)).count()
    }

    /// The value of a setting that the proxy sent.
    pub fn setting(&self, id: u16) -> Option<u32> {
        let settings = self.frames.iter().filter(|f| f.kind == kind::SETTINGS);
        let mut pairs = settings.flat_map(|f| f.payload.chunks(6).map(setting_in));
        pairs.rfind(|(name, _)| *name == id).map(|(_, value)| value)
    }

    /// Takes in what has come until now; whether the connection is still open.
    pub fn is_open(&mut self) -> bool {
        while self.end.is_none() && self.read(now()) {}
        self.end.is_none()
    }

    /// Reads once, as little as that may be; whether the connection is still open.
    pub fn sip(&mut self) -> bool {
        self.read(now() + PATIENCE)
    }

    /// Reads until `found` finds something; its absence is a failure, shown with all that came.
    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, found: impl FnMut(&Self) -> Option<T>) -> T {
        let found = self.try_wait(found);
        found.unwrap_or_else(|| panic!("{what}: not there; came: {}", self.story()))
    }

    /// Reads until `found` finds something, the connection ends, or nothing has helped for too long.
    pub fn try_wait<T>(&mut self, mut found: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let until = now() + PATIENCE;
        loop {
            if let Some(found) = found(self) {
                return Some(found);
            }
            if self.end.is_some() || !self.read(until) && self.end.is_none() {
                return None;
            }
        }
    }

    /// RST towards the proxy.
    pub fn abort(self) {
        SockRef::from(self.io.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// FIN towards the proxy.
    pub fn half_close(&mut self) {
        self.io.tcp().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// A second handle on the same socket, for a thread that writes.
    pub fn writer(&self) -> TcpStream {
        match &self.io {
            Io::Plain(tcp) => tcp.try_clone().unwrap(),
            Io::Tls(_) => panic!("only one may encrypt"),
        }
    }

    /// What came, for a failing test's message.
    pub fn story(&self) -> String {
        let shown = self.frames.iter().rev().take(30).rev().map(ToString::to_string);
        let shown: Vec<_> = shown.collect();
        format!("{} frames, the last: {}; end: {:?}", self.frames.len(), shown.join(", "), self.end)
    }

    /// What has come on `stream` as a response.
    fn answer(&self, stream: u32) -> Answer {
        let Stream { informational, head, body, trailers, .. } = self.stream(stream);
        let fields = head.unwrap();
        Answer { status: status(&fields), fields, body, trailers, informational }
    }

    /// What has become of `stream`, if that is settled.
    pub fn settled(&self, stream: u32) -> Option<Outcome> {
        let known = self.streams.get(&stream);
        if let Some(Stream { reset: Some(code), ended: false, .. }) = known {
            return Some(Outcome::Reset(*code));
        }
        if let Some(Stream { head: Some(head), ended: true, .. }) = known {
            return Some(Outcome::Answered(status(head)));
        }
        let unseen = self.goaways().iter().any(|(last, code)| *code == 0 && stream > *last);
        if unseen { Some(Outcome::Unseen) } else { self.ended() }
    }

    /// How the connection was ended, if it was: with an error's code, or without one.
    pub fn ended(&self) -> Option<Outcome> {
        let error = self.goaways().into_iter().find(|(_, said)| *said != code::NO_ERROR);
        error.map(|(_, said)| Outcome::Goaway(said)).or_else(|| self.end.map(Outcome::Closed))
    }

    /// Reads once and takes in every whole frame; whether anything came before `until`.
    fn read(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(now());
        let mut chunk = [0; 64 * 1024];
        self.io.tcp().set_nonblocking(left.is_zero()).unwrap();
        self.io.tcp().set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        let read = loop {
            match self.io.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.io.tcp().set_nonblocking(false).unwrap();
        match read {
            Ok(0) => self.end = Some(End::Eof),
            Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => self.end = Some(End::Reset),
        }
        let unread = std::mem::take(&mut self.unread);
        let mut left = &unread[..];
        while let Some((frame, rest)) = Frame::parse(left) {
            left = rest;
            self.take_in(frame);
        }
        self.unread = left.to_vec();
        self.end.is_none()
    }

    fn take_in(&mut self, mut frame: Frame) {
        assert!(frame.payload.len() <= 16_384, "a frame longer than we allow: {frame}");
        let in_block = self.open_block.as_ref().map(|(stream, ..)| *stream);
        let continues = (frame.kind == kind::CONTINUATION).then_some(frame.stream);
        assert!(in_block == continues, "a header block and {frame}: {}", self.story());
        match frame.kind {
            kind::DATA => self.take_data(&mut frame),
            kind::HEADERS => {
                assert!(!frame.is(flag::PADDED | flag::PRIORITY), "{frame}");
                self.take_block(&frame, frame.is(flag::END_STREAM), Vec::new());
            }
            kind::CONTINUATION => {
                let (_, ends, begun) = self.open_block.take().unwrap();
                self.take_block(&frame, ends, begun);
            }
            kind::RST_STREAM => self.live(&frame, true).reset = Some(frame.word(0)),
            kind::SETTINGS => self.take_settings(&frame),
            kind::PING if self.acks_pings && !frame.is(flag::ACK) => {
                let _closed = self.try_send(frame::frame(kind::PING, flag::ACK, 0, &frame.payload));
            }
            kind::WINDOW_UPDATE if frame.stream == 0 => self.window += i64::from(frame.word(0)),
            kind::WINDOW_UPDATE => {
                self.streams.entry(frame.stream).or_default().window += i64::from(frame.word(0));
            }
            kind::PUSH_PROMISE | kind::PRIORITY => panic!("a server that sends {frame}"),
            _ => {}
        }
        self.frames.push(frame);
    }

    fn take_data(&mut self, frame: &mut Frame) {
        assert!(!frame.is(flag::PADDED), "{frame}");
        let (payload, replenishes) = (std::mem::take(&mut frame.payload), self.replenishes);
        let ends = frame.is(flag::END_STREAM);
        let stream = self.live(frame, false);
        assert!(stream.head.is_some(), "{frame} before a head");
        stream.body.extend_from_slice(&payload);
        stream.ended = ends;
        frame.length = payload.len();
        let more = u32::try_from(payload.len()).unwrap();
        if replenishes && more > 0 {
            let both = [frame::window_update(0, more), frame::window_update(frame.stream, more)];
            let _closed = self.try_send(&both.concat()[..if ends { 13 } else { 26 }]);
        }
    }

    fn take_block(&mut self, frame: &Frame, ends: bool, mut begun: Vec<u8>) {
        begun.extend_from_slice(&frame.payload);
        if !frame.is(flag::END_HEADERS) {
            self.open_block = Some((frame.stream, ends, begun));
            return;
        }
        let fields = self.decoder.decode(&begun).unwrap_or_else(|why| panic!("{frame}: {why}"));
        let stream = self.live(frame, false);
        stream.ended = ends;
        if stream.head.is_some() {
            assert!(ends, "trailers that do not end their stream: {frame} {fields:?}");
            assert!(fields.0.iter().all(|(name, _)| !name.starts_with(':')), "{fields:?}");
            stream.trailers = fields;
        } else if fields.get(":status").is_some_and(|status| status.starts_with('1')) {
            assert!(!ends, "{frame} {fields:?}");
            stream.informational.push(fields);
        } else {
            check_head(&fields);
            stream.head = Some(fields);
        }
    }

    fn take_settings(&mut self, frame: &Frame) {
        assert!(frame.stream == 0 && frame.payload.len().is_multiple_of(6), "{frame}");
        for (name, value) in frame.payload.chunks(6).map(setting_in) {
            if name == setting::INITIAL_WINDOW_SIZE {
                self.initial_window = i64::from(value);
            }
        }
        if self.acks_settings && !frame.is(flag::ACK) {
            let _closed = self.try_send(frame::frame(kind::SETTINGS, flag::ACK, 0, &[]));
        }
    }

    /// The stream of `frame`, on which something may still come: after its end, RST_STREAM at most.
    fn live(&mut self, frame: &Frame, reset: bool) -> &mut Stream {
        let known = self.streams.get(&frame.stream);
        let over = known.is_some_and(|stream| stream.ended || stream.reset.is_some());
        assert!(frame.stream % 2 == 1, "{frame} on no stream of ours: {}", self.story());
        assert!(!over || reset, "{frame} after the end of its stream: {}", self.story());
        self.streams.entry(frame.stream).or_default()
    }
}

// === impl Io ===

impl Io {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Io {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Io {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Fails unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The only value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

// === helpers ===

/// The pseudo-header fields of a request.
pub fn request<'a>(method: &'a str, path: &'a str) -> Vec<Field<'a>> {
    vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "app.test")]
}

/// The same with more fields.
pub fn request_with<'a>(method: &'a str, path: &'a str, more: &[Field<'a>]) -> Vec<Field<'a>> {
    [request(method, path), more.to_vec()].concat()
}

/// RFC 9113 §8.2, §8.3.2: what every response head keeps to.
fn check_head(fields: &Fields) {
    let pseudo = fields.0.iter().filter(|(name, _)| name.starts_with(':')).count();
    assert!(pseudo == 1 && fields.0[0].0 == ":status", "{fields:?}");
    for (name, value) in &fields.0 {
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '), "{fields:?}");
        assert!(!value.contains(['\r', '\n', '\0']), "{fields:?}");
        let hop = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
        assert!(!hop.contains(&name.as_str()), "{name} has no meaning in HTTP/2: {fields:?}");
    }
}

fn status(head: &Fields) -> u16 {
    head.get(":status").and_then(|status| status.parse().ok()).unwrap()
}

fn setting_in(bytes: &[u8]) -> (u16, u32) {
    let name = u16::from_be_bytes([bytes[0], bytes[1]]);
    (name, u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
}
