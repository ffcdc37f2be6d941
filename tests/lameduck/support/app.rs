//! The app behind the proxy: a scripted HTTP/1.1 server that records everything and forgives nothing.

use std::{
    collections::HashMap,
    fmt,
    io::Write,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::SockRef;

use super::{
    PATIENCE, now,
    wire::{End, Fault, Length, Request, Wire, shown},
};

/// One scripted app. Dropping it ends its connections.
pub struct FakeApp {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What a script does with the connection once it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// FIN.
    Close,
    /// Read what is left of the request, then the next one.
    Keep,
    /// RST.
    Reset,
}

/// One request and the connection it came on, in the hands of a script.
pub struct Exchange<'a> {
    /// The head; the body is read by [`Exchange::body`].
    pub request: Request,
    /// How many requests came before on this connection.
    pub before: usize,
    wire: &'a mut Wire<TcpStream>,
    shared: &'a Shared,
    record: usize,
}

type Script = dyn Fn(&mut Exchange<'_>) -> Then + Send + Sync;

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
    script: Box<Script>,
}

/// Counts a script that runs.
struct Running<'a>(&'a Shared);

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    illegal: Vec<String>,
    accepted: usize,
    used: usize,
    scripts: usize,
    open: HashMap<usize, TcpStream>,
}

// === impl FakeApp ===

impl FakeApp {
    /// An app that does what `script` says with each request.
    pub fn new(script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script)
    }

    /// The same at an address of the test's choice.
    pub fn at(
        addr: SocketAddr,
        script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        // std's backlog of 128 would make bursts wait for a second SYN.
        SockRef::from(&listener).listen(4096).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            script: Box::new(script),
        });
        let accepting = thread("app", {
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { addr, shared, accepting: Mutex::new(Some(accepting)) }
    }

    /// An app that answers every request with 200 and its body, or `ok` if it has none.
    pub fn echo() -> Self {
        Self::new(|exchange| {
            let mut body = exchange.body();
            if body.is_empty() {
                body = b"ok".to_vec();
            }
            exchange.reply("200 OK", "", &body)
        })
    }

    /// An app whose answers to paths other than `/poll…` are immediate; those wait for `gate`.
    pub fn polls(gate: &super::Gate) -> Self {
        let gate = gate.clone();
        Self::new(move |exchange| {
            if exchange.request.target.starts_with("/poll") {
                gate.wait();
            }
            exchange.reply("200 OK", "", b"ok")
        })
    }

    /// Everything that was asked, in the order the heads came.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The only request there was.
    pub fn only(&self) -> Request {
        let requests = self.wait_for(1);
        assert_eq!(requests.len(), 1, "more than one request came: {requests:#?}");
        requests.into_iter().next().unwrap()
    }

    /// How many requests for `target` came.
    pub fn asked(&self, target: &str) -> usize {
        self.state().requests.iter().filter(|request| request.target == target).count()
    }

    /// Waits until `n` requests have come.
    pub fn wait_for(&self, n: usize) -> Vec<Request> {
        self.wait("requests", |state| state.requests.len() >= n).requests.clone()
    }

    /// Waits until `n` requests for `target` have come.
    pub fn wait_for_target(&self, target: &str, n: usize) {
        let count = |state: &State| state.requests.iter().filter(|r| r.target == target).count();
        drop(self.wait(target, |state| count(state) >= n));
    }

    /// Waits until no script runs: every request has come to its end in one way or the other.
    pub fn wait_until_only_idle(&self) {
        drop(self.wait("idle connections", |state| state.scripts == 0));
    }

    /// Waits until the proxy has closed every connection to the app.
    pub fn wait_until_unconnected(&self) {
        drop(self.wait("no connection left", |state| state.open.is_empty()));
    }

    /// Connections on which at least one byte came.
    pub fn connections(&self) -> usize {
        self.state().used
    }

    /// Fails if anything came that a strict server must refuse.
    pub fn assert_unambiguous(&self) {
        let illegal = self.illegal();
        assert!(illegal.is_empty(), "the app was sent {illegal:#?}");
    }

    /// What came that a strict server must refuse.
    pub fn illegal(&self) -> Vec<String> {
        self.state().illegal.clone()
    }

    /// Stops listening: from here on connections are refused. Open ones live on.
    pub fn stop_listening(&self) {
        self.shared.stopped.store(true, SeqCst);
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            drop(TcpStream::connect(self.addr));
            accepting.join().unwrap();
        }
    }

    /// Ends the app as a dying process does: refuses connections and closes those it has.
    pub fn die(&self) {
        self.stop_listening();
        for stream in self.state().open.values() {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let state = self.state();
        let (state, waited) =
            self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !until(state)).unwrap();
        assert!(!waited.timed_out(), "the app waited in vain for {what}: {state:?}");
        state
    }
}

impl Drop for FakeApp {
    fn drop(&mut self) {
        self.die();
    }
}

