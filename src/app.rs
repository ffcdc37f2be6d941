//! The composition root: configuration in, ports bound, parts started, phase driven, exit decided.
//!
//! Whoever wants to know how the parts hang together reads [`run`]; whoever wants to know what a part does, its own
//! module.

use std::{io, path::Path, sync::Arc};

use tokio::{task::JoinSet, time::timeout_at};

use crate::{
    admin, app_drain,
    clock::Clock,
    config::{Config, Log, UpstreamCheck},
    lifecycle::{
        Phase,
        driver::{self, Driver, Outcome, Reports, Trigger, Watch},
        machine::{Entry, Exit, Machine},
        report::Report,
    },
    listener::{BindError, Listener},
    memory::{
        self, Pressure,
        cgroup::{CGROUPS, Cgroup},
    },
    proxy::{Context, Workers, entry::failures::Failures, upstream::outage::Outages},
    readiness::{Prober, missing::watch_missing, poll::watch_readiness, reach::watch_reach},
    signals::Signals,
    slots::Slots,
    telemetry::{self, Severity},
    tls,
    tracker::Tracker,
    user_prestop::UserHooks,
};

/// Kubelet shows what is in this file as the container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why the sidecar could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin port can't be bound.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// A proxy port can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system has no threads, timers or descriptors for us.
    #[error("can't start: {0}")]
    System(#[from] io::Error),
}

/// The parts that share the main thread.
struct Parts {
    config: Arc<Config>,
    tls: Option<tls::Server>,
    clock: Clock,
    tracker: Tracker,
    pressure: Pressure,
    trigger: Trigger,
    watch: Watch,
    prober: Prober,
    driver: Driver,
    reports: Reports,
}

/// The proxy ports, and who serves what comes through them.
#[derive(Clone, Copy)]
struct Door<'a> {
    listeners: &'a [Listener],
    slots: &'a Slots,
    workers: &'a Workers,
    clock: Clock,
}

/// Runs the sidecar until it may end. Returns the last drain report, if the pod was leaving.
///
/// # Errors
/// It could not start; nothing was served.
pub fn run(
    config: Config,
    tls: Option<tls::Server>,
    signals: Signals,
) -> Result<Option<Report>, RunError> {
    let listeners = Listener::bind_all(&config.routes)?;
    let admin = admin::bind(config.admin_addr)?;
    let ports: Vec<_> = listeners.iter().map(Listener::local_addr).collect();
    tracing::info!(event = "listening", proxy = ?ports, admin = %admin.local_addr(), "listening");
    let log = config.log.clone();
    let parts = Parts::new(config, tls);
    let _signals = signals.forward(parts.trigger.clone())?;
    let reports = parts.reports.clone();
    let admin = admin.spawn(parts.admin())?;
    let workers = Workers::spawn(&parts.proxy())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(parts, listeners, &workers))?;
    drop(runtime);
    workers.stop();
    let report = reports.last();
    if let Some(report) = &report {
        publish(report, &log, Path::new(TERMINATION_LOG));
    }
    tracing::info!(event = "exit", exit = ?outcome.exit, "the process ends");
    admin.stop();
    Ok(report)
}

