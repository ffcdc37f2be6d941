//! How kubelet asks and tells a container: the handlers of probes and hooks.
//!
//! A request has the shape that kubelet's was measured to have. It carries no timeout of its own: whoever calls says how
//! long it waits. (`runHTTPHandler` in `lifecycle/handlers.go`, `probe/http/request.go`.)

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    grpc,
    manifest::{Handler, HttpGet, Scheme},
    process::{Log, Process},
    shared::{Own, Shared},
    tls,
};

/// As much of an answer as kubelet reads.
const MOST_OF_BODY: usize = 10 << 10;

/// Whose handler it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    Hook,
    Probe,
}

/// What a handler that could be carried out says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// An HTTP answer with this status.
    Status(u16),
    /// The other kinds have only one way to succeed.
    Done,
}

/// Carries out a handler of `own`; the error says why that was not possible.
pub(crate) async fn call(
    handler: &Handler,
    purpose: As,
    own: &Own,
    shared: &Shared,
) -> Result<Said, String> {
    match handler {
        Handler::HttpGet(get) => http_get(get, purpose, own, shared).await.map(Said::Status),
        // A hook of this kind does nothing. (It is deprecated.)
        Handler::TcpSocket { .. } if purpose == As::Hook => Ok(Said::Done),
        Handler::TcpSocket { port } => {
            let addr = SocketAddr::from((shared.network.ip, own.spec.port(port)?));
            connect(addr).await.map(|_| Said::Done)
        }
        Handler::Exec { command } => exec(command, own, shared).await,
        Handler::Grpc { port, .. } if purpose == As::Hook => {
            Err(format!("a hook can't be a gRPC call, and one asks {port}"))
        }
        Handler::Grpc { port, service } => {
            let addr = SocketAddr::from((shared.network.ip, *port));
            grpc::check(addr, service).await.map(|()| Said::Done)
        }
        Handler::Sleep { seconds } => {
            shared.let_pass(Duration::from_secs(*seconds)).await;
            Ok(Said::Done)
        }
    }
}

async fn http_get(get: &HttpGet, purpose: As, own: &Own, shared: &Shared) -> Result<u16, String> {
    let ip = match &get.host {
        None => IpAddr::from(shared.network.ip),
        Some(host) => host.parse().map_err(|error| format!("host {host}: {error}"))?,
    };
    let addr = SocketAddr::from((ip, own.spec.port(&get.port)?));
    let stream = connect(addr).await?;
    let request = request(get, purpose, addr)?;
    match get.scheme {
        Scheme::Http => exchange(stream, request).await,
        Scheme::Https => exchange(tls::over(stream, ip).await?, request).await,
    }
}

pub(super) async fn connect(addr: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(addr).await.map_err(|error| format!("dial {addr}: {error}"))
}

fn request(get: &HttpGet, purpose: As, addr: SocketAddr) -> Result<Request<Empty<Bytes>>, String> {
    let agent = match purpose {
        As::Hook => "kube-lifecycle/1.33",
        As::Probe => "kube-probe/1.33",
    };
    let mut request = Request::get(&get.path)
        .header(header::HOST, addr.to_string())
        .header(header::USER_AGENT, agent)
        .header(header::ACCEPT, "*/*");
    request = match purpose {
        As::Hook => request.header(header::ACCEPT_ENCODING, "gzip"),
        As::Probe => request.header(header::CONNECTION, "close"),
    };
    let mut request = request
        .body(Empty::new())
        .map_err(|error| format!("httpGet.path {}: {error}", get.path))?;
    for own in &get.http_headers {
        let name = HeaderName::try_from(&own.name);
        let name = name.map_err(|error| format!("httpHeaders {}: {error}", own.name))?;
        let value = HeaderValue::try_from(&own.value);
        let value = value.map_err(|error| format!("httpHeaders {}: {error}", own.name))?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<u16, String> {
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| format!("handshake: {error}"))?;
    let talk = async {
        let mut response =
            sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let mut read = 0;
        while read < MOST_OF_BODY
            && let Some(frame) = response.body_mut().frame().await
        {
            let frame = frame.map_err(|error| format!("broken body: {error}"))?;
            read += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok(response.status().as_u16())
    };
    let driver = async {
        // Its errors reach the one who waits for the answer.
        let _ended = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        said = talk => said,
        () = driver => unreachable!("must be pending"),
    }
}

async fn exec(command: &[String], own: &Own, shared: &Shared) -> Result<Said, String> {
    let log = Log::default();
    let local = shared.settings.local(command);
    let mut process = Process::start(&own.enter, &shared.name, &local, &own.environment, &log);
    match process.wait().await {
        exit if exit.is_success() => Ok(Said::Done),
        exit => Err(format!("command {command:?} exited with {exit}: {}", log.lines().join("; "))),
    }
}
