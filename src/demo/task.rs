//! A task that ends with its owner.

use tokio::task::JoinHandle;

/// A running task. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

// === impl Task ===

impl Task {
    /// Starts `future`.
    pub(super) fn start(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Whether it has ended by itself.
    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