// === impl Exchange ===

impl Exchange<'_> {
    /// Reads the request's body to its end.
    pub fn body(&mut self) -> Vec<u8> {
        let outcome = self.wire.request_body(&mut self.request, false);
        self.shared.note(outcome.err(), &self.wire.seen);
        let mut state = self.shared.state.lock().unwrap();
        let connection = self.request.connection;
        state.requests[self.record] = Request { connection, ..self.request.clone() };
        drop(state);
        self.shared.changed.notify_all();
        self.request.body.clone()
    }

    /// Sends `bytes`; whether the connection still took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.io.write_all(bytes.as_ref()).is_ok()
    }

    /// Answers with a `Content-Length` and keeps the connection. `fields` end with CRLF each.
    pub fn reply(&mut self, status: &str, fields: &str, body: &[u8]) -> Then {
        let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat());
        Then::Keep
    }

    /// Takes some of the bytes that came after the head.
    pub fn some(&mut self) -> Result<Vec<u8>, End> {
        self.wire.some(64 * 1024)
    }

    /// Waits for the proxy to end the connection: how it did, and what came before.
    pub fn rest(&mut self, within: Duration) -> (Vec<u8>, End) {
        self.wire.io.set_read_timeout(Some(within)).unwrap();
        self.wire.rest()
    }

    /// Half-closes towards the proxy.
    pub fn finish(&mut self) {
        let _gone = self.wire.io.shutdown(Shutdown::Write);
    }
}

// === impl Shared ===

impl Shared {
    fn note(&self, fault: Option<Fault>, seen: &[u8]) {
        if let Some(Fault::Illegal(what)) = fault {
            let line = format!("{what}\n  in: {}", shown(seen));
            self.state.lock().unwrap().illegal.push(line);
        }
    }

    /// Serves one connection; whether its end shall be a reset.
    fn serve(&self, index: usize, stream: TcpStream) -> Then {
        let mut wire = Wire::new(stream);
        if wire.fill().is_err() {
            return Then::Close;
        }
        self.state.lock().unwrap().used += 1;
        for before in 0.. {
            let request = match wire.request_head(Length::Canonical) {
                Ok(Some(request)) => Request { connection: index, ..request },
                Ok(None) => break,
                Err(fault) => {
                    self.note(Some(fault), &wire.seen);
                    break;
                }
            };
            let (running, record) = Running::new(self, &request);
            let wire = &mut wire;
            let mut exchange = Exchange { request, before, wire, shared: self, record };
            match (self.script)(&mut exchange) {
                Then::Keep if exchange.request.complete => {}
                Then::Keep => {
                    drop(exchange.body());
                    if !exchange.request.complete {
                        // What came of a body that was cut off is no request.
                        return Then::Close;
                    }
                }
                then @ (Then::Close | Then::Reset) => return then,
            }
            drop(running);
        }
        Then::Close
    }
}

impl<'a> Running<'a> {
    /// Records `request`: the guard, and where it is in the records.
    fn new(shared: &'a Shared, request: &Request) -> (Self, usize) {
        let mut state = shared.state.lock().unwrap();
        state.requests.push(request.clone());
        state.scripts += 1;
        let record = state.requests.len() - 1;
        drop(state);
        shared.changed.notify_all();
        (Self(shared), record)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.lock() {
            state.scripts -= 1;
        }
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let targets: Vec<_> = self.requests.iter().map(|request| &request.target).collect();
        write!(
            f,
            "{} connections ({} used, {} open), {} requests, the last {:?}, illegal {:?}",
            self.accepted,
            self.used,
            self.open.len(),
            targets.len(),
            &targets[targets.len().saturating_sub(5)..],
            self.illegal
        )
    }
}

// === helpers ===

/// A thread with a small stack: there may be thousands.
pub fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::Builder::new().name(name.into()).stack_size(256 * 1024).spawn(work).unwrap()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let index = {
            let mut state = shared.state.lock().unwrap();
            state.accepted += 1;
            let index = state.accepted;
            state.open.insert(index, stream.try_clone().unwrap());
            index
        };
        let shared = Arc::clone(shared);
        let _detached = thread("app connection", move || {
            let mine = stream.try_clone().unwrap();
            let then = shared.serve(index, stream);
            finish(&mine, then);
            shared.state.lock().unwrap().open.remove(&index);
            shared.changed.notify_all();
        });
    }
}

/// Ends a connection in the way the script asked for. A FIN is followed by reading, so that it never turns into a reset.
fn finish(stream: &TcpStream, then: Then) {
    if then == Then::Reset {
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        return;
    }
    let _gone = stream.shutdown(Shutdown::Write);
    let _timeout = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let until = now() + Duration::from_secs(5);
    let mut wire = Wire::new(stream);
    while now() < until && wire.some(usize::MAX).is_ok() {}
}
