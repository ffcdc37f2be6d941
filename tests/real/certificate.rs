//! A certificate for `localhost` and the authority that signed it, as files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Files in PEM.
pub(crate) struct Certificate {
    pub(crate) authority: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

// === impl Certificate ===

impl Certificate {
    /// Makes new ones; `name` must be unique among all tests.
    pub(crate) fn make(name: &str) -> Result<Self, String> {
        let say = |error: rcgen::Error| format!("no certificate: {error}");
        let mut params = CertificateParams::new(Vec::new()).map_err(say)?;
        // Two names: a certificate whose issuer is called as itself counts as self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(say)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(say)?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().map_err(say)?;
        let mut params = CertificateParams::new(names).map_err(say)?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let leaf = params.signed_by(&key, &issuer).map_err(say)?;
        let write = |part: &str, label: &str, der: &[u8]| {
            let path =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("real-{name}-{part}.pem"));
            std::fs::write(&path, pem(label, der))
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        Ok(Self {
            authority: write("authority", "CERTIFICATE", issuer.der())?,
            chain: write("chain", "CERTIFICATE", leaf.der())?,
            key: write("key", "PRIVATE KEY", key.serialized_der())?,
        })
    }

    /// The proxy's variables.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LAMEDUCK_TLS_CERT_FILE", self.chain.display().to_string()),
            ("LAMEDUCK_TLS_KEY_FILE", self.key.display().to_string()),
        ]
    }
}

// === helpers ===

/// RFC 7468. rcgen would do it with one dependency more.
fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    // 48 bytes are a line of 64 characters.
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for at in 0..4 {
                let index = bits >> (18 - 6 * at) & 0x3f;
                let letter = ALPHABET[usize::try_from(index).unwrap_or_default()];
                text.push(if at <= group.len() { letter.into() } else { '=' });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
