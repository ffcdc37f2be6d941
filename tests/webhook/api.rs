//! An API server: one Secret, one webhook configuration, some nodes; with the conflicts that a real one has.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use lameduck::clock::unix_seconds;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Barrier};

/// A running API server. Clones share it.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    cluster: Arc<Mutex<Cluster>>,
}

pub struct Cluster {
    version: u64,
    pub secret: Value,
    pub configuration: Value,
    /// kubelets' versions.
    pub nodes: Vec<String>,
    /// Answers 403 to who asks for them.
    pub nodes_are_forbidden: bool,
    /// What `/version` says; 403 if there is nothing.
    pub version_told: Option<(&'static str, &'static str)>,
    /// Holds the first answer to who asks for the version until somebody else waits, too.
    pub version_gate: Option<Arc<Barrier>>,
    /// Holds the first list of nodes until somebody else waits, too.
    pub nodes_gate: Option<Arc<Barrier>>,
    /// By how many seconds its clock is ahead of ours.
    pub ahead: u64,
    /// Answers 503 to everything.
    pub is_away: bool,
    /// Lets so many readers of the Secret go on at the same moment, once each.
    gate: Option<Arc<Barrier>>,
    /// Holds patches of the configuration: who waits here meets each of them twice, as it comes and as it is obeyed.
    patch_gate: Option<Arc<Barrier>>,
    /// Certificates that were put into the Secret, PEM.
    pub cas: Vec<String>,
    /// Answers of 409 and 422.
    pub conflicts: usize,
}

/// A kubeconfig that leads to `server`, whose certificate is signed by `ca`, PEM.
pub fn kubeconfig(server: &str, ca: Option<&str>) -> String {
    let mut cluster = json!({"server": server});
    if let Some(ca) = ca {
        cluster["certificate-authority-data"] = BASE64_STANDARD.encode(ca).into();
    }
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {}}],
    })
    .to_string()
}

// === impl Api ===

impl Api {
    /// A cluster in which the chart has just been installed.
    pub async fn start() -> Self {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "injector-ca", "namespace": "lameduck-system", "resourceVersion": "1"},
        });
        let webhook =
            |name: &str| json!({"name": name, "clientConfig": {"service": {"path": "/inject"}}});
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "lameduck-injector", "resourceVersion": "2"},
            "webhooks": [webhook("namespace.inject.lameduck.dev"), webhook("pod.inject.lameduck.dev")],
        });
        let cluster = Arc::new(Mutex::new(Cluster {
            version: 2,
            secret,
            configuration,
            nodes: vec!["v1.33.5".to_owned()],
            nodes_are_forbidden: false,
            version_told: Some(("1", "33")),
            version_gate: None,
            nodes_gate: None,
            ahead: 0,
            is_away: false,
            gate: None,
            patch_gate: None,
            cas: Vec::new(),
            conflicts: 0,
        }));
        let routes = Router::new()
            .route(
                "/api/v1/namespaces/lameduck-system/secrets/injector-ca",
                get(get_secret).put(put_secret),
            )
            .route(
                "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/lameduck-injector",
                get(get_configuration).patch(patch_configuration),
            )
            .route("/api/v1/nodes", get(get_nodes))
            .route("/version", get(get_version))
            .layer(middleware::from_fn_with_state(cluster.clone(), away))
            .layer(middleware::from_fn_with_state(cluster.clone(), dated))
            .with_state(cluster.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, cluster }
    }

    pub fn kubeconfig(&self) -> String {
        kubeconfig(&format!("http://{}", self.address), None)
    }

    /// Looks at the cluster, or changes it.
    pub fn with<T>(&self, f: impl FnOnce(&mut Cluster) -> T) -> T {
        f(&mut self.cluster.lock().unwrap())
    }

    /// Has the first `count` readers of the Secret all see the same.
    pub fn gather(&self, count: usize) {
        self.with(|cluster| cluster.gate = Some(Arc::new(Barrier::new(count))));
    }

    /// Holds the next patch of the configuration. To wait at the barrier once is to wait until the patch has come, and
    /// the second time lets it go on.
    pub fn hold_patch(&self) -> Arc<Barrier> {
        let gate = Arc::new(Barrier::new(2));
        self.with(|cluster| cluster.patch_gate = Some(gate.clone()));
        gate
    }

    /// Whom the API server trusts when it calls the webhooks, which is the same for all of them. PEM.
    pub fn bundle(&self) -> String {
        self.with(|cluster| {
            let webhooks = cluster.configuration["webhooks"].as_array().unwrap();
            let bundles =
                webhooks.iter().map(|webhook| webhook["clientConfig"]["caBundle"].as_str());
            let bundles: Vec<&str> = bundles.map(Option::unwrap_or_default).collect();
            assert!(bundles.windows(2).all(|pair| pair[0] == pair[1]), "{bundles:?}");
            String::from_utf8(BASE64_STANDARD.decode(bundles[0]).unwrap()).unwrap()
        })
    }
}

