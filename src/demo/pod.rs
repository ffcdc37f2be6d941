//! A pod, and the kubelet that looks after it: processes, probes, and the order of a deletion.
//!
//! The order is kubelet's: all preStop hooks at once; SIGTERM to the app when its own hook has answered or the grace
//! period is over; SIGTERM to the sidecar when the app has ended; at least 2 s each before SIGKILL.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    clock::Clock,
    demo::{
        balancer::{SharedNat, lock},
        client::{self, Reply},
        nat::PodId,
        process::{Ended, Ports, Process},
        scene::Scene,
        settings::{GRACE_PERIOD, PATIENCE, PRESTOP_SLEEP, PROBE_PERIOD, SIDECAR, STARTUP_PERIOD},
        tally::Left,
        task::Task,
    },
};

/// kubelet gives a container this much after SIGTERM even when the grace period is used up.
/// (`minimumGracePeriodInSeconds` in Kubernetes' `kuberuntime_container.go`.)
const MINIMUM_GRACE: Duration = Duration::from_secs(2);

/// `timeoutSeconds` of the probes. Kubernetes' default of 1 s is too short where two processors run all pods and perhaps
/// somebody's build: every pod would turn unready at once, and there would be nobody left to send a request to.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who runs in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// The app, with a preStop sleep.
    Alone,
    /// The app, and lameduck in front.
    BehindLameduck,
}

/// What a pod needs to know of the cluster it runs in.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// The clock of everything.
    pub(super) clock: Clock,
    /// Where readiness ends up.
    pub(super) nat: SharedNat,
    /// Where it is shown.
    pub(super) scene: Scene,
}

/// A running pod. Dropping it kills its processes.
#[derive(Debug)]
pub(super) struct Pod {
    /// Its name in the rules.
    pub(super) id: PodId,
    /// Where it is reached.
    pub(super) addrs: Addrs,
    cluster: Cluster,
    app: Process,
    sidecar: Option<Process>,
    ready: watch::Receiver<bool>,
    kubelet: Task,
}

/// Where a pod is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addrs {
    /// The app itself.
    pub(super) app: SocketAddr,
    /// lameduck's proxy port and admin port.
    pub(super) sidecar: Option<(SocketAddr, SocketAddr)>,
}

// === impl Setup ===

impl Setup {
    /// As headings say it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Alone => "app alone",
            Self::BehindLameduck => "behind lameduck",
        }
    }
}

// === impl Addrs ===

impl Addrs {
    fn pick(setup: Setup, ports: &mut Ports) -> anyhow::Result<Self> {
        let mut addr = || ports.free().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let app = addr()?;
        let sidecar = match setup {
            Setup::Alone => None,
            Setup::BehindLameduck => Some((addr()?, addr()?)),
        };
        Ok(Self { app, sidecar })
    }

    /// Where the Service's target port leads.
    pub(super) fn service(&self) -> SocketAddr {
        self.sidecar.map_or(self.app, |(proxy, _)| proxy)
    }
}

// === impl Pod ===

impl Pod {
    /// Starts the pod's processes from `exe` and begins to probe it.
    pub(super) fn start(
        id: PodId,
        setup: Setup,
        exe: &Path,
        ports: &mut Ports,
        cluster: &Cluster,
    ) -> anyhow::Result<Self> {
        let addrs = Addrs::pick(setup, ports)?;
        let port = addrs.app.port().to_string();
        let app = Process::start(format!("{id}'s app"), exe, ["demo-app", "--port", &port], [])?;
        let sidecar = match addrs.sidecar {
            None => None,
            Some((proxy, admin)) => Some(start_sidecar(id, exe, addrs.app, proxy, admin)?),
        };
        cluster.scene.show(id, |view| "starting".clone_into(&mut view.state));
        let (tell, ready) = watch::channel(false);
        let kubelet = Task::start(probe(id, addrs, cluster.clone(), tell));
        Ok(Self { id, addrs, cluster: cluster.clone(), app, sidecar, ready, kubelet })
    }

    /// Waits until the pod is ready, or is not.
    pub(super) async fn wait_ready(&mut self, ready: bool) -> anyhow::Result<()> {
        let mut probes = self.ready.clone();
        let seen = timeout(PATIENCE, async {
            while *probes.borrow_and_update() != ready {
                // Every probe is told, changed or not; a process that has ended is noticed at the next.
                probes.changed().await.context("the kubelet's task has ended")?;
                self.check()?;
            }
            anyhow::Ok(())
        });
        let wanted = if ready { "ready" } else { "unready" };
        seen.await.with_context(|| format!("{} is not {wanted} after {PATIENCE:?}", self.id))?
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.app.check()?;
        self.sidecar.as_mut().map_or(Ok(()), Process::check)
    }

    /// Turns the app's readiness over, as the story did by hand.
    pub(super) async fn flip(&self) -> anyhow::Result<()> {
        client::get(self.addrs.app, "/unready/", PATIENCE)
            .await
            .with_context(|| format!("{}'s app does not answer /unready/", self.id))?;
        Ok(())
    }

