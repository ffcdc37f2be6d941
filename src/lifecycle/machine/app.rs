//! Pure. What the machine knows of the app.

use super::{Entry, Reach};

/// What is known of the app.
#[derive(Clone, Copy, Debug)]
pub(super) struct App {
    /// Whether it has a readiness probe.
    pub(super) probed: bool,
    /// Whether it has ever accepted a connection, or need not.
    pub(super) accepted: bool,
    pub(super) ready: bool,
    /// The last try to connect; forgotten when a drain begins.
    pub(super) reach: Option<Reach>,
    /// Refusals in a row; forgotten when a drain begins.
    pub(super) refusals: u32,
}

// === impl App ===

impl App {
    /// An app that nothing is known of, except that `entry` may ask for less.
    pub(super) const fn new(entry: Entry) -> Self {
        let probed = matches!(entry, Entry::Ready);
        Self {
            probed,
            accepted: matches!(entry, Entry::Anyhow),
            ready: !probed,
            reach: None,
            refusals: 0,
        }
    }

    /// Whether traffic can be served: it accepted once, and its last word is that it is ready.
    pub(super) const fn is_up(&self) -> bool {
        self.accepted && self.ready
    }

    pub(super) const fn tried(&mut self, reach: Reach) {
        self.reach = Some(reach);
        match reach {
            Reach::Accepted => {
                self.accepted = true;
                self.refusals = 0;
            }
            Reach::Refused => self.refusals = self.refusals.saturating_add(1),
        }
    }
}
