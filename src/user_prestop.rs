//! The containers' own preStop hooks, in whose place ours is called: `LAMEDUCK_USER_PRESTOP`.
//!
//! Each is performed as kubelet would have performed it (`pkg/kubelet/lifecycle/handlers.go` of Kubernetes): its status
//! does not matter, it has no timeout, and its certificate is not checked. Kubelet may call our hook twice, so calls that
//! overlap share one performance. From the first of them until the last is answered the machine knows of an errand.
//!
//! Not here: when a hook is performed; whoever holds ours knows.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use http::{HeaderValue, header};

use crate::{
    config::{HttpGet, UserPrestop},
    lifecycle::{
        driver::Trigger,
        machine::{Errand, Input},
    },
    readiness::http::{AskError, get},
};

/// The hooks of all containers that have one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UserHooks {
    hooks: Arc<[Slot]>,
    trigger: Trigger,
}

/// One container's hook, and its performance that somebody waits for.
#[derive(Debug)]
struct Slot {
    hook: UserPrestop,
    running: Mutex<Option<WeakShared<BoxFuture<'static, ()>>>>,
}

/// A hook that has to be performed before ours is answered. The process does not leave while it lives.
#[derive(Debug)]
#[must_use = "the hook is due as long as this lives"]
pub struct DueHook {
    running: Shared<BoxFuture<'static, ()>>,
    trigger: Trigger,
}

// === impl UserHooks ===

impl UserHooks {
    /// The hooks of `hooks`, known to the machine through `trigger`.
    #[must_use]
    pub fn new(hooks: &[UserPrestop], trigger: Trigger) -> Self {
        let slot = |hook: &UserPrestop| Slot { hook: hook.clone(), running: Mutex::new(None) };
        Self { hooks: hooks.iter().map(slot).collect(), trigger }
    }

    /// The hook of `container`, if it has one, to be performed in the name of `user_agent`: kubelet's.
    pub fn due(&self, container: &str, user_agent: Option<&HeaderValue>) -> Option<DueHook> {
        let slot = self.hooks.iter().find(|slot| slot.hook.container == container)?;
        self.trigger.send(Input::UserHook(Errand::Due));
        Some(DueHook { running: slot.join(user_agent), trigger: self.trigger.clone() })
    }
}

// === impl Slot ===

impl Slot {
    /// The performance that others wait for already, or a new one.
    fn join(&self, user_agent: Option<&HeaderValue>) -> Shared<BoxFuture<'static, ()>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = running.as_ref().and_then(WeakShared::upgrade) {
            return shared;
        }
        let UserPrestop { container, action } = self.hook.clone();
        let shared = perform(container, action, user_agent.cloned()).boxed().shared();
        *running = shared.downgrade();
        shared
    }
}

// === impl DueHook ===

impl DueHook {
    /// Performs the hook, or waits until it has been performed for another call that came meanwhile. When every
    /// call is gone, the connection to the app is closed, as it would have been without us.
    pub async fn perform(&self) {
        self.running.clone().await;
    }
}

impl Drop for DueHook {
    fn drop(&mut self) {
        self.trigger.send(Input::UserHook(Errand::Done));
    }
}

// === helpers ===

async fn perform(container: String, action: HttpGet, user_agent: Option<HeaderValue>) {
    tracing::info!(
        event = "user_prestop", %container, ask = %action, "a container's own preStop hook begins"
    );
    let action = with_gzip(action);
    let mut answer = get(&action, user_agent.as_ref()).await;
    if answer.as_ref().is_err_and(AskError::is_plain_http) {
        tracing::warn!(
            event = "user_prestop", %container,
            "a container's own preStop hook asks for HTTPS where there is HTTP: asking again without"
        );
        answer = get(&without_tls(action), user_agent.as_ref()).await;
    }
    match answer {
        Ok((status, _)) => {
            let status = status.as_u16();
            tracing::info!(
                event = "user_prestop", %container, status, "a container's own preStop hook is over"
            );
        }
        // Kubelet would tell of it in an event, and stop the container all the same.
        Err(error) => tracing::warn!(
            event = "user_prestop", %container, %error, "a container's own preStop hook failed"
        ),
    }
}

/// Hooks are asked with Go's default transport, which accepts gzip; probes are not.
fn with_gzip(mut action: HttpGet) -> HttpGet {
    let is_chosen = |name: &http::HeaderName| *name == header::ACCEPT_ENCODING;
    if !action.headers.iter().any(|(name, _)| is_chosen(name)) {
        action.headers.push((header::ACCEPT_ENCODING, HeaderValue::from_static("gzip")));
    }
    action
}

/// Kubelet asks again without TLS, and keeps credentials to itself then.
fn without_tls(mut action: HttpGet) -> HttpGet {
    action.https = false;
    action.headers.retain(|(name, _)| *name != header::AUTHORIZATION);
    action
}

#[cfg(test)]
mod tests;
