//! A load balancer, and the load on it: short requests at a steady pace and long polls that come back when answered.
//!
//! It pools keep-alive connections and pins each one to its pod the way NAT does: a change of the endpoints steers new
//! connections only. It honours close, retries nothing, and every answer is looked at.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lameduck::clock::Clock;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::http::{Connection, Failure, Response};

/// 100 requests a second.
const PACE: Duration = Duration::from_millis(10);
/// More idle connections than this are not kept.
const MAX_IDLE: usize = 32;
/// Connections are renewed after this many requests, so that the load moves to a new endpoint within seconds.
const REQUESTS_PER_CONNECTION: u32 = 20;
/// No short request takes this long unless it hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Clients that poll. Each has one request under way at any time.
const POLLS: u64 = 20;
/// The story's polls last 30 s. These last 1-3 s.
const POLL_MS: (u64, u64) = (1000, 2000);
/// Whoever has just seen a failure waits this long.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// The balancer's connections, endpoints and memory.
pub(crate) struct Balancer {
    clock: Clock,
    endpoints: Mutex<Endpoints>,
    idle: Mutex<Vec<Connection>>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Endpoints {
    addrs: Vec<SocketAddr>,
    turn: usize,
}

/// What became of the requests so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    pub(crate) by_pod: BTreeMap<SocketAddr, u64>,
    pub(crate) failures: Vec<String>,
}

/// A load that runs until it is stopped.
pub(crate) struct Load {
    balancer: Arc<Balancer>,
    stop: watch::Sender<()>,
    clients: JoinSet<()>,
}

// === impl Balancer ===

impl Balancer {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            endpoints: Mutex::default(),
            idle: Mutex::default(),
            tally: Mutex::default(),
        })
    }

    /// New connections go there too from now on.
    pub(crate) fn add(&self, endpoint: SocketAddr) {
        lock(&self.endpoints).addrs.push(endpoint);
    }

    /// New connections do not go there any more. Those that exist stay.
    pub(crate) fn remove(&self, endpoint: SocketAddr) {
        lock(&self.endpoints).addrs.retain(|other| *other != endpoint);
    }

    /// Where new connections go.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        lock(&self.endpoints).addrs.clone()
    }

    /// What became of the requests so far.
    pub(crate) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Starts the load.
    pub(crate) fn load(self: &Arc<Self>) -> Load {
        let (stop, stopped) = watch::channel(());
        let mut clients = JoinSet::new();
        clients.spawn(Arc::clone(self).send_shorts(stopped.clone()));
        for client in 0..POLLS {
            clients.spawn(Arc::clone(self).poll(client, stopped.clone()));
        }
        Load { balancer: Arc::clone(self), stop, clients }
    }

    async fn send_shorts(self: Arc<Self>, mut stopped: watch::Receiver<()>) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = JoinSet::new();
        for number in 0_u64.. {
            tokio::select! {
                _ = stopped.changed() => break,
                _ = ticks.tick() => {}
            }
            while requests.try_join_next().is_some() {}
            let balancer = Arc::clone(&self);
            requests.spawn(async move {
                let target = format!("/?n={number}");
                balancer.send(&target, &format!("good day {number}"), ANSWER_LIMIT).await;
            });
        }
        requests.join_all().await;
    }

    async fn poll(self: Arc<Self>, client: u64, mut stopped: watch::Receiver<()>) {
        let (shortest, spread) = POLL_MS;
        for round in 0_u64.. {
            if stopped.has_changed().is_err() {
                return;
            }
            // Spread evenly, and differently in each round: the clients do not march in step.
            let millis = shortest + spread * ((client + round * 7) % POLLS) / POLLS;
            let number = client * 1_000_000 + round;
            let limit = Duration::from_millis(millis) + ANSWER_LIMIT;
            let target = format!("/poll?ms={millis}&n={number}");
            if !self.send(&target, &format!("nothing new {number}"), limit).await {
                let _stopped_or_time = timeout(AFTER_FAILURE, stopped.changed()).await;
            }
        }
    }

    /// Sends a request and notes what became of it; whether that was `body`.
    pub(crate) async fn send(&self, target: &str, body: &str, limit: Duration) -> bool {
        let sent_at = self.clock.now();
        let (pod, how, outcome) = self.exchange(target, limit).await;
        let outcome = outcome.map_err(|failure| failure.to_string()).and_then(|response| {
            if response.status == 200 && response.body == body.as_bytes() {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&response.body).into_owned();
            Err(format!("answered {}: {text}", response.status))
        });
        let mut tally = lock(&self.tally);
        match outcome {
            Ok(()) => {
                tally.answered += 1;
                *tally.by_pod.entry(pod).or_default() += 1;
                true
            }
            Err(failure) => {
                let now = self.clock.now();
                tally
                    .failures
                    .push(format!("{sent_at}..{now} {target} to {pod}, {how}: {failure}"));
                false
            }
        }
    }

    async fn exchange(
        &self,
        target: &str,
        limit: Duration,
    ) -> (SocketAddr, &'static str, Result<Response, Failure>) {
        let (mut connection, how) = match self.take_idle() {
            Some(connection) => (connection, "a reused connection"),
            None => {
                let how = "a new connection";
                let Some(pod) = lock(&self.endpoints).choose() else {
                    let nobody = std::io::ErrorKind::ConnectionRefused.into();
                    return (
                        ([0, 0, 0, 0], 0).into(),
                        "no endpoint",
                        Err(Failure::Connect(nobody)),
                    );
                };
                let opened = timeout(limit, Connection::open(pod)).await;
                match opened.unwrap_or(Err(Failure::Timeout)) {
                    Ok(connection) => (connection, how),
                    Err(failure) => return (pod, how, Err(failure)),
                }
            }
        };
        let pod = connection.peer;
        let answer = connection.get(target, limit, self.clock).await;
        if answer.as_ref().is_ok_and(|response| !response.close)
            && connection.requests < REQUESTS_PER_CONNECTION
        {
            let mut idle = lock(&self.idle);
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
        (pod, how, answer)
    }

    /// The most recently used connection that the pod has not closed.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        std::iter::from_fn(|| idle.pop()).find(Connection::is_reusable)
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// They take turns.
    fn choose(&mut self) -> Option<SocketAddr> {
        let chosen = self.addrs.get(self.turn.checked_rem(self.addrs.len())?).copied();
        self.turn = self.turn.wrapping_add(1);
        chosen
    }
}

// === impl Load ===

impl Load {
    /// Stops the load and waits for every answer.
    pub(crate) async fn stop(self) -> Tally {
        let Self { balancer, stop, clients } = self;
        drop(stop);
        clients.join_all().await;
        lock(&balancer.idle).clear();
        balancer.tally()
    }
}

// === impl Tally ===

impl Tally {
    /// Fails unless there was a load and every request was answered.
    #[track_caller]
    pub(crate) fn expect_none_lost(&self) {
        assert!(self.answered > 0, "no request was sent");
        assert!(self.failures.is_empty(), "{self}");
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} answered, {} failed", self.answered, self.failures.len())?;
        self.failures.iter().take(10).try_for_each(|failure| writeln!(f, "  {failure}"))
    }
}

// === helpers ===

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
