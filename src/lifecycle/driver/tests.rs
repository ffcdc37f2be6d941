//! Paused time: no socket is involved.

use super::*;
use crate::{
    lifecycle::{
        Cause,
        budget::Budget,
        machine::{Entry, Reach, Signal},
        report::Ending,
    },
    tracker::{Count, WorkerTracker},
};

struct Rig {
    clock: Clock,
    trigger: Trigger,
    watch: Watch,
    reports: Reports,
    worker: WorkerTracker,
    run: tokio::task::JoinHandle<Outcome>,
}

/// A driver that runs, with 5 s of minimum, 2 s of quiet, 60 s of drain, 95 s of grace.
fn rig() -> Rig {
    let secs = Duration::from_secs;
    let budget = Budget::new(secs(5), secs(2), secs(60), secs(5), secs(95)).unwrap();
    let (clock, tracker) = (Clock::start(), Tracker::new(1));
    let worker = tracker.worker(0);
    let (trigger, watch, driver) = new(Machine::new(budget, Entry::Accepts), clock, tracker);
    let reports = driver.reports();
    Rig { clock, trigger, watch, reports, worker, run: tokio::spawn(driver.run()) }
}

impl Rig {
    async fn reach(&mut self, name: &str) -> u64 {
        self.watch.wait_for(|phase| phase.name() == name).await;
        self.clock.now().as_millis()
    }

    async fn serve(&mut self) {
        self.trigger.send(Input::Upstream(Reach::Accepted));
        self.reach("Serving").await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_pod_is_drained_after_the_minimum_and_leaves_on_a_signal() {
    let mut rig = rig();
    rig.serve().await;
    rig.trigger.send(Input::PodHook);
    assert_eq!(rig.reach("Draining").await, 0);
    assert_eq!(rig.reports.last(), None);
    assert_eq!(rig.reach("Drained").await, 5_000);
    assert_eq!(rig.reports.last().unwrap().duration_ms, 5_000);
    rig.trigger.send(Input::Signal(Signal::Term));
    let outcome = rig.run.await.unwrap();
    assert_eq!(outcome.exit, Exit::Leave);
    assert_eq!(outcome.report.unwrap().reason, Cause::PreStop.name());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_request_is_an_event() {
    let mut rig = rig();
    rig.serve().await;
    let request = rig.worker.guard(Count::InFlight);
    rig.trigger.send(Input::PodHook);
    rig.reach("Draining").await;
    tokio::time::sleep(Duration::from_millis(30_001)).await;
    assert_eq!(rig.watch.phase().name(), "Draining");
    drop(request);
    rig.worker.announce_idle();
    assert_eq!(rig.reach("Drained").await, 30_001);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_announced_is_seen_soon() {
    let mut rig = rig();
    rig.serve().await;
    let request = rig.worker.guard(Count::InFlight);
    rig.trigger.send(Input::PodHook);
    rig.reach("Draining").await;
    tokio::time::sleep(Duration::from_millis(30_001)).await;
    drop(request);
    let late = rig.reach("Drained").await - 30_001;
    assert!(late <= 250, "{late} ms");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_forces_the_deadline() {
    let mut rig = rig();
    rig.serve().await;
    let request = rig.worker.guard(Count::InFlight);
    rig.trigger.send(Input::Signal(Signal::Term));
    assert_eq!(rig.reach("Drained").await, 60_000);
    let outcome = rig.run.await.unwrap();
    assert_eq!(outcome.exit, Exit::Leave);
    assert_eq!(outcome.report.unwrap().outcome, Ending::Forced);
    drop(request);
}

#[tokio::test(start_paused = true)]
async fn what_workers_cut_after_the_end_is_in_the_last_report() {
    let mut rig = rig();
    rig.serve().await;
    let _request = rig.worker.guard(Count::InFlight);
    rig.trigger.send(Input::Signal(Signal::Term));
    rig.trigger.send(Input::Signal(Signal::Term));
    let (outcome, reports) = (rig.run.await.unwrap(), rig.reports);
    assert_eq!(outcome.exit, Exit::Abort);
    assert_eq!(outcome.report.unwrap().exit_code(), 0);
    rig.worker.add(Count::AbandonedRequests, 1);
    assert_eq!(reports.last().unwrap().exit_code(), 75);
}

#[tokio::test(start_paused = true)]
async fn the_load_is_fresh_when_an_input_is_judged() {
    let secs = Duration::from_secs;
    // Without a minimum and quiet, stale load would end the drain in the turn that begins it.
    let budget = Budget::new(secs(0), secs(0), secs(60), secs(5), secs(95)).unwrap();
    let (clock, tracker) = (Clock::start(), Tracker::new(1));
    let worker = tracker.worker(0);
    let (trigger, mut watch, driver) = new(Machine::new(budget, Entry::Accepts), clock, tracker);
    let run = tokio::spawn(driver.run());
    trigger.send(Input::Upstream(Reach::Accepted));
    watch.wait_for(|phase| phase.name() == "Serving").await;
    let _request = worker.guard(Count::InFlight);
    trigger.send(Input::PodHook);
    watch.wait_for(Phase::is_leaving).await;
    assert_eq!(watch.phase().name(), "Draining");
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn without_a_signal_it_runs_on_after_the_grace_period() {
    let mut rig = rig();
    rig.serve().await;
    rig.trigger.send(Input::PodHook);
    rig.reach("Drained").await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!rig.run.is_finished());
    rig.run.abort();
}

#[tokio::test(start_paused = true)]
async fn a_phase_is_published_only_when_it_changed() {
    let mut rig = rig();
    rig.serve().await;
    for _ in 0..3 {
        rig.trigger.send(Input::Readiness(true));
        rig.trigger.send(Input::Upstream(Reach::Accepted));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!rig.watch.has_changed());
    rig.run.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_sees_the_end_of_the_drain_finds_the_report() {
    let Rig { trigger, mut watch, reports, run, .. } = rig();
    let seen = tokio::spawn(async move {
        watch.wait_for(|phase| phase.name() == "Drained").await;
        reports.last()
    });
    trigger.send(Input::PodHook);
    assert!(seen.await.unwrap().is_some());
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn another_answer_to_the_hook_is_no_step_of_the_way_but_another_reason_is() {
    let mut rig = rig();
    rig.serve().await;
    rig.trigger.send(Input::ContainerHook);
    rig.watch.wait_for(|phase| phase.container_hook() == HookAnswer::Release).await;
    rig.trigger.send(Input::Drain);
    rig.trigger.send(Input::PodHook);
    rig.reach("Drained").await;
    let steps = rig.reports.last().unwrap().phases;
    let reasons: Vec<_> = steps
        .iter()
        .filter(|step| step.phase == "Shedding")
        .map(|step| step.reasons.join(","))
        .collect();
    assert_eq!(reasons, ["ContainerRestart", "ContainerRestart,Manual"]);
    rig.run.abort();
}
