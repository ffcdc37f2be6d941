//! Pure. The rules that lead from one phase to the next.
//!
//! Four verbs: [`Machine::handle`] takes an input, [`Machine::handle_timeout`] lets time pass,
//! [`Machine::poll_timeout`] says when to call that again, [`Machine::phase`] is the result. Whoever has
//! called `handle` calls `handle_timeout` too, with fresh [`Input::Load`] before it: an input is only noted
//! by `handle`; what follows from it *and from the time* is drawn by `handle_timeout`.
//!
//! Rules that are not in the table of [`Phase`]:
//!
//! * The first sign that the pod goes away sets the one deadline. Later signs change nothing, except that a
//!   signal allows the process to end ([`Machine::exit`]), and a second signal ends it.
//! * `POST /drain` while `Starting` is obeyed: `Shedding` for `Manual` and, as long as it is true,
//!   `AppNotReady`. Whoever asked for the drain before the app was up does not want traffic when it is.
//! * An app's preStop hook is read by [`restart`]'s rule.
//! * A process that still has an [`Errand`] does not leave, but the hard stop comes all the same.
//!
//! Not here: what a phase means for a connection; that is derived by whoever owns the connection.

mod app;
mod restart;
#[cfg(test)]
mod tests;

use crate::{
    lifecycle::{
        Cause, Departed, Departure, HookAnswer, Phase, Proof, Reasons, Shed, ShedReason,
        budget::Budget,
        machine::{app::App, restart::Restart},
    },
    tracker::Load,
    units::Uptime,
};

/// How many refusals in a row prove that the app is gone. One may fall into the moment in which a server
/// replaces its listening socket.
const GONE_AFTER: u32 = 2;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `GET /prestop/container/{name}` came.
    ContainerHook,
    /// `POST /drain` came.
    Drain,
    /// Traffic as it is now.
    Load(Load),
    /// `GET /prestop/pod` came.
    PodHook,
    /// The app answered its readiness probe, thresholds applied; always `true` for an app without one.
    Readiness(bool),
    /// SIGINT or SIGTERM came. A second one aborts.
    Signal(Signal),
    /// `POST /undrain` came.
    Undrain,
    /// A connection to the app was tried: whether it was accepted.
    Upstream(Reach),
    /// A container's hook that has to perform the container's own before it is answered, came or is over.
    UserHook(Errand),
}

/// What has to be done before the process may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// It is done, or nobody waits for it any more.
    Done,
    /// It is to be done.
    Due,
}

/// What must be known of the app before [`Phase::Starting`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// That it accepts connections.
    Accepts,
    /// Nothing.
    Anyhow,
    /// That it accepts connections, and that its probes say that it is ready.
    Ready,
}

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
}

/// What became of a try to connect to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The app accepted.
    Accepted,
    /// Nobody listens there.
    Refused,
}

/// Whether the process may end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A second signal came: end at once.
    Abort,
    /// The pod's grace period is nearly over: cut what is left and end.
    HardStop,
    /// Not yet.
    Stay,
    /// A signal has come, the drain is over and nobody needs us.
    Leave,
}

/// The state machine. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Machine {
    budget: Budget,
    phase: Phase,
    /// The latest time seen.
    now: Uptime,
    app: App,
    load: Load,
    /// Whether `POST /drain` is in force.
    manual: bool,
    restart: Option<Restart>,
    /// Errands that are due.
    errands: u32,
    /// Signals that have come.
    signals: u32,
}

// === impl Machine ===

impl Machine {
    /// A machine in [`Phase::Starting`], which `entry` ends.
    #[must_use]
    pub const fn new(budget: Budget, entry: Entry) -> Self {
        let app = App::new(entry);
        let load = Load { in_flight: 0, last_arrival: Uptime::ZERO, last_proxied: Uptime::ZERO };
        Self {
            budget,
            phase: Phase::Starting,
            now: Uptime::ZERO,
            app,
            load,
            manual: false,
            restart: None,
            errands: 0,
            signals: 0,
        }
    }

    /// The phase now.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The budget it was made with.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Traffic as it was told last.
    #[must_use]
    pub const fn load(&self) -> Load {
        self.load
    }

