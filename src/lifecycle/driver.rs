//! The task that owns the machine, and the two ends that everybody else holds: [`Trigger`] to tell it
//! something, [`Watch`] to read the phase.
//!
//! The driver decides nothing. It feeds inputs, load and time into the machine, publishes the phase when it
//! has changed, and keeps the journal from which [`Reports`] makes the drain report.

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::Clock,
    lifecycle::{
        HookAnswer, Phase, Proof, ShedReason,
        machine::{Exit, Input, Machine},
        report::{Journal, Report},
    },
    tracker::Tracker,
    units::Uptime,
};

/// How often the load is looked at again while the machine waits for it to end. The end of the last request is
/// an event, but a worker that has not seen the new phase yet does not send it, and none is sent while a
/// container restarts: this bounds what that costs.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A driver that has not run yet, and the two ends that everybody else holds. The clock's start is the machine's.
#[must_use]
pub fn new(machine: Machine, clock: Clock, tracker: Tracker) -> (Trigger, Watch, Driver) {
    let (sender, inputs) = mpsc::unbounded_channel();
    let (phase, seen) = watch::channel(machine.phase());
    let mut journal = Journal::default();
    journal.entered(&machine.phase(), clock.now(), &tracker.counts());
    let reports = Reports { journal: Arc::new(Mutex::new(journal)), tracker: tracker.clone() };
    let driver = Driver { machine, clock, tracker, inputs, phase, reports };
    (Trigger { inputs: sender }, Watch { phase: seen }, driver)
}

/// Runs the machine.
#[derive(Debug)]
pub struct Driver {
    machine: Machine,
    clock: Clock,
    tracker: Tracker,
    inputs: mpsc::UnboundedReceiver<Told>,
    phase: watch::Sender<Phase>,
    reports: Reports,
}

/// How the driver ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why the process may end; never [`Exit::Stay`].
    pub exit: Exit,
    /// The drain report at that moment. Workers may still cut things: the last word is
    /// [`Reports::last`] after they have ended.
    pub report: Option<Report>,
}

/// The read handle of the drain report. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reports {
    journal: Arc<Mutex<Journal>>,
    tracker: Tracker,
}

/// The write end: tells the machine what happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trigger {
    inputs: mpsc::UnboundedSender<Told>,
}

/// An input on its way to the machine.
#[derive(Debug)]
pub(crate) struct Told {
    /// What happened.
    pub(crate) input: Input,
    /// Who waits for the phase that follows from it. Answered after that phase has been published.
    pub(crate) then: Option<oneshot::Sender<Phase>>,
}

/// The read end: the phase. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch {
    phase: watch::Receiver<Phase>,
}

// === impl Trigger ===

impl Trigger {
    /// Tells the machine. Never blocks; after the driver has ended there is nobody to tell, which is no error.
    pub fn send(&self, input: Input) {
        let _ended = self.inputs.send(Told { input, then: None });
    }

    /// Tells the machine and waits until it has taken the input in: the phase that follows, which the
    /// [`Watch`] shows by then too. `None` after the driver has ended.
    pub async fn tell(&self, input: Input) -> Option<Phase> {
        let (then, phase) = oneshot::channel();
        self.inputs.send(Told { input, then: Some(then) }).ok()?;
        phase.await.ok()
    }
}

// === impl Watch ===

