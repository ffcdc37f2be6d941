//! A pod: the real app, the real proxy in front of it, and what kubelet does to the two.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::ExitStatus,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use lameduck::{clock::Clock, units::Uptime};
use rustix::process::Signal;
use tokio::{process::Command, task::JoinSet, time::MissedTickBehavior};

use crate::{
    http::{self, Failure, Response},
    process::Process,
    report::Report,
};

/// `LAMEDUCK_DRAIN_TIMEOUT`'s default, and half as much again for a machine that is busy.
pub(crate) const LONGEST_DRAIN: Duration = Duration::from_secs(90);
/// A fresh Python process that imports its server, on a busy machine.
const LONGEST_START: Duration = Duration::from_secs(30);
/// Processes with nothing left to do.
const LONGEST_STOP: Duration = Duration::from_secs(60);
/// Small requests to the app or the admin port, and what they are to bring about.
const LONGEST_CALL: Duration = Duration::from_secs(30);
/// How long a readiness probe may take, in seconds. An app under load, on a machine that is busy besides, may take longer
/// than kubelet's default of one: the proxy would rightly call it unready, in a test that is about something else.
const PROBE_TIMEOUT: u64 = 30;

/// How long the endpoint of a pod is still there after its deletion.
pub(crate) const PROPAGATION: Duration = Duration::from_secs(3);

/// What a pod is made of.
pub(crate) struct Plan {
    /// Unique among all tests: it names the log files.
    pub(crate) name: String,
    pub(crate) addresses: Addresses,
    /// Runs the app, which listens at `addresses.app`.
    pub(crate) app: Command,
    /// The app's readiness probe, as in a pod's manifest.
    pub(crate) probe: serde_json::Value,
    /// The proxy's variables, besides its addresses and the probe.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// Addresses that were free a moment ago.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) app: SocketAddr,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// An app and its proxy. Both are killed when this is dropped.
pub(crate) struct Pod {
    pub(crate) proxy_addr: SocketAddr,
    pub(crate) admin_addr: SocketAddr,
    pub(crate) app_addr: SocketAddr,
    app: Process,
    proxy: Process,
    clock: Clock,
}

// === impl Pod ===

impl Pod {
    /// Starts both and waits until the proxy calls the pod ready.
    pub(crate) async fn start(plan: Plan, clock: Clock) -> Result<Self, String> {
        let Plan { name, addresses, app, probe, variables } = plan;
        let app = Process::start(&format!("{name}-app"), app)?;
        let command = proxy_command(addresses, &probe, variables);
        let proxy = Process::start(&format!("{name}-proxy"), command)?;
        let Addresses { app: app_addr, proxy: proxy_addr, admin: admin_addr } = addresses;
        let mut pod = Self { proxy_addr, admin_addr, app_addr, app, proxy, clock };
        match pod.wait_until_ready(LONGEST_START).await {
            Ok(_) => Ok(pod),
            Err(problem) => Err(format!("{problem}\n{}", pod.log_tails())),
        }
    }

    /// Waits until `/readyz` answers 200; returns when that was.
    pub(crate) async fn wait_until_ready(&mut self, limit: Duration) -> Result<Uptime, String> {
        let end = self.clock.now() + limit;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.clock.now() < end {
            ticks.tick().await;
            self.expect_running()?;
            match http::get(self.admin_addr, "/readyz", LONGEST_CALL, self.clock).await {
                Ok(response) if response.status == 200 => return Ok(response.head_at),
                // Not ready yet, or not even listening yet.
                Ok(_) | Err(Failure::Connect(_)) => {}
                Err(failure) => return Err(format!("/readyz: {failure}")),
            }
        }
        Err(format!("{} is not ready after {limit:?}", self.proxy_addr))
    }

    /// The status that `/readyz` answers.
    pub(crate) async fn readyz(&self) -> Result<u16, String> {
        self.call(self.admin_addr, "/readyz").await.map(|response| response.status)
    }

    /// Turns the app's readiness over, behind the proxy's back.
    pub(crate) async fn turn_readiness_over(&self) -> Result<(), String> {
        let response = self.call(self.app_addr, "/unready/").await?;
        if response.status == 200 { Ok(()) } else { Err(format!("/unready/: {}", response.status)) }
    }

    /// Kubelet's call of the sidecar's preStop hook.
    pub(crate) async fn call_pod_hook(&self) -> Result<(), String> {
        let response = self.call(self.admin_addr, "/prestop/pod").await?;
        if response.status == 200 {
            Ok(())
        } else {
            Err(format!("/prestop/pod: {}", response.status))
        }
    }

    /// Calls the app's preStop hook as kubelet does; the task returns when it was answered.
    pub(crate) fn hold_container_hook(&self) -> JoinSet<Result<Uptime, String>> {
        let (peer, clock) = (self.admin_addr, self.clock);
        let mut hook = JoinSet::new();
        hook.spawn(async move {
            let answer = http::get(peer, "/prestop/container/app", LONGEST_DRAIN, clock).await;
            match answer {
                Ok(response) if response.status == 200 => Ok(response.head_at),
                Ok(response) => Err(format!("the app's hook: {}", response.status)),
                Err(failure) => Err(format!("the app's hook: {failure}")),
            }
        });
        hook
    }

