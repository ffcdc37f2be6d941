//! SIGTERM and SIGINT, caught from the first moment.
//!
//! As process 1 of a container a signal without a handler is ignored by the kernel, so a SIGTERM that comes
//! before the handlers are there would be lost: [`install`] is the first thing `main` does, before the
//! configuration is read. What comes before [`Signals::forward`] is kept and delivered by it. The kernel merges
//! signals of one kind that come before the first is taken, so a second one counts when the first was seen.
//!
//! SIGHUP is left alone: there is nothing to read again (certificates are reloaded when their files change),
//! and a terminal that is closed ends the process as any other. SIGPIPE is ignored by Rust's runtime.

use std::{io, thread};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Handle,
};

use crate::lifecycle::{
    driver::Trigger,
    machine::{Input, Signal},
};

/// Signals that are being collected.
#[derive(Debug)]
pub struct Signals {
    inner: signal_hook::iterator::Signals,
}

/// The thread that hands signals on; dropping it ends it. The signals stay caught.
#[derive(Debug)]
pub struct Forwarding {
    handle: Handle,
    thread: Option<thread::JoinHandle<()>>,
}

/// Begins to collect SIGTERM and SIGINT.
///
/// # Errors
/// If the handlers can't be installed.
pub fn install() -> io::Result<Signals> {
    Ok(Signals { inner: signal_hook::iterator::Signals::new([SIGINT, SIGTERM])? })
}

// === impl Signals ===

impl Signals {
    /// Hands every signal on to the machine, also those that have come already.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn forward(self, trigger: Trigger) -> io::Result<Forwarding> {
        self.deliver(move |signal| trigger.send(Input::Signal(signal)))
    }

    /// Tells `to` every signal, also those that have come already.
    ///
    /// A thread of its own, because signals must get through whatever the runtimes are doing.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn deliver(mut self, to: impl Fn(Signal) + Send + 'static) -> io::Result<Forwarding> {
        let handle = self.inner.handle();
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for number in self.inner.forever() {
                let signal = if number == SIGINT { Signal::Int } else { Signal::Term };
                tracing::info!(event = "signal", signal = signal.cause().name(), "signal");
                to(signal);
            }
        })?;
        Ok(Forwarding { handle, thread: Some(thread) })
    }
}

// === impl Forwarding ===

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It can only have failed by a panic, which its own hook has reported.
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::low_level::raise;

    use super::*;
    use crate::lifecycle::driver;

    #[test]
    fn a_signal_before_forwarding_is_not_lost_and_later_ones_follow() {
        let signals = install().unwrap();
        raise(SIGTERM).unwrap();
        let (trigger, mut sent) = driver::test_trigger();
        let forwarding = signals.forward(trigger).unwrap();
        assert_eq!(sent.blocking_recv(), Some(Input::Signal(Signal::Term)));
        raise(SIGTERM).unwrap();
        assert_eq!(sent.blocking_recv(), Some(Input::Signal(Signal::Term)));
        raise(SIGINT).unwrap();
        assert_eq!(sent.blocking_recv(), Some(Input::Signal(Signal::Int)));
        drop(forwarding);
        assert_eq!(sent.blocking_recv(), None, "the thread has ended");
    }
}
