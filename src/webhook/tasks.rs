//! The injector's tasks, by name. Each runs until the process leaves: one that ends before is a defect of ours, and must
//! not go unnoticed, because a webhook that nobody looks after is refused some weeks later.
//!
//! Not here: what the tasks do, and how the process leaves ([`super::run`]).

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// The tasks that run. Dropping it ends them.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
    /// The first that ended though it should not have.
    lost: Option<&'static str>,
}

// === impl Tasks ===

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.running.spawn(work).id();
        self.names.insert(id, name);
    }

    /// The first that was lost.
    pub(super) const fn lost(&self) -> Option<&'static str> {
        self.lost
    }

    /// Waits until one ends though nobody has told it to.
    pub(super) async fn lose_one(&mut self) {
        let (name, panic) = self.next().await;
        if panic.is_none() {
            self.lose(name, "it returned");
        }
    }

    /// Waits until the task `name`, which was told to, has ended.
    pub(super) async fn until_ended(&mut self, name: &'static str) {
        while self.names.values().any(|running| *running == name) {
            self.next().await;
        }
    }

    /// The next that ends, and what it panicked with if it did. Never comes back if none is left.
    async fn next(&mut self) -> (&'static str, Option<String>) {
        let Some(ended) = self.running.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, panic) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let name = self.names.remove(&id).unwrap_or("a task without a name");
        if let Some(panic) = &panic {
            self.lose(name, panic);
        }
        (name, panic)
    }

    fn lose(&mut self, name: &'static str, why: &str) {
        self.lost.get_or_insert(name);
        tracing::error!(
            event = "task_ended",
            task = name,
            why,
            "an internal error: what should run as long as the process has ended"
        );
    }
}