    /// Deletes the pod in the order in which kubelet does; `unpublish` is called when everybody has heard of it.
    /// Returns the drain report and how long it took until the app could be stopped.
    pub(crate) async fn delete(
        &mut self,
        unpublish: impl FnOnce(),
    ) -> Result<(Report, Duration), String> {
        let deleted_at = self.clock.now();
        let mut hook = self.hold_container_hook();
        self.call_pod_hook().await?;
        look_on(PROPAGATION).await;
        unpublish();
        let released = hook.join_next().await.ok_or("there was no hook to wait for")?;
        let released_at = released.map_err(|error| error.to_string())??;
        self.expect_running()?;
        // Its exit status is the app's own affair.
        let _status = self.terminate_app().await?;
        let report = self.terminate_proxy(LONGEST_DRAIN).await?;
        Ok((report, released_at.saturating_since(deleted_at)))
    }

    /// Waits until `GET /status` counts `count` parked requests or more.
    pub(crate) async fn wait_until_parked(&self, count: usize) -> Result<(), String> {
        let end = self.clock.now() + LONGEST_CALL;
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let mut status = serde_json::Value::Null;
        while self.clock.now() < end {
            ticks.tick().await;
            let response = self.call(self.admin_addr, "/status").await?;
            status = serde_json::from_slice(&response.body)
                .map_err(|error| format!("/status is no JSON: {error}"))?;
            if status["parked"].as_u64().is_some_and(|parked| parked >= count as u64) {
                return Ok(());
            }
        }
        Err(format!("/status never counted {count} parked requests: {status}"))
    }

    /// Waits until `/readyz` answers `status`.
    pub(crate) async fn wait_for_readyz(&self, status: u16) -> Result<(), String> {
        let end = self.clock.now() + LONGEST_CALL;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while self.clock.now() < end {
            ticks.tick().await;
            if self.readyz().await? == status {
                return Ok(());
            }
        }
        Err(format!("/readyz has not answered {status} in {LONGEST_CALL:?}"))
    }

    /// SIGUSR1 to the app.
    pub(crate) fn signal_app(&self) -> Result<(), String> {
        self.app.send(Signal::USR1)
    }

    /// What the app has written so far.
    pub(crate) fn app_log(&self) -> String {
        self.app.log()
    }

    /// Fails if one of the two has ended already.
    pub(crate) fn expect_running(&mut self) -> Result<(), String> {
        self.app.expect_running()?;
        self.proxy.expect_running()
    }

    /// SIGTERM to the app.
    pub(crate) async fn terminate_app(&mut self) -> Result<ExitStatus, String> {
        self.app.terminate(LONGEST_STOP).await
    }

    /// SIGTERM to the proxy, which must exit with 0 within `limit`; returns its drain report.
    pub(crate) async fn terminate_proxy(&mut self, limit: Duration) -> Result<Report, String> {
        let status = self.proxy.terminate(limit).await?;
        if status.code() != Some(0) {
            return Err(format!("the proxy has ended with {status} instead of 0"));
        }
        Report::from_log(&self.proxy.log())
    }

    /// The ends of both log files.
    pub(crate) fn log_tails(&self) -> String {
        format!("{}\n{}", self.app.log_tail(), self.proxy.log_tail())
    }

    async fn call(&self, peer: SocketAddr, target: &str) -> Result<Response, String> {
        let response = http::get(peer, target, LONGEST_CALL, self.clock).await;
        response.map_err(|failure| format!("{target} of {peer}: {failure}"))
    }
}

// === impl Addresses ===

impl Addresses {
    /// Three addresses that are free now, and that no other test is given.
    pub(crate) fn free() -> Result<Self, String> {
        Ok(Self { app: free_address()?, proxy: free_address()?, admin: free_address()? })
    }
}

// === helpers ===

/// Below the kernel's own choices, which begin at 32768: else a connection could take the port before the server does.
fn free_address() -> Result<SocketAddr, String> {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 32_768 {
            return Err("no port is free".to_owned());
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

/// Lets time pass in which the load goes on, or in which the rest of a cluster does its part.
pub(crate) async fn look_on(time: Duration) {
    tokio::time::sleep(time).await;
}

fn proxy_command(
    addresses: Addresses,
    probe: &serde_json::Value,
    variables: Vec<(&'static str, String)>,
) -> Command {
    let Addresses { app, proxy, admin } = addresses;
    let mut probe = probe.clone();
    probe["timeoutSeconds"] = PROBE_TIMEOUT.into();
    let probes = serde_json::json!({"app": {"readiness": probe}});
    let mut command = Command::new(env!("CARGO_BIN_EXE_lameduck"));
    command
        .arg("proxy")
        // Nothing that the tests' own environment says may reach the proxy.
        .env_clear()
        .env("LAMEDUCK_ROUTES", format!("{proxy}={app}"))
        .env("LAMEDUCK_ADMIN_ADDR", admin.to_string())
        .env("LAMEDUCK_APP_PROBES", probes.to_string())
        .env("LAMEDUCK_LOG_FORMAT", "json")
        .envs(variables);
    command
}
