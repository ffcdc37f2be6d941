//! The app behind the proxy, over HTTP/2 without TLS: a scripted server that records everything.
//!
//! Scripts are `async`; each stream runs one. The server has a thread and a runtime of its own.

use std::{
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{Gate, PATIENCE, app::thread};

/// One scripted app. Dropping it ends its connections.
pub struct Http2App {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<mpsc::UnboundedSender<()>>,
    serving: Option<JoinHandle<()>>,
}

/// What the app allows.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub streams: u32,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub uri: http::Uri,
    pub fields: HeaderMap,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// The body, once a script has read it to its end.
    pub body: Option<Vec<u8>>,
    /// The trailers behind it.
    pub trailers: Option<HeaderMap>,
    /// The code with which the client ended the stream.
    pub reset: Option<u32>,
}

/// One stream, in the hands of a script.
pub struct Exchange {
    pub request: Request,
    record: usize,
    shared: Arc<Shared>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    accepted: usize,
    open: Vec<(usize, mpsc::UnboundedSender<()>)>,
}

// === impl Http2App ===

impl Http2App {
    /// An app that does what `script` says with each request.
    pub fn new<F: Future<Output = ()> + 'static>(
        settings: Settings,
        script: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), settings, script)
    }

    /// The same at an address of the test's choice.
    pub fn at<F: Future<Output = ()> + 'static>(
        addr: SocketAddr,
        settings: Settings,
        script: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind(addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (stop, stopped) = mpsc::unbounded_channel();
        let serving = thread("http2 app", {
            let shared = Arc::clone(&shared);
            move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = builder.enable_all().build().unwrap();
                let local = tokio::task::LocalSet::new();
                let script = std::rc::Rc::new(script);
                local.block_on(&runtime, serve(listener, shared, settings, script, stopped));
                drop(local);
                runtime.shutdown_background();
            }
        });
        Self { addr, shared, stop: Some(stop), serving: Some(serving) }
    }

    /// An app that answers every request with 200 and its body, or `ok` if it has none.
    pub fn echo() -> Self {
        Self::new(Settings::default(), |mut exchange| async move {
            let mut body = exchange.body().await;
            if body.is_empty() {
                body = b"ok".to_vec();
            }
            exchange.reply(200, &[], &body).await;
        })
    }

    /// An app whose answers to paths other than `/poll…` are immediate; those wait for `gate`.
    pub fn polls(settings: Settings, gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::new(settings, move |mut exchange| {
            let gate = gate.clone();
            async move {
                if exchange.request.uri.path().starts_with("/poll") {
                    exchange.wait_for(&gate).await;
                }
                exchange.reply(200, &[], b"ok").await;
            }
        })
    }

    /// Everything that was asked, in the order the heads came.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The only request there was.
    pub fn only(&self) -> Request {
        let mut requests = self.wait_for(1);
        assert_eq!(requests.len(), 1, "more than one request came: {requests:#?}");
        requests.remove(0)
    }

    /// Waits until `n` requests have come.
    pub fn wait_for(&self, n: usize) -> Vec<Request> {
        self.wait("requests", PATIENCE, |state| state.requests.len() >= n).requests.clone()
    }

    /// Waits until the stream of the request for `path` was reset: with which code.
    pub fn wait_for_reset(&self, path: &str, within: Duration) -> u32 {
        let reset = |state: &State| {
            state.requests.iter().find(|asked| asked.uri.path() == path).and_then(|r| r.reset)
        };
        reset(&self.wait("a reset", within, |state| reset(state).is_some())).unwrap()
    }

    /// Connections that were accepted, and those of them that are open.
    pub fn connections(&self) -> (usize, usize) {
        let state = self.state();
        (state.accepted, state.open.len())
    }

    /// Waits until the proxy has closed every connection to the app.
    pub fn wait_until_unconnected(&self) {
        drop(self.wait("no connection left", PATIENCE, |state| state.open.is_empty()));
    }

    /// Tells every connection GOAWAY in two stages; what is on it goes on.
    pub fn go_away(&self) {
        for (_, tell) in &self.state().open {
            let _gone = tell.send(());
        }
    }

    /// Ends the app as a dying process does: refuses connections and closes those it has.
    pub fn die(&mut self) {
        self.stop = None;
        if let Some(serving) = self.serving.take() {
            serving.join().unwrap();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn wait(
        &self,
        what: &str,
        within: Duration,
        until: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let state = self.state();
        let (state, waited) =
            self.shared.changed.wait_timeout_while(state, within, |state| !until(state)).unwrap();
        assert!(!waited.timed_out(), "the app waited in vain for {what}: {state:?}");
        state
    }
}

impl Drop for Http2App {
    fn drop(&mut self) {
        self.die();
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { streams: 100 }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Reads the request's body to its end, or to where it breaks off.
    pub async fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(data) = self.some().await {
            body.extend_from_slice(&data);
        }
        let trailers = self.body.trailers().await.ok().flatten();
        let read = body.clone();
        self.note(|request| (request.body, request.trailers) = (Some(read), trailers));
        body
    }

    /// Takes some bytes of the body, and makes room for as many; none at its end.
    pub async fn some(&mut self) -> Option<Bytes> {
        let data = self.body.data().await?.ok()?;
        self.body.flow_control().release_capacity(data.len()).unwrap();
        Some(data)
    }

    /// Sends an informational head.
    pub fn inform(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.respond.send_informational(head(status, fields)).unwrap();
    }

    /// Sends the final head; the body follows.
    pub fn head(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.stream = self.respond.send_response(head(status, fields), false).ok();
    }

    /// Sends `data` as the proxy makes room for it; whether all of it was taken.
    pub async fn send(&mut self, data: &[u8]) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut rest = Bytes::copy_from_slice(data);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            while stream.capacity() == 0 {
                match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return false,
                }
            }
            let now = rest.split_to(stream.capacity().min(rest.len()));
            if stream.send_data(now, false).is_err() {
                return false;
            }
        }
        true
    }

    /// Ends the response.
    pub fn finish(&mut self) {
        if let Some(stream) = &mut self.stream {
            let _gone = stream.send_data(Bytes::new(), true);
        }
    }

    /// Ends the response with trailers.
    pub fn finish_with(&mut self, trailers: &[(&str, &str)]) {
        if let Some(stream) = &mut self.stream {
            let _gone = stream.send_trailers(map(trailers));
        }
    }

    /// Answers: head, body, end. Without a body the head is the end.
    pub async fn reply(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        if body.is_empty() {
            let _gone = self.respond.send_response(head(status, fields), true);
            return;
        }
        self.head(status, fields);
        self.send(body).await;
        self.finish();
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits for `gate`, but not longer than the client keeps the stream.
    pub async fn wait_for(&mut self, gate: &Gate) {
        let gate = gate.clone();
        let opened = tokio::task::spawn_blocking(move || gate.wait());
        tokio::select! {
            _ = opened => {}
            () = self.gone() => {}
        }
    }

    /// Waits until the client resets the stream, and records the code.
    pub async fn gone(&mut self) {
        let reset = poll_fn(|cx| match &mut self.stream {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        let code = reset.await.map_or(u32::MAX, u32::from);
        self.note(|request| request.reset = Some(code));
    }

    fn note(&self, what: impl FnOnce(&mut Request)) {
        what(&mut self.shared.state.lock().unwrap().requests[self.record]);
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, requests) = (self.open.len(), &self.requests);
        let last = &requests[requests.len().saturating_sub(5)..];
        write!(
            f,
            "{} connections, {open} open, {} requests: {last:#?}",
            self.accepted,
            requests.len()
        )
    }
}

// === helpers ===

fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status.try_into().unwrap();
    *head.headers_mut() = map(fields);
    head
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(pair).collect()
}

