//! TLS as a client sees it: an authority that signs certificates, the folder they are mounted in, and connections.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tempfile::TempDir;

use super::{PATIENCE, RawClient, pod::PodBuilder};

/// A client that speaks TLS.
pub type TlsClient = RawClient<StreamOwned<ClientConnection, TcpStream>>;

/// A CA, and who trusts it.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Pair {
    pub cert: CertificateDer<'static>,
    pub key: Vec<u8>,
}

/// Files as a Secret is mounted.
pub struct Mounted {
    folder: TempDir,
}

// === impl Authority ===

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `app.test` with this serial number.
    pub fn issue(&self, serial: u8) -> Pair {
        self.sign(serial, 2050)
    }

    /// The same, long expired.
    pub fn issue_expired(&self, serial: u8) -> Pair {
        self.sign(serial, 2020)
    }

    fn sign(&self, serial: u8, until: i32) -> Pair {
        let mut params = CertificateParams::new(vec!["app.test".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        params.serial_number = Some(vec![serial].into());
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pair { cert: cert.der().clone(), key: key.serialize_der() }
    }

    /// The CA's own certificate as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// A client that trusts the authority, without a certificate of its own, for HTTP/1.1.
    pub fn client_config(&self) -> ClientConfig {
        self.config(None, ALL_VERSIONS)
    }

    /// The same with a certificate.
    pub fn client_config_with(&self, pair: &Pair) -> ClientConfig {
        self.config(Some(pair), ALL_VERSIONS)
    }

    /// The same for one version of TLS only.
    pub fn client_config_for(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        self.config(None, &[version])
    }

    fn config(
        &self,
        pair: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            Some(Pair { cert, key }) => {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                builder.with_client_auth_cert(vec![cert.clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

// === impl Pair ===

impl Pair {
    pub fn cert_pem(&self) -> String {
        pem("CERTIFICATE", &self.cert)
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

// === impl Mounted ===

impl Mounted {
    /// A folder that holds `pair`, and the authority's certificate.
    pub fn new(authority: &Authority, pair: &Pair) -> Self {
        let mounted = Self { folder: TempDir::new().unwrap() };
        mounted.write("tls.crt", pair.cert_pem());
        mounted.write("tls.key", pair.key_pem());
        mounted.write("ca.crt", authority.pem());
        mounted
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes over what is in a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Puts another file in a file's place.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write("new", content);
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// A pod that terminates TLS with these files.
    pub fn switched_on(&self, pod: PodBuilder) -> PodBuilder {
        pod.env("TLS_CERT_FILE", self.path("tls.crt").display())
            .env("TLS_KEY_FILE", self.path("tls.key").display())
    }

    /// The same, and clients are asked for certificates.
    pub fn switched_on_mutual(&self, pod: PodBuilder) -> PodBuilder {
        self.switched_on(pod).env("TLS_CLIENT_CA_FILE", self.path("ca.crt").display())
    }
}

// === impl TlsClient ===

impl TlsClient {
    /// Connects and shakes hands.
    #[track_caller]
    pub fn shake_hands(addr: SocketAddr, config: &ClientConfig) -> Self {
        Self::try_shake_hands(addr, config)
            .unwrap_or_else(|error| panic!("handshake with {addr}: {error}"))
    }

    /// Connects and shakes hands, if the server does.
    pub fn try_shake_hands(addr: SocketAddr, config: &ClientConfig) -> std::io::Result<Self> {
        let tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
        Self::try_shake_hands_over(tcp, config)
    }

    /// Shakes hands on a connection that exists.
    pub fn try_shake_hands_over(tcp: TcpStream, config: &ClientConfig) -> std::io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(session(config), tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.flush()?;
        Ok(Self::over(stream))
    }

    /// The serial number of the server's certificate: its last byte.
    pub fn serial(&mut self) -> u8 {
        let certificates = self.io().conn.peer_certificates().unwrap();
        // The serial follows the version, whatever else: INTEGER, one byte.
        let der = certificates[0].as_ref();
        let start = der.windows(5).position(|bytes| bytes == [0xa0, 3, 2, 1, 2]).unwrap();
        assert_eq!(der[start + 5..start + 7], [2, 1], "the tests' serial numbers have one byte");
        der[start + 7]
    }

    /// close_notify towards the proxy, and nothing else.
    pub fn say_goodbye(&mut self) {
        let StreamOwned { conn, sock } = self.io();
        conn.send_close_notify();
        conn.complete_io(sock).unwrap();
    }
}

// === helpers ===

/// A client's side of a handshake that has not begun.
pub fn session(config: &ClientConfig) -> ClientConnection {
    let name = ServerName::try_from("app.test").unwrap();
    ClientConnection::new(Arc::new(config.clone()), name).unwrap()
}

/// What a client sends first.
pub fn client_hello(session: &mut ClientConnection) -> Vec<u8> {
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

/// DER in its armour (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i > group.len() { '=' } else { char::from(digit) });
        }
    }
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
