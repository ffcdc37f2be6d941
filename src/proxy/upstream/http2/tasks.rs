//! What goes on at a worker's connections over HTTP/2 besides the requests' own tasks; it ends with the worker.

use std::cell::RefCell;

use tokio::task::JoinSet;

/// Tasks that nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Tasks(RefCell<JoinSet<()>>);

// === impl Tasks ===

impl Tasks {
    /// Starts one, and puts away those that have ended.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.borrow_mut();
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "the driver of a connection to the app has failed");
            }
        }
        tasks.spawn_local(task);
    }
}
