//! The API server as the injector needs it: one Secret, one webhook configuration, the nodes' versions or its own.
//!
//! Objects are JSON as they came, so that nothing of theirs is lost on the way back. Not here: what is done with them.

use std::{path::Path, time::Duration};

use http::{Method, Request, Response, header};
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;
use tower::util::MapResponseLayer;

use super::{
    calendar::Calendar,
    nodes::{Oldest, Page},
    settings::SelfManaged,
    version::Version,
};

/// An API server that is well answers within a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Nodes per page. A node is some 10 KiB of JSON, most of it names of images.
const NODES_PER_PAGE: usize = 50;

/// Access to the cluster's API.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    calendar: Calendar,
}

/// Nobody knows how to reach the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no service account.
    #[error("not in a pod with a service account, and no --kubeconfig is given: {0}")]
    NotInCluster(#[source] kube::config::InClusterError),
    /// The file is none.
    #[error("--kubeconfig={path}: {error}")]
    Kubeconfig {
        /// Where it should be.
        path: String,
        /// What is wrong with it.
        error: kube::config::KubeconfigError,
    },
    /// The credentials can't be used.
    #[error("the API server's address or credentials can't be used: {0}")]
    Client(#[source] kube::Error),
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {problem}")]
pub(super) struct CallError {
    call: String,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the API server says {code}: {message}")]
    Refused { code: u16, message: String },
    #[error("{0}")]
    Broken(String),
    #[error("no answer within {TIMEOUT:?}")]
    TimedOut,
}

// === impl Cluster ===

impl Cluster {
    /// Prepares to talk to the API server of `kubeconfig`, or of the pod we are in. Nothing is sent yet. What it answers sets
    /// `calendar`.
    ///
    /// # Errors
    /// Nobody knows how to reach it.
    pub(super) async fn connect(
        kubeconfig: Option<&Path>,
        calendar: Calendar,
    ) -> Result<Self, ConnectError> {
        let mut config = match kubeconfig {
            Some(path) => {
                let told =
                    |error| ConnectError::Kubeconfig { path: path.display().to_string(), error };
                let file = Kubeconfig::read_from(path).map_err(told)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(file, &options).await.map_err(told)?
            }
            None => Config::incluster().map_err(ConnectError::NotInCluster)?,
        };
        // Who calls decides when to try again, and readiness shows that it is necessary.
        config.default_retry = false;
        let learning = calendar.clone();
        let learn = move |answer: Response<Box<DynBody>>| {
            learning.learn(answer.headers());
            answer
        };
        let client = ClientBuilder::try_from(config).map_err(ConnectError::Client)?;
        let client = client.with_layer(&MapResponseLayer::new(learn)).build();
        Ok(Self { client, calendar })
    }

    /// What time it is for the API server, in seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.calendar.now()
    }

    /// The Secret with the CA.
    pub(super) async fn secret(&self, of: &SelfManaged) -> Result<Value, CallError> {
        self.call(Method::GET, &secret_path(of), None).await
    }

    /// Replaces the Secret; a conflict if it has changed since it was read.
    pub(super) async fn put_secret(
        &self,
        of: &SelfManaged,
        secret: &Value,
    ) -> Result<Value, CallError> {
        self.call(Method::PUT, &secret_path(of), Some(("application/json", secret))).await
    }

    /// The webhook configuration.
    pub(super) async fn configuration(&self, of: &SelfManaged) -> Result<Value, CallError> {
        self.call(Method::GET, &configuration_path(of), None).await
    }

    /// Applies a JSON patch to it; the answer is what it has become.
    pub(super) async fn patch_configuration(
        &self,
        of: &SelfManaged,
        patch: &Value,
    ) -> Result<Value, CallError> {
        let body = Some(("application/json-patch+json", patch));
        self.call(Method::PATCH, &configuration_path(of), body).await
    }

    /// The oldest kubelet of all nodes.
    pub(super) async fn oldest_kubelet(&self) -> Result<Oldest, CallError> {
        let mut oldest = Oldest::default();
        let mut path = format!("/api/v1/nodes?limit={NODES_PER_PAGE}");
        loop {
            let page: Page = self.call(Method::GET, &path, None).await?;
            oldest = oldest.with(&page);
            match page.next() {
                Some(next) => {
                    path = format!("/api/v1/nodes?limit={NODES_PER_PAGE}&continue={next}");
                }
                None => return Ok(oldest),
            }
        }
    }

    /// The API server's own version. Everybody may ask for it by default (`system:public-info-viewer`).
    pub(super) async fn version(&self) -> Result<Version, CallError> {
        self.call(Method::GET, "/version", None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<T, CallError> {
        let what = path.split('?').next().unwrap_or(path);
        let call = format!("{method} {what}");
        let failed = |problem| CallError { call: call.clone(), problem };
        let mut request = Request::builder().method(method).uri(path);
        if let Some((content_type, _)) = body {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let content = body.map_or_else(Vec::new, |(_, body)| body.to_string().into_bytes());
        let request =
            request.body(content).map_err(|error| failed(Problem::Broken(error.to_string())))?;
        match timeout(TIMEOUT, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => {
                let message = status.message.chars().take(300).collect();
                Err(failed(Problem::Refused { code: status.code, message }))
            }
            Ok(Err(error)) => Err(failed(Problem::Broken(with_causes(&error)))),
            Err(_) => Err(failed(Problem::TimedOut)),
        }
    }
}

// === impl CallError ===

impl CallError {
    /// Whether somebody else has changed the object since it was read.
    pub(super) const fn is_conflict(&self) -> bool {
        matches!(self.problem, Problem::Refused { code: 409, .. })
    }

    /// Whether a `test` of a JSON patch failed, or what the patch leads to is invalid.
    pub(super) const fn is_failed_test(&self) -> bool {
        matches!(self.problem, Problem::Refused { code: 422, .. })
    }
}

// === helpers ===

fn secret_path(SelfManaged { namespace, secret, .. }: &SelfManaged) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{secret}")
}

fn configuration_path(SelfManaged { webhook_configuration: name, .. }: &SelfManaged) -> String {
    format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}")
}

/// The error and what caused it; of a connection that fails the last cause says why.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
