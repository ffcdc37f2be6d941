//! Pure. The files that TLS is made of: where they are, and what they are called in complaints.
//!
//! Not here: what is in them.

use std::path::PathBuf;

use super::vars::{self, Var};

/// The files that TLS on the proxy ports is made of. They are read by `tls`, again whenever they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Who signs client certificates, PEM; `None`: clients are not asked for one.
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients that are asked must have one.
    pub client_auth: ClientAuth,
    /// What the files are called where somebody chose them, for complaints about them.
    pub names: &'static TlsNames,
}

/// What the files of [`Tls`] are called.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsNames {
    /// The certificate chain.
    pub cert: Var,
    /// Its private key.
    pub key: Var,
    /// Who signs client certificates.
    pub client_ca: Var,
}

/// The names as variables of the proxy.
pub static TLS_VARS: TlsNames = TlsNames {
    cert: vars::TLS_CERT_FILE,
    key: vars::TLS_KEY_FILE,
    client_ca: vars::TLS_CLIENT_CA_FILE,
};

/// `LAMEDUCK_TLS_CLIENT_AUTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without a certificate is served.
    Optional,
    /// A client without a certificate is not served.
    Required,
}
