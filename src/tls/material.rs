//! From the files' contents to what a handshake needs, or to everything that is wrong with them.
//!
//! Messages are made of our own words only: a PEM reader quotes the line it stumbled over, and that may be the key's.

use std::{path::Path, sync::Arc};

use rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::{
    certificate::{self, Certificate},
    files::{Content, Contents},
};
use crate::config::{self, ClientAuth, Issues, Problem, vars::Var};

/// In the order of preference; a client that offers neither, but offers something, is refused (RFC 7301 §3.2).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What the files were good for.
pub(super) struct Material {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificate: Certificate,
}

/// Makes of the files' contents what a handshake needs.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn build(files: &config::Tls, contents: Contents) -> Result<Material, Issues> {
    let provider = Arc::new(ring::default_provider());
    let mut issues = Issues::none();
    let chain = noted(&mut issues, &files.names.cert, &files.cert_file, chain(contents.cert));
    let key = noted(&mut issues, &files.names.key, &files.key_file, key(contents.key));
    let verifier = match (&files.client_ca_file, contents.client_ca) {
        (Some(path), Some(content)) => {
            let verifier = verifier(content, files.client_auth, &provider);
            noted(&mut issues, &files.names.client_ca, path, verifier).map(Some)
        }
        (None, _) | (_, None) => Some(None),
    };
    let pair = match (chain, key) {
        (Some(chain), Some(key)) => pair(chain, key, files, &provider, &mut issues),
        (_, _) => None,
    };
    match (pair, verifier) {
        (Some((pair, certificate)), Some(verifier)) if issues.is_empty() => {
            Ok(Material { config: Arc::new(server_config(pair, verifier, provider)), certificate })
        }
        (_, _) => Err(issues),
    }
}

fn server_config(
    pair: CertifiedKey,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("must support TLS 1.2 and 1.3: ring does");
    let knows_clients = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // Resumption is what rustls does by itself: the last 256 sessions in memory, some ten KiB, no keys to share or
    // rotate. It spares a client that comes back to this pod a signature of ours; what it could save across pods is
    // not worth a secret that all of them hold. A reload begins with an empty memory, so that the next handshake of
    // every client shows the new certificate. There is no early data: it could be replayed.
    if knows_clients {
        // A resumed session does not show its client's certificate again, which may have expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config
}

/// Certificate chain and key together.
fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &config::Tls,
    provider: &CryptoProvider,
    issues: &mut Issues,
) -> Option<(CertifiedKey, Certificate)> {
    let certificate = chain.first().and_then(|leaf| certificate::parse(leaf));
    let Ok(key) = provider.key_provider.load_private_key(key) else {
        let problem =
            Problem::expected("an RSA (2048 to 8192 bits), ECDSA (P-256, P-384) or Ed25519 key");
        return noted(issues, &files.names.key, &files.key_file, Err(problem));
    };
    let pair = CertifiedKey::new(chain, key);
    let result = match (pair.keys_match(), certificate) {
        (Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)), Some(certificate)) => {
            return Some((pair, certificate));
        }
        (Err(Error::InconsistentKeys(_)), _) => {
            let cert = format!("{}={}", files.names.cert.name, files.cert_file.display());
            let problem = Problem::expected(format_args!("the key of the certificate in {cert}"));
            (&files.names.key, &files.key_file, problem)
        }
        (Err(error), _) => {
            let problem = Problem::expected(format_args!("a certificate for a server: {error}"));
            (&files.names.cert, &files.cert_file, problem)
        }
        (Ok(()), None) => {
            let problem = Problem::expected("a certificate for a server");
            (&files.names.cert, &files.cert_file, problem)
        }
    };
    let (var, path, problem) = result;
    noted(issues, var, path, Err(problem))
}

fn chain(content: Content) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let content = content.map_err(Problem::expected)?;
    if content.trim_ascii().is_empty() {
        return Err(Problem::expected("a certificate in PEM; the file is empty"));
    }
    let chain = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|_| Problem::expected("whole certificates in PEM"))?;
    if chain.is_empty() {
        return Err(Problem::expected("a certificate in PEM; there is none in the file"));
    }
    match chain.iter().position(|der| certificate::parse(der).is_none()) {
        Some(index) => Err(Problem::expected(format_args!(
            "X.509 certificates; the {} in the file is none",
            ordinal(index + 1)
        ))),
        None => Ok(chain),
    }
}

fn key(content: Content) -> Result<PrivateKeyDer<'static>, Problem> {
    let content = content.map_err(Problem::expected)?;
    if content.trim_ascii().is_empty() {
        return Err(Problem::expected("a private key in PEM; the file is empty"));
    }
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| {
        let found_none = matches!(error, pem::Error::NoItemsFound);
        Problem::expected(match (found_none, is_encrypted(&content)) {
            (false, _) => "a whole private key in PEM (PKCS#8, PKCS#1 or SEC1)",
            (true, false) => {
                "a private key in PEM (PKCS#8, PKCS#1 or SEC1); there is none in the file"
            }
            (true, true) => "a private key without a passphrase: nobody could enter it here",
        })
    })
}

fn is_encrypted(content: &[u8]) -> bool {
    memchr::memmem::find(content, b"BEGIN ENCRYPTED PRIVATE KEY").is_some()
}

fn verifier(
    content: Content,
    client_auth: ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let mut roots = RootCertStore::empty();
    for (index, der) in chain(content)?.into_iter().enumerate() {
        roots.add(der).map_err(|error| {
            let which = ordinal(index + 1);
            Problem::expected(format_args!("certificates of CAs; the {which} is none: {error}"))
        })?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match client_auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required => builder,
    };
    let verifier = builder.build().map_err(|error| {
        Problem::expected(format_args!("certificates of CAs that can be used: {error}"))
    })?;
    Ok(verifier)
}

/// Notes what is wrong with the file of `var`; `None` always means: an issue was noted.
fn noted<T>(issues: &mut Issues, var: &Var, path: &Path, result: Result<T, Problem>) -> Option<T> {
    result.map_err(|problem| issues.add(var, &path.to_string_lossy(), problem)).ok()
}

fn ordinal(number: usize) -> String {
    match number {
        1 => "first".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        _ => format!("{number}th"),
    }
}
