//! One alarm per connection: it rings when the connection's deadline has passed or the phase has changed.
//!
//! A timer per request would cost more than the request's own bookkeeping. So a connection that waits notes its
//! deadline in a cell, and the worker's pulse looks at all cells every few milliseconds and wakes whose time has
//! come. Whoever is woken asks the clock and the phase what to do; the alarm itself carries no message.
//!
//! Deadlines are met one pulse late at the most; [`Alarms::pulse_interval`] makes that a twentieth of the shortest limit.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use slab::Slab;
use tokio::sync::Notify;

use crate::units::Uptime;

/// The alarms of one worker.
#[derive(Debug)]
pub(super) struct Alarms {
    cells: RefCell<Slab<Rc<AlarmCell>>>,
    first: Notify,
}

/// One connection's alarm; leaving the scope takes it off the worker's list.
#[derive(Debug)]
pub(super) struct Alarm {
    alarms: Rc<Alarms>,
    key: usize,
    cell: Rc<AlarmCell>,
}

#[derive(Debug)]
struct AlarmCell {
    deadline: Cell<Uptime>,
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

// === impl Alarms ===

impl Alarms {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { cells: RefCell::new(Slab::new()), first: Notify::new() })
    }

    /// A new alarm, silent until it is set.
    pub(super) fn add(self: &Rc<Self>) -> Alarm {
        let cell = Rc::new(AlarmCell {
            deadline: Cell::new(Uptime::NEVER),
            rung: Cell::new(true), // the first look at the alarm weighs the situation
            waker: RefCell::new(None),
        });
        let key = self.cells.borrow_mut().insert(Rc::clone(&cell));
        self.first.notify_one();
        Alarm { alarms: Rc::clone(self), key, cell }
    }

    /// Waits until there is an alarm at all, so that an idle process does not wake up.
    pub(super) async fn any(&self) {
        while self.cells.borrow().is_empty() {
            self.first.notified().await;
        }
    }

    /// Rings where the deadline has passed.
    pub(super) fn ring_due(&self, now: Uptime) {
        for (_, cell) in self.cells.borrow().iter() {
            if cell.deadline.get() <= now {
                cell.ring();
            }
        }
    }

    /// Rings everywhere: the phase has changed.
    pub(super) fn ring_all(&self) {
        for (_, cell) in self.cells.borrow().iter() {
            cell.ring();
        }
    }

    /// How often to look, if `shortest` is the shortest limit: a twentieth of it, so that limits hold within 5 %,
    /// between 5 ms (a process full of connections stays below a percent of a core) and 100 ms.
    pub(super) fn pulse_interval(shortest: Duration) -> Duration {
        (shortest / 20).clamp(Duration::from_millis(5), Duration::from_millis(100))
    }
}

// === impl Alarm ===

impl Alarm {
    /// Wakes the task of `cx` when `deadline` has passed or the phase changes.
    pub(super) fn set(&self, cx: &Context<'_>, deadline: Uptime) {
        self.cell.deadline.set(deadline);
        let mut waker = self.cell.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether the situation has to be weighed: the alarm rang, or [`Alarm::arm`] was called.
    pub(super) fn take_rung(&self) -> bool {
        self.cell.rung.replace(false)
    }

    /// Makes the next look weigh the situation: a new wait begins.
    pub(super) fn arm(&self) {
        self.cell.rung.set(true);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // The list may be borrowed only while ringing, and ringing drops nothing.
        self.alarms.cells.borrow_mut().remove(self.key);
    }
}

// === impl AlarmCell ===

impl AlarmCell {
    fn ring(&self) {
        // Once per deadline: whoever is woken sets a new one.
        self.deadline.set(Uptime::NEVER);
        self.rung.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
