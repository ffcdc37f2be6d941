//! The load balancer of the story: front ends with pools of keep-alive connections to a node port.
//!
//! A connection belongs for life to the pod that the NAT rules chose when it was opened; endpoint changes act on new
//! connections only. The balancer honours `Connection: close`, reuses the connection that was used last, and never
//! sends a request twice, so that every failure shows. A request of which no byte was written has not been sent yet.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    clock::Clock,
    demo::{
        client::{Connection, Fault, NoReply},
        nat::{Nat, PodId},
    },
    units::Uptime,
};

/// Front ends, each with a pool of its own, as a real balancer has machines or threads.
pub(super) const FRONT_ENDS: usize = 8;

/// Surplus connections are closed when unused for this long. (HAProxy's `pool-purge-delay` is 5 s; sped up.)
///
/// It does not help the pod: connections in use stay as long as they are used. It bounds for how long a spare
/// connection can lie around until its one next request.
pub(super) const SURPLUS_IDLE: Duration = Duration::from_secs(1);

/// How often an unsent request looks for another connection: more than a front end ever pools.
const TRIES: usize = 64;

/// The rules, shared by those who change them and those who ask.
pub(super) type SharedNat = Arc<Mutex<Nat>>;

/// The balancer. Cheap to clone; clones share their pools.
#[derive(Clone, Debug)]
pub(super) struct Balancer {
    clock: Clock,
    nat: SharedNat,
    pools: Arc<[Mutex<Vec<Pinned>>; FRONT_ENDS]>,
}

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// The pod it was sent to, if any.
    pub(super) pod: Option<PodId>,
    /// When it was sent.
    pub(super) sent: Uptime,
    /// How it failed, if it did.
    pub(super) fault: Option<Fault>,
}

/// A connection and the pod that it reaches until its end.
#[derive(Debug)]
struct Pinned {
    connection: Connection,
    pod: PodId,
    used: Uptime,
}

// === impl Balancer ===

impl Balancer {
    /// A balancer with empty pools.
    pub(super) fn new(clock: Clock, nat: SharedNat) -> Self {
        Self { clock, nat, pools: Arc::new(std::array::from_fn(|_| Mutex::default())) }
    }

    /// Sends `GET path` through front end `front` (modulo their number); the answer must come within `limit`.
    pub(super) async fn send(&self, front: usize, path: &str, limit: Duration) -> Exchange {
        let pool = &self.pools[front % FRONT_ENDS];
        for _unsent in 0..TRIES {
            let sent = self.clock.now();
            let mut pinned = match self.connection(pool, sent).await {
                Ok(pinned) => pinned,
                Err((pod, fault)) => return Exchange { pod, sent, fault: Some(fault) },
            };
            let pod = Some(pinned.pod);
            let fault = match pinned.connection.exchange(path, limit).await {
                Err(NoReply::NotSent) => continue,
                Err(NoReply::Failed(fault)) => Some(fault),
                Ok(reply) => {
                    if reply.reusable {
                        pinned.used = self.clock.now();
                        lock(pool).push(pinned);
                    }
                    (reply.status.as_u16() >= 400).then_some(Fault::ErrorStatus)
                }
            };
            return Exchange { pod, sent, fault };
        }
        Exchange { pod: None, sent: self.clock.now(), fault: Some(Fault::Refused) }
    }

    /// The connection used last, or a new one to where the rules lead now.
    async fn connection(
        &self,
        pool: &Mutex<Vec<Pinned>>,
        now: Uptime,
    ) -> Result<Pinned, (Option<PodId>, Fault)> {
        if let Some(pinned) = reuse(&mut lock(pool), now) {
            return Ok(pinned);
        }
        let (pod, addr) = lock(&self.nat).choose(now).ok_or((None, Fault::Refused))?;
        let connection = Connection::open(addr).await.map_err(|fault| (Some(pod), fault))?;
        Ok(Pinned { connection, pod, used: now })
    }
}

// === helpers ===

/// Locks; a panic elsewhere is reported there, and these values hold no half-made state.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reuse(pool: &mut Vec<Pinned>, now: Uptime) -> Option<Pinned> {
    pool.retain(|pinned| {
        !pinned.connection.is_closed() && now.saturating_since(pinned.used) < SURPLUS_IDLE
    });
    pool.pop()
}

#[cfg(test)]
mod tests;
