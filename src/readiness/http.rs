//! One HTTP request to the app, as kubelet asks it (`pkg/probe/http` of Kubernetes).
//!
//! A new connection per request: an idle one would prove nothing about the app now.

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    uri::PathAndQuery,
};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    config::HttpGet,
    readiness::{own_user_agent, tls},
};

/// How much of a body is read: kubelet's `maxRespBodyLength`.
const BODY_MAX: usize = 10 * 1024;

/// How many requests one chain of redirects may take: Go's `http.Client` stops there, hence kubelet.
const REQUESTS_MAX: u32 = 10;

/// Why the app could not be asked, or its answer not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The configured probe can't be asked.
    #[error("the probe's {what} can't be asked: {value:?}")]
    BadProbe { what: &'static str, value: String },
    /// No connection.
    #[error("connecting to {host}:{port}: {source}")]
    Connect { host: String, port: u16, source: std::io::Error },
    /// It does not speak gRPC health.
    #[error("the app's answer is no gRPC health answer: {0}")]
    Grpc(String),
    /// It broke off, or what it answered is not HTTP.
    #[error("the app's answer: {0}")]
    Http(#[from] hyper::Error),
    /// It redirects in circles.
    #[error("the app redirects more than {REQUESTS_MAX} times")]
    Redirects,
    /// No TLS session.
    #[error("TLS with {host}:{port}: {source}")]
    Tls { host: String, port: u16, source: std::io::Error },
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
}

// === impl AskError ===

impl AskError {
    /// Whether the app answered a TLS handshake with something else: it speaks HTTP without TLS.
    pub(crate) fn is_plain_http(&self) -> bool {
        let Self::Tls { source, .. } = self else { return false };
        let error = source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        matches!(
            error,
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))
        )
    }
}

// === asking ===

/// Asks what `get` says and follows redirects on its host.
pub(crate) async fn get(
    get: &HttpGet,
    user_agent: Option<&HeaderValue>,
) -> Result<(StatusCode, Bytes), AskError> {
    let HttpGet { https, host, port, path, headers } = get;
    let mut url = Url { https: *https, host: host.clone(), port: *port, path: path.clone() };
    let mut headers = probe_headers(headers, user_agent);
    for _ in 0..REQUESTS_MAX {
        let response = send(&url, Method::GET, headers.clone()).await?;
        match redirect(&url, &response) {
            Some(next) => {
                // An absolute location names its own host; a relative one means the host that was asked.
                if next.is_absolute {
                    headers.remove(header::HOST);
                }
                url = next.url;
            }
            None => return Ok((response.status(), response.into_body())),
        }
    }
    Err(AskError::Redirects)
}

/// One request without a body, on a connection of its own. `Host` is `url`'s unless `headers` has one.
pub(crate) async fn send(
    url: &Url,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Bytes>, AskError> {
    let request = request(url, method, headers)?;
    let tcp = connect(&url.host, url.port).await?;
    if url.https {
        let tls = tls::connect(unbracketed(&url.host), tcp)
            .await
            .map_err(|source| AskError::Tls { host: url.host.clone(), port: url.port, source })?;
        exchange(tls, request).await
    } else {
        exchange(tcp, request).await
    }
}

/// A TCP connection.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, AskError> {
    TcpStream::connect((unbracketed(host), port)).await.map_err(|source| AskError::Connect {
        host: host.to_owned(),
        port,
        source,
    })
}

/// `host:port`, as `Host` and `:authority` spell it.
pub(super) fn authority(host: &str, port: u16) -> String {
    let host = unbracketed(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Reads `body` up to [`BODY_MAX`]; the rest is of no interest.
pub(super) async fn read(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = BODY_MAX - all.len();
            all.extend_from_slice(&data[..data.len().min(room)]);
            if all.len() == BODY_MAX {
                break;
            }
        }
    }
    Ok(all.freeze())
}

// === helpers ===

struct Redirect {
    url: Url,
    is_absolute: bool,
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The probe's own headers, completed as kubelet does it.
fn probe_headers(own: &[(HeaderName, HeaderValue)], user_agent: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in own {
        headers.append(name.clone(), value.clone());
    }
    let agent = || user_agent.cloned().unwrap_or_else(own_user_agent);
    headers.entry(header::USER_AGENT).or_insert_with(agent);
    headers.entry(header::ACCEPT).or_insert_with(|| HeaderValue::from_static("*/*"));
    headers
}

fn request(
    url: &Url,
    method: Method,
    mut headers: HeaderMap,
) -> Result<Request<Full<Bytes>>, AskError> {
    let bad = |what, value: &str| AskError::BadProbe { what, value: value.to_owned() };
    let path = if url.path.starts_with('/') { url.path.clone() } else { format!("/{}", url.path) };
    let path: PathAndQuery = path.parse().map_err(|_| bad("path", &url.path))?;
    let host = HeaderValue::try_from(authority(&url.host, url.port))
        .map_err(|_| bad("host", &url.host))?;
    headers.entry(header::HOST).or_insert(host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Full::default());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;
    Ok(request)
}

async fn exchange<I>(io: I, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, AskError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, read(body).await?))
    };
    drive(connection, exchange).await
}

/// Runs `exchange` together with the `connection` it goes over. A connection that ends first has handed over
/// what it had, and `exchange` sees its error.
pub(super) async fn drive<C, E, T>(connection: C, exchange: E) -> Result<T, AskError>
where
    C: Future<Output = Result<(), hyper::Error>>,
    E: Future<Output = Result<T, AskError>>,
{
    let (mut connection, mut exchange) = (std::pin::pin!(connection), std::pin::pin!(exchange));
    tokio::select! {
        done = &mut exchange => done,
        _ended = &mut connection => exchange.await,
    }
}

/// Where `response` sends us, if that is on the same host: kubelet follows no other redirect and takes the 3xx
/// for an answer.
fn redirect(from: &Url, response: &Response<Bytes>) -> Option<Redirect> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let location = location.split('#').next().unwrap_or_default();
    let is_absolute = location.contains("://") || location.starts_with("//");
    let url = if is_absolute { absolute(from, location)? } else { relative(from, location) };
    unbracketed(&url.host)
        .eq_ignore_ascii_case(unbracketed(&from.host))
        .then_some(Redirect { url, is_absolute })
}

fn absolute(from: &Url, location: &str) -> Option<Url> {
    let scheme = if from.https { "https:" } else { "http:" };
    let location = if location.starts_with("//") {
        format!("{scheme}{location}")
    } else {
        location.to_owned()
    };
    let uri: Uri = location.parse().ok()?;
    let https = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    Some(Url {
        https,
        host: uri.host()?.to_owned(),
        port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
        path: uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
    })
}

fn relative(from: &Url, location: &str) -> Url {
    let path = from.path.split('?').next().unwrap_or_default();
    let path = match location.chars().next() {
        None => from.path.clone(),
        Some('/') => location.to_owned(),
        Some('?') => format!("{path}{location}"),
        Some(_) => {
            let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            format!("{folder}{location}")
        }
    };
    Url { path, ..from.clone() }
}
