//! What stands around pods: a Service that publishes them to the balancer, and a Deployment that replaces them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use lameduck::clock::Clock;
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};

use crate::{
    balancer::Balancer,
    kubelet::{
        Pod, Settings,
        manifest::{Port, Template},
    },
};

/// From a change of an endpoint until it steers new connections. kube-proxy writes its rules at most once a second
/// (`iptables.minSyncPeriod`'s default), and a small cluster adds little to that. The story saw 5-10 s; drains are
/// scaled down by about as much.
const LAG: Duration = Duration::from_secs(1);
/// Processes of a debug build on a busy machine, and a few probe periods.
const LONGEST_START: Duration = Duration::from_secs(30);
/// No drain here has a longer budget; a pod that takes longer hangs.
const LONGEST_LEAVE: Duration = Duration::from_secs(60);

/// A Service of one port, and the rules that lead to it.
pub(crate) struct Service {
    clock: Clock,
    selector: BTreeMap<String, String>,
    target: Port,
    balancer: Arc<Balancer>,
}

/// A Deployment with maxSurge 1 and maxUnavailable 0.
pub(crate) struct Deployment {
    pub(crate) service: Service,
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Pods that were deleted, in that order.
    pub(crate) left: Vec<Arc<Pod>>,
    name: String,
    template: Template,
    settings: Settings,
    clock: Clock,
    started: usize,
    rules: JoinSet<()>,
}

#[derive(Deserialize)]
struct ServiceManifest {
    spec: ServiceSpec,
}

#[derive(Deserialize)]
struct ServiceSpec {
    selector: BTreeMap<String, String>,
    ports: Vec<ServicePort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort {
    port: u16,
    #[serde(default)]
    target_port: Option<Port>,
}

// === impl Service ===

impl Service {
    /// The Service that `manifest` describes.
    pub(crate) fn new(manifest: &Value, balancer: &Arc<Balancer>, clock: Clock) -> Self {
        let ServiceManifest { spec } = serde_json::from_value(manifest.clone())
            .unwrap_or_else(|error| panic!("no Service: {error}\n{manifest:#}"));
        let [port] = &spec.ports[..] else { panic!("not one port: {manifest:#}") };
        let target = port.target_port.clone().unwrap_or(Port::Number(port.port));
        Self { clock, selector: spec.selector, target, balancer: Arc::clone(balancer) }
    }

    /// Whether pods of `template` are its own.
    fn selects(&self, template: &Template) -> bool {
        let labels = &template.metadata.labels;
        self.selector.iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    /// Where it leads for `pod`.
    pub(crate) fn endpoint(&self, pod: &Pod) -> SocketAddr {
        let port = pod.spec().find_port(&self.target);
        let port = port.unwrap_or_else(|| panic!("no container port is {:?}", self.target));
        (pod.ip(), port).into()
    }

    /// Publishes `pod` while it is ready and not deleted, each time [`LAG`] late.
    fn follow(&self, pod: &Pod) -> impl Future<Output = ()> + use<> {
        let endpoint = self.endpoint(pod);
        let (clock, balancer, mut state) = (self.clock, Arc::clone(&self.balancer), pod.watch());
        let (tell, mut changes) = mpsc::unbounded_channel();
        let watch = async move {
            let mut was = false;
            loop {
                let is = {
                    let state = state.borrow_and_update();
                    state.is_ready() && state.deleted.is_none()
                };
                if is != was {
                    was = is;
                    let _ends_together = tell.send((clock.now() + LAG, is));
                }
                if state.changed().await.is_err() {
                    return;
                }
            }
        };
        let apply = async move {
            while let Some((at, is)) = changes.recv().await {
                sleep_until(clock.instant(at)).await;
                if is {
                    balancer.add(endpoint);
                } else {
                    balancer.remove(endpoint);
                }
            }
        };
        async {
            tokio::join!(watch, apply);
        }
    }
}

// === impl Deployment ===

impl Deployment {
    /// Starts `replicas` pods of the Deployment `manifest` and waits until the Service leads to all of them.
    pub(crate) async fn start(
        manifest: &Value,
        replicas: usize,
        service: Service,
        settings: Settings,
    ) -> Self {
        let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
        let template = Template::parse(&manifest["spec"]["template"]);
        assert!(service.selects(&template), "{:?}: not selected", template.metadata);
        let clock = service.clock;
        let (pods, left) = (Vec::new(), Vec::new());
        let rules = JoinSet::new();
        let mut deployment =
            Self { service, pods, left, name, template, settings, clock, started: 0, rules };
        for _ in 0..replicas {
            let pod = deployment.create().await;
            deployment.pods.push(pod);
        }
        for pod in &deployment.pods {
            pod.wait_ready(LONGEST_START).await;
        }
        deployment.wait_published(replicas).await;
        deployment
    }

    /// Replaces every pod by a new one, and goes on as soon as the last new one is ready, as `kubectl rollout status` does.
    pub(crate) async fn roll(&mut self) {
        for old in std::mem::take(&mut self.pods) {
            let new = self.create().await;
            new.wait_ready(LONGEST_START).await;
            self.pods.push(new);
            self.delete(&old, None);
        }
    }

    /// Deletes a pod.
    pub(crate) fn delete(&mut self, pod: &Arc<Pod>, grace: Option<Duration>) {
        self.pods.retain(|other| !Arc::ptr_eq(other, pod));
        pod.delete(grace);
        self.left.push(Arc::clone(pod));
    }

    /// Waits until the deleted pods are gone.
    pub(crate) async fn settle(&self) {
        for pod in &self.left {
            pod.wait_gone(LONGEST_LEAVE).await;
        }
    }

    /// Waits until the Service leads to `count` pods.
    pub(crate) async fn wait_published(&self, count: usize) {
        let balancer = &self.service.balancer;
        crate::until(&format!("{count} endpoints"), LONGEST_START, || {
            (balancer.endpoints().len() == count).then_some(())
        })
        .await;
    }

    async fn create(&mut self) -> Arc<Pod> {
        self.started += 1;
        let name = format!("{}-{}", self.name, self.started);
        let pod = Pod::start(&name, &self.template, self.settings.clone(), self.clock).await;
        self.rules.spawn(self.service.follow(&pod));
        Arc::new(pod)
    }
}

impl std::fmt::Display for Deployment {
    /// What happened to the pods that are not there any more, and to those that are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.left.iter().chain(&self.pods).try_for_each(|pod| writeln!(f, "{pod}"))
    }
}