type Scripted<S> = std::rc::Rc<S>;

async fn serve<F: Future<Output = ()> + 'static, S: Fn(Exchange) -> F + 'static>(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    settings: Settings,
    script: Scripted<S>,
    mut stopped: mpsc::UnboundedReceiver<()>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = stopped.recv() => return,
        };
        stream.set_nodelay(true).unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        let index = {
            let mut state = shared.state.lock().unwrap();
            let index = state.accepted;
            state.accepted += 1;
            state.open.push((index, tell));
            index
        };
        let (shared, script) = (Arc::clone(&shared), Scripted::clone(&script));
        tokio::task::spawn_local(async move {
            connection(stream, index, &shared, settings, &script, told).await;
            shared.state.lock().unwrap().open.retain(|(open, _)| *open != index);
            shared.changed.notify_all();
        });
    }
}

async fn connection<F: Future<Output = ()> + 'static, S: Fn(Exchange) -> F>(
    stream: TcpStream,
    index: usize,
    shared: &Arc<Shared>,
    settings: Settings,
    script: &Scripted<S>,
    mut told: mpsc::UnboundedReceiver<()>,
) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(settings.streams);
    // Whoever connects only to see whether somebody listens says nothing.
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(()) = told.recv() => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let (parts, body) = request.into_parts();
        let request = Request {
            method: parts.method.to_string(),
            uri: parts.uri,
            fields: parts.headers,
            connection: index,
            body: None,
            trailers: None,
            reset: None,
        };
        let record = {
            let mut state = shared.state.lock().unwrap();
            state.requests.push(request.clone());
            state.requests.len() - 1
        };
        shared.changed.notify_all();
        let shared = Arc::clone(shared);
        let exchange = Exchange { request, record, shared, body, respond, stream: None };
        tokio::task::spawn_local(script(exchange));
    }
}
