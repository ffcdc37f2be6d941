//! The traffic: short requests at a steady pace, long polls that come back as soon as they are answered, and streams.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    clock::Clock,
    demo::{
        balancer::{Balancer, Exchange, SharedNat, lock},
        nat::Random,
        scene::Scene,
        settings::{
            AFTER_FAILURE, LATE_GRACE, POLL_EXTRA, POLL_MS, POLLS, SEED, SHORT_EVERY, SHORT_LIMIT,
            STREAMS, WARM_UP,
        },
        streams::Client,
    },
};

/// Requests under way beyond this are not started: the machine can't keep up, and more would not help it.
const MOST_UNDER_WAY: usize = 500;

/// Who sends requests. Dropping it ends the traffic.
#[derive(Debug)]
pub(super) struct Traffic {
    tasks: JoinSet<()>,
    desk: Desk,
}

/// Where results are written down.
#[derive(Clone, Debug)]
struct Desk {
    balancer: Balancer,
    nat: SharedNat,
    scene: Scene,
}

// === impl Traffic ===

impl Traffic {
    /// Starts the streams and the short requests.
    pub(super) fn start(clock: Clock, nat: SharedNat, scene: Scene) -> Self {
        let mut tasks = JoinSet::new();
        // Before anybody else takes a turn, so that they are spread over the pods.
        for &kind in STREAMS {
            let client = Client::new(kind, clock, nat.clone(), scene.clone());
            tasks.spawn(client.follow());
        }
        let desk = Desk { balancer: Balancer::new(clock, nat.clone()), nat, scene };
        tasks.spawn(shorts(desk.clone()));
        Self { tasks, desk }
    }

    /// Adds the long polls; they come one by one in the course of the warm-up, not as a herd.
    pub(super) fn add_polls(&mut self) {
        let mut random = Random::new(SEED);
        let step = WARM_UP / u32::try_from(POLLS).unwrap_or(1);
        let mut delay = Duration::ZERO;
        for client in 0..POLLS {
            let random = Random::new(random.below(u64::MAX));
            self.tasks.spawn(polls(self.desk.clone(), client, delay, random));
            delay += step;
        }
    }
}

// === impl Desk ===

impl Desk {
    fn note(&self, exchange: Exchange) {
        let late = exchange.pod.is_some_and(|pod| {
            let went = lock(&self.nat).unready_since(pod, exchange.sent);
            went.is_some_and(|went| exchange.sent >= went + LATE_GRACE)
        });
        let mut stage = self.scene.stage();
        stage.tally.requests += 1;
        stage.tally.late += u64::from(late);
        if let Some(pod) = exchange.pod {
            *stage.tally.by_pod.entry(pod).or_default() += 1;
        }
        if let Some(fault) = exchange.fault {
            *stage.tally.faults.entry(fault).or_default() += 1;
            if let Some(pod) = exchange.pod {
                *stage.tally.failed_by_pod.entry(pod).or_default() += 1;
            }
        }
    }
}

// === helpers ===

async fn shorts(desk: Desk) {
    let desk = Arc::new(desk);
    let mut under_way = JoinSet::new();
    let mut pace = interval(SHORT_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for turn in 0_usize.. {
        pace.tick().await;
        while under_way.try_join_next().is_some() {}
        if under_way.len() < MOST_UNDER_WAY {
            let desk = desk.clone();
            under_way.spawn(async move {
                desk.note(desk.balancer.send(turn, "/", SHORT_LIMIT).await);
            });
        }
    }
}

async fn polls(desk: Desk, client: usize, delay: Duration, mut random: Random) {
    sleep(delay).await;
    loop {
        let length = Duration::from_millis(POLL_MS.0 + random.below(POLL_MS.1));
        let path = format!("/poll?s={:.3}", length.as_secs_f64());
        desk.scene.stage().tally.parked += 1;
        let exchange = desk.balancer.send(client, &path, length + POLL_EXTRA).await;
        desk.note(exchange);
        desk.scene.stage().tally.end_poll();
        if exchange.fault.is_some() {
            sleep(AFTER_FAILURE).await;
        }
    }
}