    /// Notes that `input` came at `now`. [`Machine::handle_timeout`] is called next.
    pub fn handle(&mut self, now: Uptime, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::ContainerHook => {
                if !self.phase.is_leaving() {
                    self.restart = Some(Restart::asked(self.now, self.restart));
                }
            }
            Input::Drain => self.manual = true,
            Input::Load(load) => self.load = load,
            Input::PodHook => self.depart(Cause::PreStop),
            Input::Readiness(ready) => {
                self.app.ready = ready;
                if let Some(restart) = &mut self.restart {
                    restart.readiness(ready);
                }
            }
            Input::Signal(signal) => {
                self.signals = self.signals.saturating_add(1);
                self.depart(signal.cause());
            }
            Input::Undrain => self.manual = false,
            Input::Upstream(reach) => {
                self.app.tried(reach);
                if let Some(restart) = &mut self.restart {
                    restart.tried(reach);
                }
            }
            Input::UserHook(errand) => {
                self.errands = match errand {
                    Errand::Done => self.errands.saturating_sub(1),
                    Errand::Due => self.errands.saturating_add(1),
                };
                if let Some(restart) = self.restart.as_mut().filter(|_| errand == Errand::Done) {
                    restart.errand_done(self.now);
                }
            }
        }
        self.restart = self.restart.filter(|restart| !restart.is_over(&self.app));
        self.settle();
    }

    /// Draws what follows from the time and from what is known.
    pub fn handle_timeout(&mut self, now: Uptime) {
        self.now = self.now.max(now);
        if let Some(restart) = self.restart.take() {
            self.restart =
                restart.advance(self.now, &self.budget, &self.load, &self.app, self.errands);
        }
        self.settle();
        if let Phase::Draining(departure) = self.phase
            && let Some(proof) = self.proof(departure)
        {
            self.phase = Phase::Drained(Departed { departure, at: self.now, proof });
        }
    }

    /// When to call [`Machine::handle_timeout`] and [`Machine::exit`] next if nothing happens before. Always
    /// later than the time of the last call of [`Machine::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Uptime> {
        let next = match self.phase {
            Phase::Starting | Phase::Serving | Phase::Shedding(_) => {
                [self.restart.map(|restart| restart.poll_timeout(&self.budget)), None]
            }
            Phase::Draining(departure) => [Some(departure.deadline), self.idle_at(departure)],
            Phase::Drained(departed) => {
                let leaving = self.signals > 0;
                let ready = leaving && self.errands == 0;
                [
                    leaving.then(|| self.budget.hard_stop(departed.departure.since)),
                    ready.then(|| self.leaves_at(departed)),
                ]
            }
        };
        next.into_iter().flatten().filter(|at| *at > self.now).min()
    }

    /// Whether the process may end at `now`.
    ///
    /// Without a signal it never may: a native sidecar that ends by itself is started again by kubelet.
    #[must_use]
    pub fn exit(&self, now: Uptime) -> Exit {
        match self.signals {
            0 => return Exit::Stay,
            1 => {}
            _ => return Exit::Abort,
        }
        if let Phase::Drained(departed) = self.phase
            && self.errands == 0
            && now >= self.leaves_at(departed)
        {
            return Exit::Leave;
        }
        match self.phase.departure() {
            Some(departure) if now >= self.budget.hard_stop(departure.since) => Exit::HardStop,
            Some(_) | None => Exit::Stay,
        }
    }

    fn depart(&mut self, cause: Cause) {
        if self.phase.is_leaving() {
            return;
        }
        let departure =
            Departure { cause, since: self.now, deadline: self.budget.deadline(self.now) };
        self.phase = Phase::Draining(departure);
        // From here on the app's hook is held until `Drained`, whatever it meant so far.
        self.restart = None;
        self.app.reach = None;
        self.app.refusals = 0;
    }

    /// Moves between the phases that can be left again.
    fn settle(&mut self) {
        let reasons = self.reasons();
        let since = match self.phase {
            Phase::Draining(_) | Phase::Drained(_) => return,
            // A failing probe is no news before the app was up once.
            Phase::Starting if reasons.without(ShedReason::AppNotReady).is_empty() => {
                if self.app.is_up() {
                    self.phase = Phase::Serving;
                }
                return;
            }
            Phase::Starting | Phase::Serving => self.now,
            Phase::Shedding(shed) => shed.since,
        };
        self.phase = if reasons.is_empty() {
            Phase::Serving
        } else {
            let hook = self.restart.map_or(HookAnswer::Hold, |restart| restart.answer());
            Phase::Shedding(Shed { reasons, since, hook })
        };
    }

    fn reasons(&self) -> Reasons {
        let restarts = self.restart.is_some_and(|restart| restart.sheds());
        [
            (ShedReason::AppNotReady, !self.app.is_up()),
            (ShedReason::ContainerRestart, restarts),
            (ShedReason::Manual, self.manual),
        ]
        .into_iter()
        .filter(|(_, present)| *present)
        .fold(Reasons::NONE, |reasons, (reason, _)| reasons.with(reason))
    }

    /// What ends the drain now, if anything does.
    fn proof(&self, departure: Departure) -> Option<Proof> {
        let idle = self.load.in_flight == 0;
        if idle && self.app.refusals >= GONE_AFTER {
            Some(Proof::AppGone)
        } else if self.idle_at(departure).is_some_and(|at| self.now >= at) {
            Some(Proof::Idle)
        } else if self.now >= departure.deadline {
            Some(Proof::Deadline)
        } else {
            None
        }
    }

    /// When silence will have proven that nobody comes any more, as far as is known.
    fn idle_at(&self, departure: Departure) -> Option<Uptime> {
        let quiet = self.load.last_arrival + self.budget.drain_quiet();
        (self.load.in_flight == 0).then(|| quiet.max(departure.since + self.budget.drain_min()))
    }

    /// When a process that was told to end may do so: nobody needs it, and late guests have been served.
    fn leaves_at(&self, departed: Departed) -> Uptime {
        let needless = match self.app.reach {
            Some(Reach::Refused) => Uptime::ZERO,
            Some(Reach::Accepted) | None => self.load.last_proxied + self.budget.drain_quiet(),
        };
        // A request that came after an early end of the drain is served like any other, within the budget.
        let served =
            if self.load.in_flight == 0 { Uptime::ZERO } else { departed.departure.deadline };
        needless.max(served)
    }
}

// === impl Signal ===

impl Signal {
    /// The cause that a drain begun by this signal carries.
    #[must_use]
    pub const fn cause(self) -> Cause {
        match self {
            Self::Int => Cause::Sigint,
            Self::Term => Cause::Sigterm,
        }
    }
}
