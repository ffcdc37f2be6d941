//! A client that calls the webhook as an API server does: TLS with the `caBundle`, HTTP/2, many requests at once.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lameduck::clock::unix_seconds;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    time_provider::TimeProvider,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::injector::NAME;

pub const JSON: &str = "application/json";

/// An HTTP/2 connection. Clones share it.
#[derive(Clone)]
pub struct Client {
    sender: http2::SendRequest<Full<Bytes>>,
    /// The certificate that was shown.
    pub shown: CertificateDer<'static>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

// === impl Client ===

impl Client {
    /// Connects, trusting the CAs in `pem` only.
    pub async fn connect(webhook: SocketAddr, pem: &str) -> io::Result<Self> {
        Self::new(handshake(webhook, pem, b"h2").await?).await
    }

    /// The same, for a client whose clock is so many seconds ahead.
    pub async fn connect_ahead(webhook: SocketAddr, pem: &str, ahead: u64) -> io::Result<Self> {
        let config = config(pem, b"h2", Ahead(ahead))?;
        Self::new(handshake_with(webhook, config).await?).await
    }

    async fn new(stream: TlsStream<TcpStream>) -> io::Result<Self> {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, shown })
    }

    /// Whether the webhook has asked for going elsewhere.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Posts a review.
    pub async fn post(&self, body: impl Into<Bytes>) -> hyper::Result<Answer> {
        let request = Request::post(format!("https://{NAME}/inject?timeout=5s"));
        self.send(request.header(header::CONTENT_TYPE, JSON).body(Full::new(body.into())).unwrap())
            .await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        let mut sender = self.sender.clone();
        sender.ready().await?;
        whole(sender.send_request(request).await?).await
    }
}

/// Whether a request that failed so was never looked at, so that it may be sent elsewhere: the connection had ended before
/// it was sent, or a GOAWAY without an error came and the stream is none of those below its last id (RFC 9113 §6.8). The
/// API server sends such requests again, too. A stream that the webhook had taken and then dropped fails as broken.
pub fn is_unprocessed(error: &hyper::Error) -> bool {
    let told = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    let gone = told.is_some_and(|error: &h2::Error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    });
    gone || error.is_canceled() || error.is_closed()
}

/// An HTTP/1.1 connection of TLS.
pub async fn connect_http1(
    webhook: SocketAddr,
    pem: &str,
) -> io::Result<http1::SendRequest<Full<Bytes>>> {
    let stream = handshake(webhook, pem, b"http/1.1").await?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

pub async fn whole(response: Response<hyper::body::Incoming>) -> hyper::Result<Answer> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body })
}

pub async fn handshake(
    webhook: SocketAddr,
    pem: &str,
    protocol: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    handshake_with(webhook, config(pem, protocol, Ahead(0))?).await
}

async fn handshake_with(
    webhook: SocketAddr,
    config: ClientConfig,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(webhook).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
}

/// A clock that is so many seconds ahead of the calendar.
#[derive(Debug)]
struct Ahead(u64);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(unix_seconds() + self.0)))
    }
}

fn config(pem: &str, protocol: &[u8], clock: Ahead) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

/// Asks without TLS.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, "health").body(Full::<Bytes>::default());
    let response = sender.send_request(request.unwrap()).await.map_err(io::Error::other)?;
    let answer = whole(response).await.map_err(io::Error::other)?;
    Ok((answer.status, String::from_utf8(answer.body.to_vec()).unwrap()))
}