    /// Deletes the pod as kubelet does, and waits until it is gone.
    pub(super) async fn delete(mut self) -> anyhow::Result<Left> {
        let clock = self.cluster.clock;
        let started = clock.now();
        let mut problems = Vec::new();
        lock(&self.cluster.nat).delete(self.id, started);
        self.cluster.scene.show(self.id, |view| "leaving: preStop".clone_into(&mut view.state));
        match self.addrs.sidecar {
            None => sleep(PRESTOP_SLEEP).await,
            Some((_, admin)) => problems.extend(self.hooks(admin).await),
        }
        self.cluster.scene.show(self.id, |view| "leaving: SIGTERM".clone_into(&mut view.state));
        let rest = || {
            let used = clock.now().saturating_since(started);
            GRACE_PERIOD.saturating_sub(used).max(MINIMUM_GRACE)
        };
        if let Ended::Killed = self.app.stop(rest()).await? {
            problems.push(format!("{}'s app had to be killed", self.id));
        }
        if let Some(sidecar) = self.sidecar.take() {
            problems.extend(judge(self.id, sidecar.stop(rest()).await?));
        }
        drop(self.kubelet);
        Ok(Left { took: clock.now().saturating_since(started), problems })
    }

    /// Both hooks, in parallel; returns when the app's own has answered or the grace period is over.
    async fn hooks(&self, admin: SocketAddr) -> Vec<String> {
        let call = async |path: &str| match client::get(admin, path, GRACE_PERIOD).await {
            Ok(reply) if reply.status.is_success() => None,
            Ok(reply) => Some(format!("{}: {path} answered {}", self.id, reply.status)),
            Err(fault) => Some(format!("{}: {path}: {fault}", self.id)),
        };
        let (pod, container) = tokio::join!(call("/prestop/pod"), call("/prestop/container/app"));
        pod.into_iter().chain(container).collect()
    }
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pod-{}", self.0)
    }
}

// === helpers ===

/// lameduck as the injector would set it up for this app.
fn start_sidecar(
    id: PodId,
    exe: &Path,
    app: SocketAddr,
    proxy: SocketAddr,
    admin: SocketAddr,
) -> anyhow::Result<Process> {
    let vars = sidecar_vars(app, proxy, admin);
    let vars = vars.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
    Process::start(format!("{id}'s lameduck"), exe, ["proxy"], vars)
}

/// The sidecar's whole environment.
fn sidecar_vars(
    app: SocketAddr,
    proxy: SocketAddr,
    admin: SocketAddr,
) -> Vec<(&'static str, String)> {
    let probes = serde_json::json!({"app": {"readiness": {
        "httpGet": {"host": app.ip().to_string(), "port": app.port(), "path": "/ready/"},
        "periodSeconds": PROBE_PERIOD.as_secs(),
        "timeoutSeconds": PROBE_TIMEOUT.as_secs(),
        "failureThreshold": 1,
    }}});
    let mut vars = vec![
        ("LAMEDUCK_ROUTES", format!("{proxy}={app}")),
        ("LAMEDUCK_ADMIN_ADDR", admin.to_string()),
        ("LAMEDUCK_APP_PROBES", probes.to_string()),
        ("LAMEDUCK_WORKERS", "1".to_owned()),
        ("LAMEDUCK_LOG", "warn".to_owned()),
    ];
    vars.extend(SIDECAR.iter().map(|(name, value, _)| (*name, (*value).to_owned())));
    vars
}

/// kubelet's readiness probes for one pod, until it is gone. They go on while it leaves.
async fn probe(id: PodId, addrs: Addrs, cluster: Cluster, tell: watch::Sender<bool>) {
    let mut period = STARTUP_PERIOD;
    loop {
        let (ready, phase) = ask(addrs).await;
        let now = cluster.clock.now();
        lock(&cluster.nat).set_ready(id, addrs.service(), ready, now);
        cluster.scene.show(id, |view| {
            view.phase = phase;
            if !view.state.starts_with("leaving") && (ready || period == PROBE_PERIOD) {
                (if ready { "ready" } else { "unready" }).clone_into(&mut view.state);
            }
        });
        tell.send_replace(ready);
        if ready {
            period = PROBE_PERIOD;
        }
        sleep(period).await;
    }
}

/// Whether the pod is ready, and what its sidecar says of itself. A native sidecar's readiness counts too.
async fn ask(addrs: Addrs) -> (bool, String) {
    let ok = |reply: &Result<Reply, _>| matches!(reply, Ok(reply) if reply.status.is_success());
    match addrs.sidecar {
        None => (ok(&client::get(addrs.app, "/ready/", PROBE_TIMEOUT).await), String::new()),
        Some((_, admin)) => {
            let app = client::get(admin, "/probe/app/readiness", PROBE_TIMEOUT).await;
            let own = client::get(admin, "/readyz", PROBE_TIMEOUT).await;
            let ready = ok(&app) && ok(&own);
            (ready, own.map(|reply| reply.body.trim().to_owned()).unwrap_or_default())
        }
    }
}

/// A sidecar that leaves well exits 0; anything else is worth a word.
fn judge(id: PodId, ended: Ended) -> Option<String> {
    match ended {
        Ended::Killed => Some(format!("{id}'s lameduck had to be killed")),
        Ended::Exited(status) if status.success() => None,
        Ended::Exited(status) => Some(format!("{id}'s lameduck ended with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Facts, MapVars};

    #[test]
    fn the_sidecars_environment_is_a_valid_configuration() {
        let addr = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut vars = MapVars::new();
        for (name, value) in sidecar_vars(addr(20_000), addr(20_001), addr(20_002)) {
            vars = vars.with(name, &value);
        }
        let config = Config::from_vars(&vars, &Facts { fd_limit: 1024, cpus: 1 }).unwrap();
        assert_eq!(config.routes[0].listen, addr(20_001));
        assert_eq!(config.admin_addr, addr(20_002));
        assert_eq!(config.app_probes[0].container, "app");
        assert_eq!(config.app_probes[0].readiness.failure_threshold, 1);
    }
}