/// Accepts and drives the phase until the process may end; then sees the last connections off.
async fn serve(parts: Parts, listeners: Vec<Listener>, workers: &Workers) -> io::Result<Outcome> {
    let Parts { config, tls, clock, tracker, pressure, trigger, watch, prober, driver, reports } =
        parts;
    let mut tasks = JoinSet::new();
    let upstreams: Vec<_> = config.routes.iter().map(|route| route.upstream.clone()).collect();
    let connect_timeout = config.upstream.connect_timeout;
    let missing = watch_missing(upstreams.clone(), connect_timeout, prober.clone(), watch.clone());
    tasks.spawn(missing);
    tasks.spawn(watch_reach(upstreams, connect_timeout, watch.clone(), trigger));
    tasks.spawn(watch_readiness(prober, config.readiness_poll, watch.clone()));
    if let Some(url) = config.app_drain_url.clone() {
        tasks.spawn(app_drain::watch_drain(url, watch.clone()));
    }
    if let Some(cgroup) = Cgroup::find(Path::new(CGROUPS)) {
        tasks.spawn(memory::watch(cgroup, pressure.clone(), clock));
    }
    if let Some(tls) = tls {
        tasks.spawn(tls.keep_up_to_date());
    }
    tasks.spawn(leave_early_message(reports, watch.clone()));
    let slots = Slots::new(config.limits.max_connections, pressure);
    let door = Door { listeners: &listeners, slots: &slots, workers, clock };
    let outcome = tokio::select! {
        outcome = driver.run() => outcome,
        Err(error) = door.accept_all() => return Err(error),
    };
    if outcome.exit == Exit::Leave {
        see_off(&config, &door, &tracker, &watch.phase()).await;
    }
    Ok(outcome)
}

/// Sees the last connections off: serves whoever still comes until all are closed or have lingered, and then
/// whatever is still in flight, within the drain's budget.
async fn see_off(config: &Config, door: &Door<'_>, tracker: &Tracker, phase: &Phase) {
    // A connection that has just come is given the quiet time for its request, and its peer the linger to close.
    let enough = door.clock.now() + config.budget.drain_quiet() + config.linger;
    let (deadline, hard_stop) = match phase.departure() {
        Some(drain) => (drain.deadline, config.budget.hard_stop(drain.since)),
        None => (enough, enough),
    };
    if timeout_at(door.clock.instant(enough.min(hard_stop)), door.until_all_closed()).await.is_ok()
    {
        return;
    }
    tracing::info!("some peers keep their connections open after the linger; they are closed now");
    let answered = async {
        while tracker.load().in_flight > 0 {
            tracker.idle().await;
        }
    };
    let until = deadline.min(hard_stop);
    if timeout_at(door.clock.instant(until), door.accept_until(answered)).await.is_err() {
        tracing::info!("requests that came after the drain's end are cut: its budget is spent");
    }
}

// === impl Door ===

impl Door<'_> {
    /// Accepts without end.
    async fn accept_all(&self) -> io::Result<()> {
        let Self { listeners, slots, workers, clock } = *self;
        let accepting =
            listeners.iter().map(|listener| listener.accept_all(slots.clone(), workers, clock));
        futures_util::future::try_join_all(accepting).await.map(|_| ())
    }

    /// Accepts until `event`.
    async fn accept_until(&self, event: impl Future<Output = ()>) {
        tokio::pin!(event);
        tokio::select! {
            () = &mut event => {}
            Err(error) = self.accept_all() => {
                tracing::warn!(%error, "can't accept connections");
                event.await;
            }
        }
    }

    /// Accepts until no connection is open and none waits to be accepted.
    async fn until_all_closed(&self) {
        let Self { listeners, slots, workers, clock } = *self;
        loop {
            self.accept_until(slots.wait_until_at_most(0)).await;
            // The reactor may not have heard of the newest ones yet.
            let queued = |listener: &Listener| listener.accept_queued(slots, workers, clock);
            if listeners.iter().map(queued).sum::<usize>() == 0 {
                return;
            }
        }
    }
}

/// Makes the drain report known in all the places it outlives the process in: the log, and `message` if it is there.
fn publish(report: &Report, log: &Log, message: &Path) {
    let object = match serde_json::to_value(report) {
        Ok(object) => object,
        Err(error) => {
            tracing::error!(%error, "the drain report can't be written");
            return;
        }
    };
    leave_message(&object, message);
    let (level, message) = if report.abandoned_total() == 0 {
        (Severity::Info, "the drain is over")
    } else {
        (Severity::Warn, "the drain is over, and something was cut")
    };
    telemetry::log_object(log, level, "drain_report", message, object);
}

