//! One request at a time to the admin address of a running sidecar.
//!
//! Not here: what is asked. Every wait has a limit; the address is never followed elsewhere.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::AdminArgs;
use crate::config::{AdminAccess, Secret, Vars};

/// The admin address is in the same pod: whoever does not accept within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The admin thread does nothing that takes long; holding hooks have a limit of their own.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// `/status` is about a kilobyte; more than this is no sidecar's answer.
const LONGEST_BODY: usize = 1 << 20;

/// Asks one running sidecar.
pub(super) struct Client {
    addr: SocketAddr,
    token: Option<Secret>,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

/// Nobody answers there. The words say where we looked and what to check.
#[derive(Debug, thiserror::Error)]
#[error(
    "no sidecar at {addr}: {cause}. Is `lameduck proxy` running in this pod, and is LAMEDUCK_ADMIN_ADDR or --admin its admin address?"
)]
pub(super) struct Unreachable {
    addr: SocketAddr,
    cause: String,
}

// === impl Client ===

impl Client {
    /// A client for the sidecar that `args` and the environment describe.
    pub(super) fn new(args: &AdminArgs, vars: &dyn Vars) -> anyhow::Result<Self> {
        let AdminAccess { addr, token } = AdminAccess::from_vars(vars)?;
        Ok(Self { addr: reachable(args.admin.unwrap_or(addr)), token })
    }

    /// Sends `method path` and reads the whole answer within `limit`.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        limit: Duration,
    ) -> anyhow::Result<Answer> {
        let unreachable = |cause: String| Unreachable { addr: self.addr, cause };
        let io = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.addr))
            .await
            .map_err(|_| unreachable("it does not accept connections".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let exchange = self.exchange(io, method, path);
        timeout(limit, exchange).await.with_context(|| {
            let limit = crate::units::format_duration(limit);
            format!("{} accepted, but did not answer {path} within {limit}", self.addr)
        })?
    }

    /// The same, where everything but a success is an error.
    pub(super) async fn demand(
        &self,
        method: Method,
        path: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        let Answer { status, body } = self.ask(method, path, limit).await?;
        if status.is_success() {
            return Ok(body);
        }
        let hint = match status {
            StatusCode::FORBIDDEN => " (LAMEDUCK_HOOK_TOKEN must be the sidecar's)",
            StatusCode::NOT_FOUND => " (is this the sidecar's admin port?)",
            _ => "",
        };
        anyhow::bail!("{} answered {path} with {status}{hint}: {}", self.addr, body.trim())
    }

    async fn exchange(&self, io: TcpStream, method: Method, path: &str) -> anyhow::Result<Answer> {
        let failed = || format!("asking {} for {path}", self.addr);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(io)).await.with_context(failed)?;
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, self.addr.to_string());
        if let Some(token) = &self.token {
            request = request.header("Lameduck-Token", token.reveal());
        }
        let request = request.body(Empty::<Bytes>::new()).with_context(failed)?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST_BODY).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            anyhow::Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
        };
        // The connection is driven here rather than in a task of its own: it ends with the answer.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error.into()),
            },
        }
        .with_context(failed)
    }
}

/// Runs `future` on a runtime of its own: a tool needs one thread and no more.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(future)
}

/// Where to connect to reach a listener at `addr`: "all addresses" is none. `[::]` takes IPv4 too, and is no more than that
/// on a host without IPv6 ([`crate::socket::listen`]).
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().to_canonical().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    addr
}
