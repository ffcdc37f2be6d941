//! The story: first a pod turns unready and stays alive, then all pods are replaced, under traffic all the time.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    clock::Clock,
    demo::{
        balancer::lock,
        nat::{Nat, PodId},
        pod::{Cluster, Pod, Setup},
        process::Ports,
        scene::Scene,
        settings::{
            GRACE_PERIOD, LATE_GRACE, LATE_WINDOW, MIN_READY, NAT_LAG, PATIENCE, REPLICAS, WARM_UP,
        },
        tally::{Left, Tally},
        traffic::Traffic,
    },
};

/// One setup's run, with everything that lives as long as it.
pub(super) struct Run {
    setup: Setup,
    exe: PathBuf,
    ports: Ports,
    cluster: Cluster,
    pods: Vec<Pod>,
    started: u32,
}

// === impl Run ===

impl Run {
    /// Starts the pods and waits until all are ready and listed.
    pub(super) async fn start(
        setup: Setup,
        exe: PathBuf,
        clock: Clock,
        scene: Scene,
    ) -> anyhow::Result<Self> {
        scene.clear();
        let nat = Arc::new(Mutex::new(Nat::new(NAT_LAG)));
        let cluster = Cluster { clock, nat, scene };
        let pods = Vec::new();
        let mut run = Self { setup, exe, ports: Ports::new(), cluster, pods, started: 0 };
        for _replica in 0..REPLICAS {
            let pod = run.start_pod()?;
            run.pods.push(pod);
        }
        for pod in &mut run.pods {
            pod.wait_ready(true).await?;
        }
        lock(&run.cluster.nat).settle(clock.now());
        Ok(run)
    }

    /// Plays both parts and returns the counts.
    pub(super) async fn play(&mut self) -> anyhow::Result<Tally> {
        let Cluster { clock, nat, scene } = self.cluster.clone();
        let mut traffic = Traffic::start(clock, nat, scene.clone());
        self.turn_unready(&mut traffic).await?;
        self.replace_all().await?;
        drop(traffic);
        let tally = scene.stage().tally.clone();
        Ok(tally)
    }

    /// The pods that run now.
    pub(super) fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Part (a), the story's own experiment. Ends with the pod ready again and the long polls begun.
    async fn turn_unready(&mut self, traffic: &mut Traffic) -> anyhow::Result<()> {
        let Cluster { clock, nat, scene } = self.cluster.clone();
        scene.title(format!("{}: a pod turns unready and stays alive", self.setup.name()));
        sleep(WARM_UP).await;
        let pod = self.pods.first_mut().context("must have started pods")?;
        pod.flip().await?;
        scene.say(format!("{} answers its readiness probe with 503 from now on", pod.id));
        pod.wait_ready(false).await?;
        scene.say(format!("kubelet knows; the NAT rules follow in {:.1} s", NAT_LAG.as_secs_f64()));
        until(|| !lock(&nat).lists(pod.id, clock.now())).await?;
        scene.say(format!("{} has no rule any more: no new connection goes there", pod.id));
        sleep(LATE_GRACE + LATE_WINDOW).await;
        pod.flip().await?;
        scene.say(format!("{} is made ready again; long polls come", pod.id));
        traffic.add_polls();
        pod.wait_ready(true).await?;
        // Nothing counts as late from here on: this is the number in the closing table.
        let late = scene.stage().tally.late;
        scene.say(format!(
            "requests that reached {} while unready without NAT rule: {late}",
            pod.id
        ));
        until(|| lock(&nat).lists(pod.id, clock.now())).await
    }

    /// Part (b), a rolling deployment: start a new pod, wait until it is ready, delete an old one, without waiting
    /// for it to be gone, as the deployment controller does.
    async fn replace_all(&mut self) -> anyhow::Result<()> {
        let scene = self.cluster.scene.clone();
        scene.title(format!("{}: a rolling deployment", self.setup.name()));
        let mut leaving = JoinSet::new();
        for old in std::mem::take(&mut self.pods) {
            let mut new = self.start_pod()?;
            new.wait_ready(true).await?;
            sleep(MIN_READY).await;
            scene.say(format!("{} is available; {} is deleted", new.id, old.id));
            self.pods.push(new);
            leaving.spawn(see_off(old, scene.clone()));
        }
        let all = timeout(GRACE_PERIOD + PATIENCE, async {
            while let Some(left) = leaving.join_next().await {
                let left = left.context("a deletion broke off")??;
                scene.stage().tally.left.push(left);
            }
            anyhow::Ok(())
        });
        all.await.context("a pod did not leave within its grace period")??;
        sleep(Duration::from_millis(500)).await; // what the last pod's end has cut comes in
        Ok(())
    }

    fn start_pod(&mut self) -> anyhow::Result<Pod> {
        self.started += 1;
        Pod::start(PodId(self.started), self.setup, &self.exe, &mut self.ports, &self.cluster)
    }
}

// === helpers ===

async fn see_off(pod: Pod, scene: Scene) -> anyhow::Result<Left> {
    let id = pod.id;
    let left = pod.delete().await?;
    // The clients learn of cut connections in the same instant; give their tasks a turn before counting.
    sleep(Duration::from_millis(100)).await;
    let failed = scene.stage().tally.failed_by_pod.get(&id).copied().unwrap_or(0);
    let took = left.took.as_secs_f64();
    scene.say(format!("{id} is gone after {took:.1} s; {failed} of its requests failed"));
    for problem in &left.problems {
        scene.say(problem.clone());
    }
    scene.hide(id);
    Ok(left)
}

/// Waits until `true_now`, which only time makes true: rules come into force without telling anybody.
async fn until(mut true_now: impl FnMut() -> bool) -> anyhow::Result<()> {
    let looking = async {
        while !true_now() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(NAT_LAG + PATIENCE, looking).await.context("the NAT rules did not change in time")
}
