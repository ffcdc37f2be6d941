//! TLS to the app without checking its certificate.
//!
//! A pod's own probe is asked at an address inside the pod, with certificates that are self-signed or made out
//! to the service's name; kubelet checks none of them (`InsecureSkipVerify` in `pkg/probe/http/http.go`), and a
//! probe that works without us must work through us. What is learnt is one status code, and nothing secret is
//! sent except what the probe's own headers carry. Nothing else in lameduck may use this.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("must support the default protocol versions: ring does")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnything { provider }))
        .with_no_client_auth();
    Arc::new(config)
});

/// Accepts every certificate; see the module's documentation.
#[derive(Debug)]
struct AcceptAnything {
    provider: Arc<CryptoProvider>,
}

/// A TLS session with `host` over `tcp`.
///
/// # Errors
/// If `host` is no name or address, or the handshake fails.
pub(super) async fn connect(host: &str, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
    TlsConnector::from(Arc::clone(&CONFIG)).connect(name, tcp).await
}

// === impl AcceptAnything ===

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
