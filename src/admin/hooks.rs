//! What changes something: `/prestop/pod`, `/prestop/container/{name}`, `/drain`, `/undrain`.
//!
//! A hook that is refused changes nothing. Who is obeyed is decided in one place, [`verdict`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Relaxed},
    },
    time::Duration,
};

use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode, header};
use subtle::ConstantTimeEq as _;

use super::{Context, Peer, Shared};
use crate::{
    config::{AppContainers, Secret},
    lifecycle::{ALONE_AFTER, HookAnswer, Phase, driver::Watch, machine::Input},
    user_prestop::DueHook,
};

/// Where callers from elsewhere than 127.0.0.1 and ::1 present the token.
pub(super) const TOKEN_HEADER: &str = "lameduck-token";

/// At most one line a minute about refusals: whoever floods the hooks must not flood the log too.
const REFUSAL_LOG_INTERVAL_MS: u64 = 60_000;

/// A thing that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// By kubelet, from the node.
    Kubelet(&'static str),
    /// By a person or a tool.
    Operator(&'static str),
}

/// Why a hook is not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A web page in somebody's browser made the request.
    Browser,
    /// The caller is elsewhere and there is no token that could admit it.
    NotLoopback,
    /// The caller is elsewhere and its token is missing or wrong.
    Token,
}

/// Whose hook a container's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The app: without it the pod can't serve.
    App,
    /// Another container: the pod serves on while it is restarted.
    Helper,
}

/// Counts a held hook until it is answered or its caller is gone.
struct Waiting<'a>(&'a Shared);

/// `GET /prestop/pod`: the pod goes away.
pub(super) async fn pod(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match shared.admit(Ask::Kubelet("/prestop/pod"), peer, &method, &headers) {
        Ok(()) => shared.apply(Input::PodHook).await,
        Err(refused) => refused,
    }
}

/// `GET /prestop/container/{name}`: holds the container until the phase lets it go.
pub(super) async fn container(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = shared.admit(Ask::Kubelet("/prestop/container"), peer, &method, &headers)
    {
        return refused;
    }
    // The name comes from the path: nothing in it may end the line.
    let container = name.escape_debug();
    let owner = shared.owner(&name);
    tracing::info!(%container, peer = %peer.0, %owner, "a container's preStop hook is held");
    let own = shared.context.user_hooks.due(&name, headers.get(header::USER_AGENT));
    let response = shared.hold(owner, own.as_ref()).await;
    if own.is_some() && response.status() != StatusCode::OK {
        tracing::warn!(%container, "the container's own preStop hook is cut, or does not take place");
    }
    tracing::info!(%container, status = response.status().as_u16(), "a container's preStop hook is answered");
    response
}

/// `POST /drain`: shed by hand.
pub(super) async fn drain(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match shared.admit(Ask::Operator("/drain"), peer, &method, &headers) {
        Ok(()) => shared.apply(Input::Drain).await,
        Err(refused) => refused,
    }
}

/// `POST /undrain`: stop shedding by hand.
pub(super) async fn undrain(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match shared.admit(Ask::Operator("/undrain"), peer, &method, &headers) {
        Ok(()) => shared.apply(Input::Undrain).await,
        Err(refused) => refused,
    }
}

