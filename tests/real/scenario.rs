//! What happens to a server's two pods, and what must be true of every single answer.

use std::{path::Path, sync::Arc, time::Duration};

use lameduck::{clock::Clock, units::Uptime};
use tokio::task::JoinSet;

use crate::{
    balancer::{self, Answer, Balancer, Load},
    http::{self, Failure, Response},
    pod::{LONGEST_DRAIN, PROPAGATION, Pod},
    server::Server,
};

/// Long polls that are parked on the pod when its drain starts.
const POLLS: usize = 20;
/// A pod that serves, or sheds, is looked at for this many answers.
const SERVED: usize = 1000;
const SHED: usize = 100;
/// A second on a machine that has time, and many on one that is busy. The tests wait for what happens, not for time to
/// pass: nothing that is right takes this long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What two clocks' readings in one process may differ by, because the one who reads has to wait for a core.
const SLACK: Duration = Duration::from_secs(1);
/// How long it is looked at that nothing comes.
const LOOK: Duration = Duration::from_secs(2);

struct Scenario {
    server: Server,
    clock: Clock,
    balancer: Arc<Balancer>,
    /// Takes the whole load, turns unready and ready, is then deleted.
    leaver: Pod,
    /// Takes the load while the other one does not, and stays until the end.
    stayer: Pod,
}

/// Runs the whole scenario; the error says what was wrong and how the pods' logs end.
pub(crate) async fn run(server: Server, python: &Path) -> Result<(), String> {
    let clock = Clock::start();
    let leaver = Pod::start(server.plan('a', python)?, clock).await?;
    let stayer = Pod::start(server.plan('b', python)?, clock).await?;
    let balancer = Balancer::new(clock, leaver.proxy_addr);
    let mut scenario = Scenario { server, clock, balancer, leaver, stayer };
    let load = scenario.balancer.start();
    let outcome = scenario.play(load).await;
    outcome.map_err(|problem| {
        let [leaver, stayer] = [scenario.leaver.log_tails(), scenario.stayer.log_tails()];
        format!("{problem}\n{leaver}\n{stayer}")
    })
}

// === impl Scenario ===

impl Scenario {
    async fn play(&mut self, load: Load) -> Result<(), String> {
        let steps = self.play_under_load().await;
        let (tally, took) = load.stop().await;
        // A lost request says more than the step that it made fail.
        if !tally.failures.is_empty() {
            let first: Vec<_> = tally.failures.iter().take(10).map(String::as_str).collect();
            let (count, sent) = (tally.failures.len(), tally.sent);
            let steps = steps.err().unwrap_or_default();
            return Err(format!(
                "{count} of {sent} requests failed:\n{}\n{steps}",
                first.join("\n")
            ));
        }
        let drained_in = steps?;
        #[allow(clippy::cast_precision_loss, reason = "a test sends less than 2^52 requests")]
        let rate = tally.answers.len() as f64 / took.as_secs_f64();
        if tally.answers.iter().any(|answer| answer.keep_alive) {
            return Err("an answer carried the app's keep-alive header".to_owned());
        }
        self.leave_by_signal().await?;
        println!(
            "{}: {} requests, {rate:.0} a second, 0 failed; {POLLS} polls of {:?} drained in {drained_in:.1?}",
            self.server.name(),
            tally.sent,
            self.server.poll(),
        );
        Ok(())
    }

    /// Everything that happens while the load runs; returns how long the drain took.
    async fn play_under_load(&mut self) -> Result<Duration, String> {
        self.look_at_serving(self.clock.now()).await?;
        self.flip().await?;
        self.flip_back().await?;
        let drained_in = self.delete().await?;
        let stayed = self.balancer.answers_since(self.stayer.proxy_addr, Uptime::ZERO);
        expect_no_close(&stayed, "of the pod that stayed")?;
        Ok(drained_in)
    }

    /// The pod must take traffic without announcing close.
    async fn look_at_serving(&mut self, since: Uptime) -> Result<(), String> {
        let answers = self.answers_of_leaver(since, SERVED, "while serving").await?;
        expect_no_close(&answers, "while serving")
    }

    /// The app turns unready and stays alive: its connections must be told, and new ones too.
    async fn flip(&mut self) -> Result<(), String> {
        self.leaver.turn_readiness_over().await?;
        self.leaver.wait_for_readyz(503).await?;
        let all_due = self.clock.now() + self.server.close_spread();
        let late = self.answers_of_leaver(all_due, SHED, "while shedding").await?;
        expect_close(&late, "while shedding")?;
        match self.leaver.readyz().await? {
            503 => Ok(()),
            other => Err(format!("/readyz answers {other} while shedding")),
        }
    }

    /// The balancer learns that the pod is unready, then the app turns ready again.
    async fn flip_back(&mut self) -> Result<(), String> {
        self.balancer.set_endpoint(self.stayer.proxy_addr);
        let left_at = self.clock.now();
        tokio::time::sleep(LOOK).await;
        let late = self.balancer.answers_since(self.leaver.proxy_addr, left_at + LOOK / 2);
        if !late.is_empty() {
            return Err(format!("{} requests reached the unready pod late", late.len()));
        }
        self.leaver.turn_readiness_over().await?;
        let ready_at = self.leaver.wait_until_ready(LONGEST_WAIT).await?;
        self.balancer.set_endpoint(self.leaver.proxy_addr);
        self.look_at_serving(ready_at).await
    }

