//! A load balancer and the load on it.
//!
//! It pools keep-alive connections and pins each one to its pod the way NAT does: a change of the endpoint steers new
//! connections only. It sends in bursts at a fixed pace, so that it holds idle connections between the bursts; it slows
//! down only while very many answers are missing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lameduck::{clock::Clock, units::Uptime};
use tokio::{sync::oneshot, task::JoinSet, time::MissedTickBehavior};

use crate::http::{Connection, Failure, Response};

/// 16 requests each 25 ms are 640 a second.
const BURST: u64 = 16;
const PACE: Duration = Duration::from_millis(25);
/// At this many unanswered requests the load pauses: a machine that is too busy for it makes it slower. With the polls it
/// stays below the shortest accept queue of the servers, 128 of Flask's own, past which connections time out.
const MAX_IN_FLIGHT: usize = 96;
/// Connections are renewed after this many requests, so that the load moves to a new endpoint within seconds.
const REQUESTS_PER_CONNECTION: u32 = 50;
/// More idle connections than this are not kept, so that the load does not live on old ones for long.
const MAX_IDLE: usize = 32;
/// No short request takes this long unless it is lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The load ends by itself after this.
const LONGEST_LOAD: Duration = Duration::from_secs(300);

/// The balancer's connections, endpoint and memory.
pub(crate) struct Balancer {
    clock: Clock,
    endpoint: Mutex<SocketAddr>,
    idle: Mutex<Vec<Connection>>,
    tally: Mutex<Tally>,
}

/// What became of the requests so far.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) answers: Vec<Answer>,
    pub(crate) failures: Vec<String>,
}

/// A request that was answered as it should be.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) pod: SocketAddr,
    pub(crate) sent_at: Uptime,
    pub(crate) head_at: Uptime,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
}

/// A load that runs until it is stopped.
pub(crate) struct Load {
    balancer: Arc<Balancer>,
    since: Uptime,
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

// === impl Balancer ===

impl Balancer {
    pub(crate) fn new(clock: Clock, endpoint: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            clock,
            endpoint: Mutex::new(endpoint),
            idle: Mutex::default(),
            tally: Mutex::default(),
        })
    }

    /// New connections go there from now on.
    pub(crate) fn set_endpoint(&self, endpoint: SocketAddr) {
        *lock(&self.endpoint) = endpoint;
    }

    /// The answers that `pod` gave to requests sent from `since` on.
    pub(crate) fn answers_since(&self, pod: SocketAddr, since: Uptime) -> Vec<Answer> {
        let tally = lock(&self.tally);
        let of_pod =
            tally.answers.iter().filter(|answer| answer.pod == pod && answer.sent_at >= since);
        of_pod.copied().collect()
    }

    /// Starts the load.
    pub(crate) fn start(self: &Arc<Self>) -> Load {
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(Arc::clone(self).send_bursts(stopped));
        Load { balancer: Arc::clone(self), since: self.clock.now(), stop, task }
    }

    async fn send_bursts(self: Arc<Self>, mut stopped: oneshot::Receiver<()>) {
        let end = self.clock.now() + LONGEST_LOAD;
        let mut ticks = tokio::time::interval(PACE);
        // A late tick is made up for: the rate is kept over the run.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut requests = JoinSet::new();
        while self.clock.now() < end {
            tokio::select! {
                _ = &mut stopped => break,
                _ = ticks.tick() => {}
            }
            while requests.try_join_next().is_some() {}
            for _ in 0..BURST {
                if requests.len() < MAX_IN_FLIGHT {
                    requests.spawn(Arc::clone(&self).send_one());
                }
            }
        }
        requests.join_all().await;
    }

    async fn send_one(self: Arc<Self>) {
        let number = {
            let mut tally = lock(&self.tally);
            tally.sent += 1;
            tally.sent
        };
        let sent_at = self.clock.now();
        let (pod, reused, outcome) = self.exchange(number).await;
        let mut tally = lock(&self.tally);
        match outcome {
            Ok(Response { close, keep_alive, head_at, .. }) => {
                tally.answers.push(Answer { pod, sent_at, head_at, close, keep_alive });
            }
            Err(failure) => {
                let kind = if reused { "a reused" } else { "a new" };
                let now = self.clock.now();
                tally
                    .failures
                    .push(format!("{sent_at}..{now} {pod} on {kind} connection: {failure}"));
            }
        }
    }

    async fn exchange(&self, number: u64) -> (SocketAddr, bool, Result<Response, Failure>) {
        let (pod, mut connection) = match self.take_idle() {
            Some(connection) => (connection.peer, connection),
            None => {
                let pod = *lock(&self.endpoint);
                match Connection::open(pod).await {
                    Ok(connection) => (pod, connection),
                    Err(failure) => return (pod, false, Err(failure)),
                }
            }
        };
        let reused = connection.requests > 0;
        let answer = connection.get(&format!("/?n={number}"), ANSWER_LIMIT, self.clock).await;
        let answer = answer.and_then(|response| check(response, &format!("good day {number}")));
        if let Ok(response) = &answer
            && !response.close
            && connection.requests < REQUESTS_PER_CONNECTION
        {
            let mut idle = lock(&self.idle);
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
        (pod, reused, answer)
    }

    /// The most recently used connection that the pod has not closed.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        std::iter::from_fn(|| idle.pop()).find(Connection::is_reusable)
    }
}

// === impl Load ===

impl Load {
    /// Stops the load, waits for every answer and closes the pool. Also tells how long the load ran.
    pub(crate) async fn stop(self) -> (Tally, Duration) {
        let Self { balancer, since, stop, task } = self;
        // It may have ended by itself.
        let _ended = stop.send(());
        let took = balancer.clock.now().saturating_since(since);
        task.join_all().await;
        lock(&balancer.idle).clear();
        let tally = std::mem::take(&mut *lock(&balancer.tally));
        (tally, took)
    }
}

// === helpers ===

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("must not be poisoned: nothing here panics while it holds a lock")
}

/// The response, if it is the one that belongs to the request.
pub(crate) fn check(response: Response, body: &str) -> Result<Response, Failure> {
    if response.status == 200 && response.body == body.as_bytes() {
        return Ok(response);
    }
    let body = String::from_utf8_lossy(&response.body).into_owned();
    Err(Failure::Answer { status: response.status, body })
}
