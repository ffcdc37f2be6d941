//! What kubelet does to a pod that is deleted, in its order: `preStop` hooks first, all at once, then SIGTERM.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Response, TestPod, app::thread, now};

/// Deletes pods.
#[derive(Clone, Copy, Debug)]
pub struct FakeKubelet;

/// A hook that was called and may be held.
pub struct Hook {
    called: Instant,
    answer: JoinHandle<(Option<Response>, Instant)>,
}

// === impl FakeKubelet ===

impl FakeKubelet {
    /// Calls `GET path` as kubelet calls a hook: the answer may take as long as it likes.
    pub fn hook(pod: &Arc<TestPod>, path: &str) -> Hook {
        let (pod, path) = (Arc::clone(pod), path.to_owned());
        let called = now();
        let answer = thread("hook", move || {
            let answer = pod.try_admin("GET", &path, "User-Agent: kube-lifecycle/1.33\r\n");
            (answer, now())
        });
        Hook { called, answer }
    }

    /// Deletes a pod whose sidecar is native: both hooks at once; the app's SIGTERM when its hook is answered;
    /// the sidecar's SIGTERM when the app is gone. Returns the exit code.
    pub fn delete_native(pod: &Arc<TestPod>, stop_app: impl FnOnce()) -> i32 {
        let app_hook = Self::hook(pod, "/prestop/container/app");
        let pod_hook = Self::hook(pod, "/prestop/pod");
        pod_hook.answered().expect(200);
        app_hook.answered().expect(200);
        stop_app();
        pod.terminate();
        pod.wait_for_exit()
    }

    /// Deletes a pod whose sidecar is an ordinary container: the app's hook and the sidecar's SIGTERM at once;
    /// the app's SIGTERM when its hook is answered. Returns the exit code.
    pub fn delete_ordinary(pod: &Arc<TestPod>, stop_app: impl FnOnce()) -> i32 {
        let app_hook = Self::hook(pod, "/prestop/container/app");
        pod.terminate();
        app_hook.answered().expect(200);
        stop_app();
        pod.wait_for_exit()
    }
}

// === impl Hook ===

impl Hook {
    /// Whether the hook is still held.
    pub fn is_held(&self) -> bool {
        !self.answer.is_finished()
    }

    /// Waits for the hook's answer.
    pub fn answered(self) -> Response {
        self.answered_after().0
    }

    /// Waits for the hook's answer: it, and how long it took.
    pub fn answered_after(self) -> (Response, Duration) {
        let (answer, at) = self.answer.join().unwrap();
        (answer.expect("must be answered before the process ends"), at - self.called)
    }
}
