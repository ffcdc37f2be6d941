//! What happens to a server's two pods, and what must be true of every single answer.

use std::{path::Path, sync::Arc, time::Duration};

use lameduck::{clock::Clock, units::Uptime};
use tokio::task::JoinSet;

use crate::{
    balancer::{self, Answer, Balancer, Load},
    http::{self, Failure, Response},
    pod::{LONGEST_DRAIN, PROPAGATION, Pod, READINESS_POLL},
    server::Server,
};

/// Long polls that are parked on the pod when its drain starts.
const POLLS: usize = 20;
/// The load that must be reached over the whole test, in requests per second.
const LEAST_RATE: f64 = 500.0;
/// A change of the app's readiness must show this long after the poll that sees it.
const LONGEST_REACTION: Duration = Duration::from_secs(1);
/// Two answers that come at once may be read in either order.
const ORDER_SLACK: Duration = Duration::from_millis(100);
/// A pod that serves is looked at for this many answers: two seconds of the least load.
const SERVED: usize = 1000;
/// The load has to come back to a pod that serves within this time, on connections that are made after that.
const LONGEST_RETURN: Duration = Duration::from_secs(15);
/// How long other states are looked at.
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
        if rate < LEAST_RATE {
            return Err(format!("only {rate:.0} requests a second were answered"));
        }
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
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while self.clock.now() < since + LONGEST_RETURN {
            ticks.tick().await;
            let answers = self.balancer.answers_since(self.leaver.proxy_addr, since);
            expect_no_close(&answers, "while serving")?;
            if answers.len() >= SERVED {
                return Ok(());
            }
        }
        Err(format!("less than {SERVED} answers in {LONGEST_RETURN:?} while serving"))
    }

    /// The app turns unready and stays alive: its connections must be told, and new ones too.
    async fn flip(&mut self) -> Result<(), String> {
        let unready_at = self.clock.now();
        self.leaver.turn_readiness_over().await?;
        let first_due = unready_at + READINESS_POLL + LONGEST_REACTION;
        let all_due = first_due + self.server.close_spread();
        tokio::time::sleep(all_due.saturating_since(self.clock.now()) + LOOK).await;
        let answers = self.balancer.answers_since(self.leaver.proxy_addr, unready_at);
        // With a spread, the ramp starts from nothing: its first closes need a moment more.
        let first_due = first_due + self.server.close_spread() / 2;
        match answers.iter().filter(|answer| answer.close).map(|answer| answer.head_at).min() {
            Some(first) if first <= first_due => {}
            first => return Err(format!("unready at {unready_at}, first close {first:?}")),
        }
        let late: Vec<_> = answers.into_iter().filter(|answer| answer.head_at >= all_due).collect();
        expect_some(&late, "while shedding")?;
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
        let limit = READINESS_POLL + LONGEST_REACTION;
        let ready_at = self.leaver.wait_until_ready(limit).await?;
        self.balancer.set_endpoint(self.leaver.proxy_addr);
        self.look_at_serving(ready_at).await
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
        if released_at + ORDER_SLACK < last_poll_at {
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
        let at_least = last_poll_at.saturating_since(told_at + ORDER_SLACK);
        report.expect_between("duration_ms", millis(at_least), millis(took + LONGEST_REACTION))?;
        report.expect_between("connections_at_start", POLLS, usize::MAX)?;
        report.expect("parked_at_start", &POLLS.into())?;
        report.expect("parked_answered", &POLLS.into())?;
        let answers = self.balancer.answers_since(self.leaver.proxy_addr, Uptime::ZERO);
        let (sure, late): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .filter(|answer| answer.head_at >= deleted_at)
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
