//! One alarm per connection: it rings when the connection's deadline has passed or the phase has changed.
//!
//! A timer per request would cost more than the request's own bookkeeping. So a connection that waits notes its
//! deadline in a cell, and the worker's pulse sleeps until the earliest of them, then looks at all cells and wakes
//! whose time has come. Whoever is woken asks the clock and the phase what to do; the alarm itself carries no message.
//!
//! The pulse beats no faster than [`Alarms::pulse_interval`], so deadlines are met a twentieth of the shortest limit
//! late at the most; a worker with nothing to wait for does not wake up at all.

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
    /// When the pulse looks next.
    look_at: Cell<Uptime>,
    sooner: Notify,
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
        let look_at = Cell::new(Uptime::NEVER);
        Rc::new(Self { cells: RefCell::new(Slab::new()), look_at, sooner: Notify::new() })
    }

    /// A new alarm, silent until it is set.
    pub(super) fn add(self: &Rc<Self>) -> Alarm {
        let cell = Rc::new(AlarmCell {
            deadline: Cell::new(Uptime::NEVER),
            rung: Cell::new(true), // the first look at the alarm weighs the situation
            waker: RefCell::new(None),
        });
        let key = self.cells.borrow_mut().insert(Rc::clone(&cell));
        Alarm { alarms: Rc::clone(self), key, cell }
    }

    /// When the pulse has to look next.
    pub(super) fn look_at(&self) -> Uptime {
        self.look_at.get()
    }

    /// Waits until the pulse has to look sooner than it was told before.
    pub(super) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Makes the pulse look at `at`, or sooner.
    pub(super) fn expect(&self, at: Uptime) {
        if at < self.look_at.get() {
            self.look_at.set(at);
            self.sooner.notify_one();
        }
    }

    /// Rings where the deadline has passed, and notes the earliest of the others.
    pub(super) fn ring_due(&self, now: Uptime) {
        let mut earliest = Uptime::NEVER;
        for (_, cell) in self.cells.borrow().iter() {
            let deadline = cell.deadline.get();
            if deadline <= now {
                cell.ring();
            } else {
                earliest = earliest.min(deadline);
            }
        }
        self.look_at.set(earliest);
    }

    /// Rings everywhere: the phase has changed.
    pub(super) fn ring_all(&self) {
        for (_, cell) in self.cells.borrow().iter() {
            cell.ring();
        }
    }

    /// How often to look at most, if `shortest` is the shortest limit: a twentieth of it, so that limits hold within
    /// 5 %, between 5 ms (a process full of connections stays below a few percent of a core) and 100 ms.
    pub(super) fn pulse_interval(shortest: Duration) -> Duration {
        (shortest / 20).clamp(Duration::from_millis(5), Duration::from_millis(100))
    }
}

// === impl Alarm ===

impl Alarm {
    /// Wakes the task of `cx` when `deadline` has passed or the phase changes.
    pub(super) fn set(&self, cx: &Context<'_>, deadline: Uptime) {
        self.cell.deadline.set(deadline);
        self.alarms.expect(deadline);
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
