//! The story's Deployment on a cluster, with lameduck in it or without.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use lameduck::clock::Clock;
use serde_json::Value;
use tokio::time::{interval, timeout};

use crate::{
    app_command,
    balancer::{Balancer, Load},
    cluster::{Deployment, Service},
    http,
    kubelet::{Pod, Settings, timeline::Event},
    story::{APP, COPIER, Manifests, SIDECAR, Story},
};

/// No single event here takes longer on a busy machine, drains aside.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// kubelet's periods are this much shorter than the manifest says, so that the story's 10 s become 2 s.
const PACE: u32 = 5;
/// Creating and starting a container is the work of some processes, some mounts and more. A runtime that took no time
/// would bring an app back before anybody could see that it was away.
const START: Duration = Duration::from_millis(500);
/// Where the sidecar's image has its program.
const PROGRAM: &str = "/lameduck";
const APP_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 15800;

/// A Deployment, its Service, a balancer in front of it.
pub(crate) struct World {
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) deployment: Deployment,
    clock: Clock,
}

// === impl World ===

impl World {
    /// A Deployment of `replicas` pods that serve.
    pub(crate) async fn start(story: &Story, replicas: usize) -> Self {
        let clock = Clock::start();
        let balancer = Balancer::new(clock);
        let Manifests { deployment, service } = story.manifests();
        let service = Service::new(&service, &balancer, clock);
        let images = images(&deployment);
        let programs = [(PROGRAM.to_owned(), env!("CARGO_BIN_EXE_lameduck").to_owned())].into();
        let settings =
            Settings { images, programs, pace: PACE, start: START, ..Settings::default() };
        let deployment = Deployment::start(&deployment, replicas, service, settings).await;
        Self { balancer, deployment, clock }
    }

    /// Starts the load and waits until it is under way.
    pub(crate) async fn load(&self) -> Load {
        let load = self.balancer.load();
        self.more_answers(100).await;
        load
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn more_answers(&self, count: u64) {
        let wanted = self.balancer.tally().answered + count;
        let came = || (self.balancer.tally().answered >= wanted).then_some(());
        crate::until("more answers", PATIENCE, came).await;
    }

    /// How many requests `pod` has answered.
    pub(crate) fn answers_of(&self, pod: &Pod) -> u64 {
        let endpoint = self.endpoint(pod);
        self.balancer.tally().by_pod.get(&endpoint).copied().unwrap_or(0)
    }

    /// Waits until `pod` has answered so many more requests.
    pub(crate) async fn more_answers_of(&self, pod: &Pod, count: u64) {
        let wanted = self.answers_of(pod) + count;
        let came = || (self.answers_of(pod) >= wanted).then_some(());
        crate::until(&format!("more answers of {}", pod.name()), PATIENCE, came).await;
    }

    /// Where the Service leads for `pod`.
    pub(crate) fn endpoint(&self, pod: &Pod) -> SocketAddr {
        self.deployment.service.endpoint(pod)
    }

    /// Asks the app itself, behind the sidecar's back; whether it answered.
    pub(crate) async fn ask_app(&self, pod: &Pod, path: &str) -> bool {
        self.ask(pod, APP_PORT, path).await
    }

    /// Asks the container that listens on `port`; whether it answered.
    pub(crate) async fn ask(&self, pod: &Pod, port: u16, path: &str) -> bool {
        http::get((pod.ip(), port).into(), path, PATIENCE, self.clock).await.is_ok()
    }

    /// The status that the sidecar answers.
    pub(crate) async fn ask_sidecar(&self, pod: &Pod, path: &str) -> u16 {
        let answer = http::get((pod.ip(), ADMIN_PORT).into(), path, PATIENCE, self.clock).await;
        answer.unwrap_or_else(|failure| panic!("{path}: {failure}\n{pod}")).status
    }

    /// Waits until `field` of the sidecar's `/status` is `value`.
    pub(crate) async fn wait_for_status(&self, pod: &Pod, field: &str, value: &Value) {
        let admin = (pod.ip(), ADMIN_PORT).into();
        let mut ticks = interval(Duration::from_millis(50));
        let seen = timeout(PATIENCE, async {
            loop {
                ticks.tick().await;
                let answer = http::get(admin, "/status", PATIENCE, self.clock).await;
                let body = answer.map(|answer| answer.body).unwrap_or_default();
                let status = serde_json::from_slice::<Value>(&body).unwrap_or_default();
                if status[field] == *value {
                    return;
                }
            }
        });
        seen.await.unwrap_or_else(|_| panic!("{field}: not {value} in {PATIENCE:?}\n{pod}"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}\n{}", self.balancer.tally(), self.deployment);
        }
    }
}

// === helpers ===

/// Every image is the story's app, except that of our own containers, whatever it is called.
fn images(deployment: &Value) -> BTreeMap<String, Vec<String>> {
    let spec = &deployment["spec"]["template"]["spec"];
    let lists = ["initContainers", "containers"].map(|list| spec[list].as_array());
    let containers = lists.into_iter().flatten().flatten();
    let image = |container: &Value| {
        let is_ours = [SIDECAR, COPIER].iter().any(|name| container["name"] == *name);
        let lameduck = || vec![env!("CARGO_BIN_EXE_lameduck").to_owned()];
        let program = if is_ours { lameduck() } else { app_command() };
        (container["image"].as_str().unwrap().to_owned(), program)
    };
    containers.map(image).collect()
}

/// The drain report in the sidecar's log; not exactly one is a failure.
pub(crate) fn report(pod: &Pod) -> Value {
    let lines = pod.log(SIDECAR);
    let objects = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut reports = objects.filter(|line| line["event"] == "drain_report");
    match (reports.next(), reports.next()) {
        (Some(report), None) => report,
        (Some(_), Some(_)) => panic!("two drain reports\n{pod}"),
        (None, _) => panic!("no drain report\n{pod}"),
    }
}

/// Fails unless the pod that is gone has left as it should.
pub(crate) fn expect_good_leave(pod: &Pod) {
    let timeline = pod.timeline();
    assert_eq!(timeline.last(SIDECAR, Event::Exited).detail, "0", "{pod}");
    let report = report(pod);
    assert_eq!(report["outcome"], "drained", "{report}\n{pod}");
    for container in [APP, SIDECAR] {
        for event in [Event::FailedPreStopHook, Event::HookGivenUp, Event::Killed] {
            assert_eq!(timeline.count(container, event), 0, "{container} {event:?}\n{pod}");
        }
    }
}