// === impl Cluster ===

impl Cluster {
    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// Puts a CA into the Secret as somebody else would.
    pub fn set_ca(&mut self, certificate: &str, key: &str) {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        self.secret["data"] = json!({"ca.crt": encode(certificate), "ca.key": encode(key)});
        self.secret["metadata"]["resourceVersion"] = self.next_version().into();
    }

    /// Writes the `caBundle` of all webhooks, as a careless tool would.
    pub fn set_bundle(&mut self, bundle: &Value) {
        for webhook in self.configuration["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = bundle.clone();
        }
        self.configuration["metadata"]["resourceVersion"] = self.next_version().into();
    }
}

// === handlers ===

type Shared = Arc<Mutex<Cluster>>;

async fn away(State(cluster): State<Shared>, request: Request, next: Next) -> Response {
    if cluster.lock().unwrap().is_away {
        return status(StatusCode::SERVICE_UNAVAILABLE, "away");
    }
    next.run(request).await
}

async fn dated(State(cluster): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let now = UNIX_EPOCH + Duration::from_secs(unix_seconds() + cluster.lock().unwrap().ahead);
    let date = httpdate::fmt_http_date(now).parse().unwrap();
    response.headers_mut().insert(header::DATE, date);
    response
}

async fn get_secret(State(cluster): State<Shared>) -> Response {
    let (secret, gate) = {
        let cluster = cluster.lock().unwrap();
        (cluster.secret.clone(), cluster.gate.clone())
    };
    if let Some(gate) = gate {
        gate.wait().await;
        cluster.lock().unwrap().gate = None;
    }
    Json(secret).into_response()
}

async fn put_secret(State(cluster): State<Shared>, Json(mut secret): Json<Value>) -> Response {
    let mut cluster = cluster.lock().unwrap();
    if secret["metadata"]["resourceVersion"] != cluster.secret["metadata"]["resourceVersion"] {
        cluster.conflicts += 1;
        return status(StatusCode::CONFLICT, "the object has been modified");
    }
    secret["metadata"]["resourceVersion"] = cluster.next_version().into();
    let certificate = BASE64_STANDARD.decode(secret["data"]["ca.crt"].as_str().unwrap()).unwrap();
    cluster.cas.push(String::from_utf8(certificate).unwrap());
    cluster.secret = secret.clone();
    Json(secret).into_response()
}

async fn get_configuration(State(cluster): State<Shared>) -> Response {
    Json(cluster.lock().unwrap().configuration.clone()).into_response()
}

async fn patch_configuration(State(cluster): State<Shared>, body: Bytes) -> Response {
    let gate = cluster.lock().unwrap().patch_gate.take();
    if let Some(gate) = gate {
        gate.wait().await;
        gate.wait().await;
    }
    let mut cluster = cluster.lock().unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&body).unwrap();
    let mut configuration = cluster.configuration.clone();
    if json_patch::patch(&mut configuration, &patch).is_err() {
        cluster.conflicts += 1;
        return status(StatusCode::UNPROCESSABLE_ENTITY, "the server rejected our request");
    }
    configuration["metadata"]["resourceVersion"] = cluster.next_version().into();
    cluster.configuration = configuration.clone();
    Json(configuration).into_response()
}

/// Two nodes per page, as if there were many.
async fn get_nodes(State(cluster): State<Shared>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let from = query.split_once("continue=").map_or(0, |(_, from)| from.parse().unwrap());
    let (nodes, is_forbidden, gate) = {
        let mut cluster = cluster.lock().unwrap();
        (cluster.nodes.clone(), cluster.nodes_are_forbidden, cluster.nodes_gate.take())
    };
    if let Some(gate) = gate {
        gate.wait().await;
    }
    if is_forbidden {
        return status(StatusCode::FORBIDDEN, "nodes is forbidden");
    }
    let page = nodes.iter().skip(from).take(2);
    let node = |version| json!({"metadata": {"name": "n"}, "status": {"nodeInfo": {"kubeletVersion": version}}});
    let items: Vec<Value> = page.map(node).collect();
    let next = if from + 2 < nodes.len() { (from + 2).to_string() } else { String::new() };
    Json(json!({"kind": "NodeList", "metadata": {"continue": next}, "items": items}))
        .into_response()
}

async fn get_version(State(cluster): State<Shared>) -> Response {
    let (told, gate) = {
        let mut cluster = cluster.lock().unwrap();
        (cluster.version_told, cluster.version_gate.take())
    };
    if let Some(gate) = gate {
        gate.wait().await;
    }
    match told {
        Some((major, minor)) => Json(json!({
            "major": major, "minor": minor, "gitVersion": format!("v{major}.{minor}.0"), "platform": "linux/amd64",
        }))
        .into_response(),
        None => status(StatusCode::FORBIDDEN, "forbidden: cannot get path \"/version\""),
    }
}

fn status(code: StatusCode, message: &str) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "message": message,
    });
    (code, Json(status)).into_response()
}
