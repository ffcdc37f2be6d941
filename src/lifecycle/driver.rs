//! The task that owns the machine, and the two ends that everybody else holds: [`Trigger`] to tell it
//! something, [`Watch`] to read the phase.

use tokio::sync::{mpsc, oneshot, watch};

use crate::lifecycle::{Phase, machine::Input};

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

    /// Whether the phase has changed since [`Watch::update`] was last called on this handle: one atomic load.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.phase.has_changed().unwrap_or(false)
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

/// Both ends without a driver: the test publishes phases and sees the inputs itself.
#[cfg(test)]
pub(crate) fn for_tests(
    phase: Phase,
) -> (watch::Sender<Phase>, Watch, Trigger, mpsc::UnboundedReceiver<Told>) {
    let (publish, phase) = watch::channel(phase);
    let (inputs, told) = mpsc::unbounded_channel();
    (publish, Watch { phase }, Trigger { inputs }, told)
}
