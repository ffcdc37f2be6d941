//! What the webhook shows to the API server in a handshake, and whether the API server is known to accept it.
//!
//! A handshake takes the present certificate; another one can be put in its place at any time, and connections that
//! exist go on with what they began with. Not here: where certificates come from ([`super::keeper`], [`crate::tls`]).

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::certs::Leaf;
use crate::tls;

/// In the order of preference, as on the proxy ports; the API server takes the first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where handshakes find a certificate. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    /// In files that somebody else looks after, as he does after the `caBundle`.
    Files(tls::Server),
    /// In our memory.
    SelfManaged {
        /// What is shown.
        shown: Shown,
        /// What handshakes use; it looks into `shown`.
        config: Arc<ServerConfig>,
    },
}

/// The leaf of a self-managed identity. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Locked once per handshake and once per change, for as long as it takes to clone an `Arc`.
    leaf: Mutex<Option<Leaf>>,
    /// Whether the API server is told to trust its CA.
    is_verified: AtomicBool,
}

// === impl Identity ===

impl Identity {
    /// One that shows what will be in `shown`.
    pub(super) fn self_managed(shown: Shown) -> Self {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("must support TLS 1.2 and 1.3: ring does")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown.clone()));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // A resumed session would go on with a certificate that has been replaced; the API server keeps its few
        // connections open anyway.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Self::SelfManaged { shown, config: Arc::new(config) }
    }

    /// What a handshake that begins now uses.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        match self {
            Self::Files(server) => server.config(),
            Self::SelfManaged { config, .. } => Arc::clone(config),
        }
    }

    /// When the certificate expires, in seconds since 1970; `None` while there is none.
    pub(super) fn expires_at(&self) -> Option<u64> {
        match self {
            Self::Files(server) => Some(server.expires_at()),
            Self::SelfManaged { shown, .. } => shown.leaf().map(|leaf| leaf.not_after),
        }
    }

    /// Whether the `caBundle` is known to be right; somebody else's business if the certificate is.
    pub(super) fn is_verified(&self) -> bool {
        match self {
            Self::Files(_) => true,
            Self::SelfManaged { shown, .. } => shown.is_verified(),
        }
    }

    /// Why the API server can't call us yet, if it can't.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        match self {
            Self::SelfManaged { shown, .. } if shown.leaf().is_none() => Some("no certificate yet"),
            Self::SelfManaged { shown, .. } if !shown.is_verified() => {
                Some("the caBundle is not known to be right")
            }
            Self::Files(_) | Self::SelfManaged { .. } => None,
        }
    }
}

// === impl Shown ===

impl Shown {
    pub(super) fn leaf(&self) -> Option<Leaf> {
        self.0.leaf.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn put(&self, leaf: Leaf) {
        *self.0.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf);
    }

    pub(super) fn is_verified(&self) -> bool {
        self.0.is_verified.load(SeqCst)
    }

    pub(super) fn set_verified(&self, is_verified: bool) {
        self.0.is_verified.store(is_verified, SeqCst);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf().map(|leaf| leaf.key)
    }
}
