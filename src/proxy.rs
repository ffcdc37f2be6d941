//! The workers: single-threaded runtimes that serve client connections, and the hand-over of new connections to them.
//!
//! One listening socket feeds all workers, so there is one accept queue and nothing in it is lost; a new connection
//! goes to the worker that has the fewest.
//!
//! Not here: what happens on a connection; that begins in `conn.rs`, and the line where a request is sent is in
//! `forward.rs`.

mod alarm;
mod conn;
mod downstream;
mod due;
pub mod entry;
pub mod error;
pub mod event_stream;
pub mod fields;
mod forward;
pub mod framing;
mod goodbye;
pub mod headers;
pub mod http2;
mod in_flight;
mod io;
pub mod keep_alive;
mod linger;
pub mod pace;
pub mod preface;
pub mod proxy_header;
mod record;
mod relay;
pub mod request;
pub mod response;
mod task;
mod upgrade;
pub mod upstream;
mod wait;
pub mod websocket;
mod worker;

use std::{
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};

use self::{
    downstream::{Conn, Speaks},
    entry::{Arrival, Entered, failures::Failures},
    io::Socket,
    upstream::outage::Outages,
    worker::Worker,
};
use crate::{
    clock::Clock,
    config::Config,
    lifecycle::driver::Watch,
    memory::Pressure,
    slots::Slot,
    tls,
    tracker::{Count, Tracker, WorkerTracker},
    units::Uptime,
};

/// What the workers need to know.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// The clock all phases and counts are told by.
    pub clock: Clock,
    /// The phase.
    pub watch: Watch,
    /// The counts; one worker each.
    pub tracker: Tracker,
    /// How scarce memory is.
    pub pressure: Pressure,
    /// TLS on the proxy ports.
    pub tls: Option<tls::Server>,
    /// Which apps can't be reached.
    pub outages: Outages,
    /// Which connections have failed before HTTP.
    pub failures: Failures,
}

/// A client connection that nobody serves yet.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The client's address.
    pub peer: SocketAddr,
    /// The index of the route it came in on.
    pub route: usize,
    /// When it was accepted.
    pub at: Uptime,
    /// Its place among the connections that may be open.
    pub slot: Slot,
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    queue: mpsc::UnboundedSender<(Accepted, Held)>,
    held: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

/// Counts a connection as the worker's, from the hand-over on.
#[derive(Debug)]
struct Held(Arc<AtomicUsize>);

// === impl Workers ===

impl Workers {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// The system has no threads or descriptors left.
    pub fn spawn(context: &Context) -> std::io::Result<Self> {
        let handles = (0..context.tracker.workers())
            .map(|index| Handle::spawn(context.clone(), index))
            .collect::<std::io::Result<_>>()?;
        Ok(Self { handles })
    }

    /// Gives a new connection to the worker that has the fewest.
    pub fn serve(&self, accepted: Accepted) {
        let fewest = self.handles.iter().min_by_key(|handle| handle.held.load(Relaxed));
        if let Some(handle) = fewest {
            let held = Held::new(&handle.held);
            // A worker ends only after its queue was dropped, so somebody receives.
            let _delivered = handle.queue.send((accepted, held));
        }
    }

    /// Ends the workers: connections that are still open are cut, and counted as abandoned if a request was on them.
    pub fn stop(self) {
        for Handle { queue, thread, held: _ } in self.handles {
            drop(queue);
            if thread.join().is_err() {
                tracing::error!("a worker thread has panicked");
            }
        }
    }
}

// === impl Handle ===

impl Handle {
    fn spawn(context: Context, index: usize) -> std::io::Result<Self> {
        let (queue, accepted) = mpsc::unbounded_channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("lameduck-{index}"))
            .spawn(move || run(&context, index, accepted, &ready))?;
        is_ready.recv().map_err(|_| std::io::Error::other("a worker ended at its start"))??;
        Ok(Self { queue, held: Arc::default(), thread })
    }
}

fn run(
    context: &Context,
    index: usize,
    mut queue: mpsc::UnboundedReceiver<(Accepted, Held)>,
    ready: &std::sync::mpsc::Sender<std::io::Result<()>>,
) {
    // A local runtime can't leave its thread, so whether it could be built is told from here.
    let built = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let (runtime, told) = match built {
        Ok(runtime) => (Some(runtime), ready.send(Ok(()))),
        Err(error) => (None, ready.send(Err(error))),
    };
    let (Some(runtime), Ok(())) = (runtime, told) else { return };
    let worker = Worker::new(context, context.tracker.worker(index), seed(index));
    runtime.block_on(async move {
        tokio::task::spawn_local(Rc::clone(&worker).pulse());
        while let Some((accepted, held)) = queue.recv().await {
            tokio::task::spawn_local(serve(Rc::clone(&worker), accepted, held));
        }
    });
}

async fn serve(worker: Rc<Worker>, accepted: Accepted, _held: Held) {
    let Accepted { stream, peer, route, at, slot: _slot } = accepted;
    // A dual-stack listener sees 10.1.2.3 as ::ffff:10.1.2.3.
    let peer = peer.ip().to_canonical();
    let stream = match tokio::net::TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%peer, %error, "can't serve a connection");
            return;
        }
    };
    worker.tracker.add(Count::Accepted, 1);
    let arrival_before = worker.tracker.arrived(at);
    let _panic = PanicCount(worker.tracker.clone());
    let _open = worker.tracker.guard(Count::Connections);
    let arrival = Arrival { peer, alarm: worker.alarms.add(), at, before: arrival_before };
    let entered = if worker.has_entry() {
        // Boxed, so that connections that begin with HTTP need no room for a handshake.
        Box::pin(entry::enter(&worker, stream, arrival)).await
    } else {
        Some(Entered { socket: Socket::tcp(stream), speaks: Speaks::Unknown, arrival })
    };
    let Some(Entered { socket, speaks, arrival }) = entered else { return };
    let conn = Conn {
        route,
        socket,
        peer: arrival.peer,
        alarm: arrival.alarm,
        accepted_at: arrival.at,
        arrival_before: arrival.before,
        seed: worker.random(),
        requests: 0,
        inbox: Vec::new(),
        deferrals: 0,
        speaks,
        worker,
    };
    conn::serve(conn).await;
}

/// Counts a panic in a connection's task: the runtime ends that task alone.
struct PanicCount(WorkerTracker);

impl Drop for PanicCount {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.add(Count::ErrorInternal, 1);
        }
    }
}

// === impl Held ===

impl Held {
    fn new(held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Relaxed);
        Self(Arc::clone(held))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A different start for each worker and process; spreading needs no secret randomness.
fn seed(index: usize) -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_usize(index);
    hasher.finish()
}

#[cfg(test)]
mod tests;