    /// The pod's answers to requests sent from `since` on, once there are `count`.
    async fn answers_of_leaver(
        &self,
        since: Uptime,
        count: usize,
        when: &str,
    ) -> Result<Vec<Answer>, String> {
        let end = since + LONGEST_WAIT;
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let answers = self.balancer.answers_since(self.leaver.proxy_addr, since);
            if answers.len() >= count {
                return Ok(answers);
            }
            if self.clock.now() >= end {
                let few = answers.len();
                return Err(format!("{few} answers in {LONGEST_WAIT:?} {when}, not {count}"));
            }
        }
    }

    /// The pod is deleted with polls parked on it; returns how long it took until its app could be stopped.
    async fn delete(&mut self) -> Result<Duration, String> {
        let polls = self.park();
        self.leaver.wait_until_parked(POLLS).await?;
        let deleted_at = self.clock.now();
        // Kubelet calls the hooks of all containers at once.
        let hook = self.leaver.hold_container_hook();
        self.leaver.call_pod_hook().await?;
        let told_at = self.clock.now();
        tokio::time::sleep(PROPAGATION).await;
        self.balancer.set_endpoint(self.stayer.proxy_addr);
        let last_poll_at = self.expect_polls(polls).await?;
        let released_at = join_one(hook).await??;
        // The two answers are read by two tasks, in either order.
        if released_at + SLACK < last_poll_at {
            return Err(format!(
                "the hook was answered at {released_at}, a poll at {last_poll_at}"
            ));
        }
        self.leaver.expect_running()?;
        // Its exit status is the app's own affair.
        let _status = self.leaver.terminate_app().await?;
        let report = self.leaver.terminate_proxy(LONGEST_DRAIN).await?;
        report.expect_clean("PreStop")?;
        let took = released_at.saturating_since(deleted_at);
        let at_least = last_poll_at.saturating_since(told_at + SLACK);
        report.expect_between("duration_ms", millis(at_least), millis(took + SLACK))?;
        report.expect_between("connections_at_start", POLLS, usize::MAX)?;
        // A short request that has waited for a second on a busy machine counts as parked, too.
        let parked = report.number("parked_at_start")?;
        report.expect_between("parked_at_start", POLLS, usize::MAX)?;
        report.expect("parked_answered", &parked.into())?;
        let answers = self.balancer.answers_since(self.leaver.proxy_addr, Uptime::ZERO);
        let (sure, late): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .filter(|answer| answer.head_at + SLACK >= deleted_at)
            .partition(|answer| answer.sent_at >= told_at);
        expect_some(&sure, "while draining")?;
        expect_close(&sure, "while draining")?;
        let (least, most) = (sure.len(), sure.len() + late.len());
        report.expect_between("late_requests", least, most)?;
        report.expect_between("requests_served", least + POLLS, most + POLLS)?;
        Ok(took)
    }

    /// The other pod leaves as an ordinary container's would: by a signal, with its app alive.
    async fn leave_by_signal(&mut self) -> Result<(), String> {
        let report = self.stayer.terminate_proxy(LONGEST_DRAIN).await?;
        report.expect_clean("SIGTERM")?;
        report.expect_between("late_requests", 0, 0)?;
        self.stayer.terminate_app().await.map(drop)
    }

    /// Starts the polls, each on a connection of its own.
    fn park(&self) -> JoinSet<Result<Response, Failure>> {
        let (peer, clock) = (self.leaver.proxy_addr, self.clock);
        let seconds = self.server.poll().as_secs();
        let limit = self.server.poll() + LONGEST_DRAIN;
        let poll = |number: usize| async move {
            let target = format!("/poll?s={seconds}&n={number}");
            let response = http::get(peer, &target, limit, clock).await?;
            balancer::check(response, &format!("polled {number}"))
        };
        (0..POLLS).map(poll).collect()
    }

    /// Every poll must be answered by the app, and told to leave; returns when the last one was.
    async fn expect_polls(
        &self,
        mut polls: JoinSet<Result<Response, Failure>>,
    ) -> Result<Uptime, String> {
        let mut last_at = Uptime::ZERO;
        while let Some(poll) = polls.join_next().await {
            let outcome = poll.map_err(|error| error.to_string())?;
            let response = outcome.map_err(|failure| format!("a parked poll: {failure}"))?;
            if !response.close {
                return Err("a parked poll was answered without close".to_owned());
            }
            last_at = last_at.max(response.head_at);
        }
        Ok(last_at)
    }
}

// === helpers ===

fn millis(duration: Duration) -> usize {
    usize::try_from(duration.as_millis()).unwrap_or(usize::MAX)
}

async fn join_one<T: 'static>(mut tasks: JoinSet<T>) -> Result<T, String> {
    let joined = tasks.join_next().await.ok_or("there was no task to wait for")?;
    joined.map_err(|error| error.to_string())
}

/// A statement about answers says nothing if there are none.
fn expect_some(answers: &[Answer], when: &str) -> Result<(), String> {
    if answers.len() >= 10 { Ok(()) } else { Err(format!("{} answers {when}", answers.len())) }
}

fn expect_close(answers: &[Answer], when: &str) -> Result<(), String> {
    let without = answers.iter().filter(|answer| !answer.close).count();
    if without == 0 {
        return Ok(());
    }
    Err(format!("{without} of {} answers {when} did not say close", answers.len()))
}

fn expect_no_close(answers: &[Answer], when: &str) -> Result<(), String> {
    match answers.iter().find(|answer| answer.close) {
        None => Ok(()),
        Some(answer) => Err(format!("an answer at {} {when} said close", answer.head_at)),
    }
}