impl Watch {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the phase may have changed since [`Watch::update`] was last called on this handle: one atomic load.
    /// Once the driver has ended the answer is always yes, because its last phase may not have been seen yet.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.phase.has_changed().unwrap_or(true)
    }

    /// The phase now; [`Watch::changed`] waits for the next one.
    pub fn update(&mut self) -> Phase {
        *self.phase.borrow_and_update()
    }

    /// Waits until the phase differs from the one seen last; never returns once the driver has ended.
    pub async fn changed(&mut self) -> Phase {
        match self.phase.changed().await {
            Ok(()) => *self.phase.borrow_and_update(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until `until` is true of the phase.
    pub async fn wait_for(&mut self, mut until: impl FnMut(&Phase) -> bool) -> Phase {
        loop {
            let phase = self.update();
            if until(&phase) {
                return phase;
            }
            self.changed().await;
        }
    }
}

// === impl Driver ===

impl Driver {
    /// The handle that gives the drain report, also after the driver has ended.
    #[must_use]
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// Runs until the process may end.
    pub async fn run(mut self) -> Outcome {
        let mut told = None;
        loop {
            let now = self.clock.now();
            self.turn(now, told.take());
            match self.machine.exit(now) {
                Exit::Stay => {}
                exit @ (Exit::Abort | Exit::HardStop | Exit::Leave) => {
                    self.reports.journal().left(exit, now);
                    return Outcome { exit, report: self.reports.last() };
                }
            }
            let wake = self.clock.instant(self.wake(now));
            tokio::select! {
                Some(came) = self.inputs.recv() => told = Some(came),
                () = self.tracker.idle() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// One turn of the machine. Each phase it passes through is published and noted, also one that lasts no time.
    fn turn(&mut self, now: Uptime, told: Option<Told>) {
        // What is known of traffic must never be older than what is concluded from it.
        self.machine.handle(now, Input::Load(self.tracker.load()));
        let mut then = None;
        if let Some(told) = told {
            self.machine.handle(now, told.input);
            self.publish(now);
            then = told.then;
        }
        self.machine.handle_timeout(now);
        self.publish(now);
        if let Some(then) = then {
            // Whoever asked may have gone meanwhile; what it told stays told.
            let _gone = then.send(self.machine.phase());
        }
    }

    fn publish(&self, now: Uptime) {
        let (from, to) = (*self.phase.borrow(), self.machine.phase());
        if from == to {
            return;
        }
        // Another answer to the app's hook is no news of the phase: who asked for it logs it.
        let news = from.name() != to.name() || from.reasons() != to.reasons();
        if news {
            // Counted and noted before anybody can act on the phase: what they do is part of it, and who waits
            // for the end of the drain finds the report.
            self.reports.journal().entered(&to, now, &self.tracker.counts());
        }
        self.phase.send_replace(to);
        if news {
            let reasons = to.reasons();
            tracing::info!(
                event = "phase",
                from = from.name(),
                to = to.name(),
                // Left out where the phase needs none.
                reason = (!reasons.is_empty()).then(|| reasons.join(",")),
                in_flight = self.machine.load().in_flight,
                "{}",
                sentence(&to)
            );
        }
    }

    fn wake(&self, now: Uptime) -> Uptime {
        let timeout = self.machine.poll_timeout().unwrap_or(Uptime::NEVER);
        if waits_for_load(&self.machine.phase()) { timeout.min(now + LOOK_AGAIN) } else { timeout }
    }
}

// === impl Reports ===

impl Reports {
    /// The drain report with the counts of now: `None` until a drain has ended or the driver has.
    #[must_use]
    pub fn last(&self) -> Option<Report> {
        self.journal().report(&self.tracker.counts())
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        // A journal is whole after each of its methods, also if somebody panicked holding it.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === helpers ===

fn waits_for_load(phase: &Phase) -> bool {
    match phase {
        Phase::Starting | Phase::Serving => false,
        Phase::Shedding(shed) => {
            shed.reasons.contains(ShedReason::ContainerRestart) && shed.hook == HookAnswer::Hold
        }
        Phase::Draining(_) | Phase::Drained(_) => true,
    }
}

/// The phase in one sentence, for people who read the log.
fn sentence(phase: &Phase) -> String {
    match phase {
        Phase::Starting => "waiting for the app".to_owned(),
        Phase::Serving => "the app takes traffic".to_owned(),
        Phase::Shedding(_) => "new traffic is asked to go elsewhere".to_owned(),
        Phase::Draining(departure) => {
            format!("the pod goes away; at most {:?} to drain", departure.budget())
        }
        Phase::Drained(departed) => match departed.proof {
            Proof::AppGone => "drained: the app does not accept connections".to_owned(),
            Proof::Deadline => "the drain's budget is spent".to_owned(),
            Proof::Idle => "drained: nothing in flight and nobody comes".to_owned(),
        },
    }
}

/// A trigger and what it sends, for tests of those who hold one.
#[cfg(test)]
pub(crate) fn test_trigger() -> (Trigger, Sent) {
    let (inputs, told) = mpsc::unbounded_channel();
    (Trigger { inputs }, Sent { told })
}

/// What a test's trigger sends.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Sent {
    told: mpsc::UnboundedReceiver<Told>,
}

#[cfg(test)]
#[allow(dead_code, reason = "each test takes what it needs")]
impl Sent {
    /// The next input and who waits for what follows from it.
    pub(crate) async fn told(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// The next input.
    pub(crate) async fn recv(&mut self) -> Option<Input> {
        self.told().await.map(|told| told.input)
    }

    /// The next input, for tests without a runtime.
    pub(crate) fn blocking_recv(&mut self) -> Option<Input> {
        self.told.blocking_recv().map(|told| told.input)
    }

    /// The next input, if it is there already.
    pub(crate) fn try_recv(&mut self) -> Result<Input, mpsc::error::TryRecvError> {
        self.told.try_recv().map(|told| told.input)
    }
}

/// A watch and the hand that sets its phase, for tests of those who hold one.
#[cfg(test)]
pub(crate) fn test_watch(phase: Phase) -> (watch::Sender<Phase>, Watch) {
    let (set, phase) = watch::channel(phase);
    (set, Watch { phase })
}