/// Who is obeyed: 127.0.0.1 and ::1 always ([`Peer::is_in_the_pod`]); others with the token; kubelet's hooks from
/// anywhere if there is no token, because kubelet comes from the node.
///
/// Never a web page: a browser on a machine with a forwarded port would be loopback here, and any page it
/// shows could make it send these requests. Browsers mark them, other clients do not.
pub(super) fn verdict(
    ask: Ask,
    peer: Peer,
    token: Option<&Secret>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let fetched = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    if fetched || headers.contains_key(header::ORIGIN) {
        return Err(Refusal::Browser);
    }
    if peer.is_in_the_pod() {
        return Ok(());
    }
    match (token, ask) {
        (None, Ask::Kubelet(_)) => Ok(()),
        (None, Ask::Operator(_)) => Err(Refusal::NotLoopback),
        (Some(token), _) => {
            let presented = headers.get(TOKEN_HEADER).map_or(&b""[..], |value| value.as_bytes());
            if presented.ct_eq(token.reveal().as_bytes()).into() {
                Ok(())
            } else {
                Err(Refusal::Token)
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Lets a hook through, or gives the answer that refuses it.
    #[allow(clippy::result_large_err, reason = "the error is the response, and it is built once")]
    fn admit(
        &self,
        ask: Ask,
        peer: Peer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<(), Response> {
        // The router takes HEAD for GET. A HEAD promises to change nothing, so hooks do not know it.
        if method == Method::HEAD {
            return Err((StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]).into_response());
        }
        match verdict(ask, peer, self.context.token.as_ref(), headers) {
            Ok(()) => {
                tracing::info!(hook = ask.path(), peer = %peer.0, "hook");
                Ok(())
            }
            Err(refusal) => {
                self.note_refusal(ask, peer, refusal);
                Err((StatusCode::FORBIDDEN, refusal.explain()).into_response())
            }
        }
    }

    /// Tells the machine, and answers with the phase that follows.
    async fn apply(&self, input: Input) -> Response {
        let phase = self.context.trigger.tell(input).await;
        told(&phase.unwrap_or_else(|| self.context.watch.phase()))
    }

    /// Whose the hook of the container `name` is.
    fn owner(&self, name: &str) -> Owner {
        let Context { app_containers, prober, .. } = &self.context;
        if !app_containers.contains(name) {
            return Owner::Helper;
        }
        let known = prober.containers().collect::<Vec<_>>();
        if *app_containers == AppContainers::All && !known.is_empty() && !known.contains(&name) {
            // Obeyed all the same: a pod may have containers without a probe. It may also be a slip of the pen.
            let (container, known) = (name.escape_debug(), known.join(", "));
            tracing::info!(%container, known, "LAMEDUCK_APP_PROBES has no container of this name");
        }
        Owner::App
    }

    /// Waits until the phase says release to `owner`'s hook, and has the container's `own` hook performed.
    async fn hold(&self, owner: Owner, own: Option<&DueHook>) -> Response {
        let _waiting = Waiting::new(self);
        let mut watch = self.context.watch.clone();
        if owner == Owner::App {
            // The wait begins after the machine has taken the hook in: before, the phase may still say release to
            // the hooks of an earlier restart.
            self.context.trigger.tell(Input::ContainerHook).await;
        }
        let released = async {
            match owner {
                Owner::App => released(&mut watch, Phase::container_hook).await,
                Owner::Helper => helper_released(&mut watch).await,
            }
            if let Some(own) = own {
                own.perform().await;
            }
            self.context.watch.phase()
        };
        tokio::select! {
            biased;
            phase = released => told(&phase),
            () = self.stopping() => {
                (StatusCode::SERVICE_UNAVAILABLE, "lameduck is stopping\n").into_response()
            }
        }
    }

    fn note_refusal(&self, ask: Ask, peer: Peer, refusal: Refusal) {
        let refused = self.refused.fetch_add(1, Relaxed) + 1;
        let now = self.context.clock.now().as_millis();
        let last = self.refusal_logged.load(Relaxed);
        if last == 0 || now >= last + REFUSAL_LOG_INTERVAL_MS {
            self.refusal_logged.store(now.max(1), Relaxed);
            let hook = ask.path();
            let why = refusal.explain().trim_end();
            tracing::warn!(hook, peer = %peer.0, why, refused, "a hook was refused; nothing changes");
        }
    }
}

// === impl Ask ===

impl Ask {
    const fn path(self) -> &'static str {
        match self {
            Self::Kubelet(path) | Self::Operator(path) => path,
        }
    }
}

// === impl Owner ===

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App => "app",
            Self::Helper => "helper",
        })
    }
}

// === impl Refusal ===

impl Refusal {
    const fn explain(self) -> &'static str {
        match self {
            Self::Browser => "refused: hooks are not obeyed when a web page calls them\n",
            Self::NotLoopback => {
                "refused: obeyed from 127.0.0.1 and ::1 only, because LAMEDUCK_HOOK_TOKEN is not set\n"
            }
            Self::Token => "refused: the Lameduck-Token header is missing or wrong\n",
        }
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, AcqRel);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, AcqRel);
    }
}

// === helpers ===

async fn released(watch: &mut Watch, answer: impl Fn(&Phase) -> HookAnswer) {
    watch.wait_for(|phase| answer(phase) == HookAnswer::Release).await;
}

/// The machine is told nothing: only what is known of the pod counts, now and when the hook has stayed alone.
async fn helper_released(watch: &mut Watch) {
    tokio::select! {
        biased;
        () = released(watch, |phase| phase.helper_hook(Duration::ZERO)) => return,
        () = tokio::time::sleep(ALONE_AFTER) => {}
    }
    released(watch, |phase| phase.helper_hook(ALONE_AFTER)).await;
}

/// The phase as a line for whoever reads the answer in a terminal.
fn told(phase: &Phase) -> Response {
    format!("{}\n", phase.name()).into_response()
}