/// Leaves the report as soon as the drain is over, because what comes between that and the exit may be a SIGKILL.
async fn leave_early_message(reports: Reports, mut watch: Watch) {
    watch.wait_for(|phase| matches!(phase, Phase::Drained(_))).await;
    if let Some(object) = reports.last().and_then(|report| serde_json::to_value(report).ok()) {
        leave_message(&object, Path::new(TERMINATION_LOG));
    }
}

/// Writes the report over what was in `file`, if it exists: kubelet makes it, and shows what is in it.
fn leave_message(report: &serde_json::Value, file: &Path) {
    if file.exists()
        && let Err(error) = std::fs::write(file, report.to_string())
    {
        tracing::warn!(%error, file = %file.display(), "the drain report can't be written there");
    }
}

// === impl Parts ===

impl Parts {
    fn new(config: Config, tls: Option<tls::Server>) -> Self {
        let clock = Clock::start();
        let tracker = Tracker::new(config.workers);
        let prober = Prober::new(&config.app_probes);
        let entry = match (prober.has_probes(), config.upstream_check) {
            (true, UpstreamCheck::None | UpstreamCheck::Tcp) => Entry::Ready,
            (false, UpstreamCheck::None) => Entry::Anyhow,
            (false, UpstreamCheck::Tcp) => Entry::Accepts,
        };
        let machine = Machine::new(config.budget, entry);
        let (trigger, watch, driver) = driver::new(machine, clock, tracker.clone());
        let prober = prober.feeding(trigger.clone());
        let reports = driver.reports();
        let (config, pressure) = (Arc::new(config), Pressure::none());
        Self { config, tls, clock, tracker, pressure, trigger, watch, prober, driver, reports }
    }

    fn admin(&self) -> admin::Context {
        admin::Context {
            trigger: self.trigger.clone(),
            watch: self.watch.clone(),
            tracker: self.tracker.clone(),
            pressure: self.pressure.clone(),
            tls: self.tls.clone(),
            clock: self.clock,
            prober: self.prober.clone(),
            app_containers: self.config.app_containers.clone(),
            user_hooks: UserHooks::new(&self.config.user_prestop, self.trigger.clone()),
            token: self.config.hook_token.clone(),
            readiness_on_termination: self.config.readiness_on_termination,
            reports: self.reports.clone(),
        }
    }

    fn proxy(&self) -> Context {
        Context {
            config: Arc::clone(&self.config),
            clock: self.clock,
            watch: self.watch.clone(),
            tracker: self.tracker.clone(),
            pressure: self.pressure.clone(),
            tls: self.tls.clone(),
            outages: Outages::none(self.config.routes.len()),
            failures: Failures::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::AccessLog,
        lifecycle::{Cause, Departed, Departure, Phase, Proof, report::Journal},
        tracker::Counts,
        units::Uptime,
    };

    fn report() -> Report {
        let (counts, departure) = (
            Counts::default(),
            Departure { cause: Cause::Sigterm, since: Uptime::ZERO, deadline: Uptime::NEVER },
        );
        let mut journal = Journal::default();
        journal.entered(&Phase::Draining(departure), Uptime::ZERO, &counts);
        let departed = Departed { departure, at: Uptime::ZERO, proof: Proof::Idle };
        journal.entered(&Phase::Drained(departed), Uptime::ZERO, &counts);
        journal.report(&counts).unwrap()
    }

    fn log() -> Log {
        Log { filter: "off".to_owned(), format: None, access: AccessLog::Off }
    }

    #[test]
    fn the_termination_message_is_the_report() {
        let message = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(message.path(), "left from the container's last run").unwrap();
        let report = report();
        publish(&report, &log(), message.path());
        let written = std::fs::read_to_string(message.path()).unwrap();
        let written: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written, serde_json::to_value(&report).unwrap());
        assert_eq!(written["reason"], "SIGTERM");
    }

    #[test]
    fn where_kubelet_made_no_file_none_is_made() {
        let folder = tempfile::TempDir::new().unwrap();
        let message = folder.path().join("termination-log");
        publish(&report(), &log(), &message);
        assert!(!message.exists());
    }
}
