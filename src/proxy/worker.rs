//! What all connections of one worker thread share: configuration, clock, phase, counts, scratch space, pools.
//!
//! Everything here belongs to one thread; nothing is locked.

use std::{
    cell::{Cell, RefCell, RefMut},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    Context,
    alarm::Alarms,
    entry::failures::Failures,
    headers::Closing,
    keep_alive::{Rules, Verdict},
    request::HeadLimits,
    upstream::{Upstream, dial::Dialer},
};
use crate::{
    clock::Clock,
    config::{Config, ProxyProtocol},
    lifecycle::{Phase, driver::Watch},
    memory::Pressure,
    tls,
    tracker::WorkerTracker,
    units::Uptime,
};

/// Room for one read: 64 KiB is what a loopback segment carries, and two default request heads.
const SCRATCH: usize = 64 * 1024;

/// What all connections of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) tracker: WorkerTracker,
    pub(super) pressure: Pressure,
    pub(super) tls: Option<tls::Server>,
    pub(super) failures: Failures,
    pub(super) alarms: Rc<Alarms>,
    pub(super) upstreams: Vec<Upstream>,
    watch: RefCell<Watch>,
    phase: Cell<Phase>,
    scratch: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
    random: Cell<u64>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(context: &Context, tracker: WorkerTracker, seed: u64) -> Rc<Self> {
        let Context { config, clock, mut watch, tracker: _, pressure, tls, outages, failures } =
            context.clone();
        let phase = watch.update();
        let alarms = Alarms::new();
        let upstreams = config
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                let dialer = Dialer::new(route, &config, clock, tracker.clone(), outages.of(index));
                Upstream::new(dialer, &config, &alarms)
            })
            .collect();
        let scratch = SCRATCH.max(config.limits.max_header_size * 2);
        Rc::new(Self {
            config,
            clock,
            tracker,
            pressure,
            tls,
            failures,
            alarms,
            upstreams,
            watch: RefCell::new(watch),
            phase: Cell::new(phase),
            scratch: RefCell::new(vec![0; scratch].into_boxed_slice()),
            spare: RefCell::new(Vec::new()),
            random: Cell::new(seed | 1),
        })
    }

    /// The phase now: one atomic load unless it has changed.
    pub(super) fn phase(&self) -> Phase {
        let mut watch = self.watch.borrow_mut();
        if watch.has_changed() {
            self.phase.set(watch.update());
        }
        self.phase.get()
    }

    /// The room for one read; borrowed only between two awaits.
    pub(super) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// An empty buffer to compose a message in.
    pub(super) fn take_buffer(&self) -> Vec<u8> {
        // One KiB holds nearly every head without growing.
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1024))
    }

    /// Takes a buffer back, unless it has grown large or enough are waiting.
    pub(super) fn give_buffer(&self, mut buffer: Vec<u8>) {
        const KEEP: usize = 64;
        let mut spare = self.spare.borrow_mut();
        if (1..=16 * 1024).contains(&buffer.capacity()) && spare.len() < KEEP {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Whether connections begin with something before HTTP.
    pub(super) fn has_entry(&self) -> bool {
        self.tls.is_some() || self.config.proxy_protocol == ProxyProtocol::Required
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        let limits = &self.config.limits;
        HeadLimits { bytes: limits.max_header_size, fields: limits.max_headers }
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            policy: self.config.keep_alive,
            close_spread: self.config.close_spread,
            max_age: self.config.max_connection_age,
            max_requests: self.config.max_requests_per_connection,
        }
    }

    pub(super) fn closing(&self, verdict: Verdict) -> Closing {
        Closing { verdict, policy: self.config.keep_alive, idle_timeout: self.config.idle_timeout }
    }

    /// A number in `0.0..1.0` for spreading connections; xorshift64*, which needs no more than one word of state.
    #[allow(clippy::cast_precision_loss, reason = "24 bits fit an f32 exactly")]
    pub(super) fn random(&self) -> f32 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Looks after deadlines, the phase and the pools for as long as the worker lives.
    pub(super) async fn pulse(self: Rc<Self>) {
        let mut watch = self.watch.borrow().clone();
        let interval = Alarms::pulse_interval(self.shortest_limit());
        let mut scarce_since = None;
        let mut not_before = Uptime::ZERO;
        loop {
            let wake = self.clock.instant(self.alarms.look_at().max(not_before));
            tokio::select! {
                _ = watch.changed() => self.alarms.ring_all(),
                () = self.alarms.sooner() => {}
                since = self.pressure.changed_from(scarce_since) => {
                    scarce_since = since;
                    self.alarms.ring_all();
                }
                () = tokio::time::sleep_until(wake) => {
                    let now = self.clock.now();
                    self.alarms.ring_due(now);
                    for upstream in &self.upstreams {
                        self.alarms.expect(upstream.expire(now));
                    }
                    not_before = now + interval;
                }
            }
        }
    }

    fn shortest_limit(&self) -> Duration {
        let config = &self.config;
        let limits = [
            config.timeouts.header,
            config.timeouts.body,
            config.linger,
            config.parked_after,
            config.idle_timeout,
            config.upstream.idle_timeout,
            config.upstream.response_timeout.unwrap_or(Duration::MAX),
        ];
        limits.into_iter().min().unwrap_or(Duration::MAX)
    }

    /// The later of `at` and now has passed.
    pub(super) fn is_past(&self, at: Uptime) -> bool {
        self.clock.now() >= at
    }
}
