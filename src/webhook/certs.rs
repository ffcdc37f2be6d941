//! Pure. Certificates: the CA that all replicas share, and the leaf that each of them signs for itself.
//!
//! Keys are random; all else follows from the arguments, the time above all. Not here: where the CA is kept
//! ([`super::secret`]), who is told to trust it ([`super::bundle`]), and which leaf is shown ([`super::identity`]).

use std::{fmt, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use crate::{
    config::Secret,
    tls::certificate::{self, Moment},
};

const DAY: u64 = 86_400;
/// Long enough that nobody meets its end by surprise; replacing it is routine all the same.
const CA_LIFETIME: u64 = 10 * 365 * DAY;
/// Short, because a leaf costs nothing and its key leaves no memory but ours.
const LEAF_LIFETIME: u64 = 30 * DAY;
/// Certificates begin this much in the past: the API server's clock may be behind ours.
const BACKDATED: u64 = 3600;

/// The DNS names of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// What the API server asks for: `service.namespace.svc`.
    pub(super) short: String,
    /// What others in the cluster may ask for; the usual domain, which webhooks don't depend on.
    long: String,
}

/// A CA with its key.
pub(super) struct Ca {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key_pem: Secret,
    /// From when on it is valid, by the clock of whoever made it.
    pub(super) not_before: Moment,
    pub(super) not_after: Moment,
    issuer: Issuer<'static, KeyPair>,
}

/// A server certificate with its key.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) key: Arc<CertifiedKey>,
    /// The CA that signed it.
    pub(super) ca: CertificateDer<'static>,
    /// In seconds since 1970.
    pub(super) not_after: u64,
    /// When it is to be replaced: after two thirds of its life. In seconds since 1970.
    renew_at: u64,
    /// In seconds since 1970.
    not_before: u64,
}

/// A certificate can't be made, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertError {
    /// Generating or signing failed.
    #[error("a certificate can't be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The key of a CA is none.
    #[error("its private key can't be read: {0}")]
    Key(rcgen::Error),
    /// What a CA signs is not accepted by those who trust it.
    #[error("its CA can't sign for {name}: {error}")]
    Refused {
        /// The Service.
        name: String,
        /// As clients see it.
        error: rustls::Error,
    },
    /// rustls does not take what rcgen made.
    #[error("a certificate can't be used: {0}")]
    Use(#[from] rustls::Error),
    /// Its validity can't be read.
    #[error("its CA is no certificate")]
    NoCertificate,
    /// It is a certificate for something else.
    #[error("its certificate is not for signing others")]
    NoCa,
}

// === impl Names ===

impl Names {
    pub(super) fn new(service: &str, namespace: &str) -> Self {
        let short = format!("{service}.{namespace}.svc");
        let long = format!("{short}.cluster.local");
        Self { short, long }
    }
}

// === impl Ca ===

impl Ca {
    /// A new CA that can sign for Services only, valid from `now`, which is in seconds since 1970.
    pub(super) fn generate(now: u64) -> Result<Self, CertError> {
        let key = KeyPair::generate()?;
        let mut params = params("lameduck injector CA", backdated(now), now + CA_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Both forms of a Service's name. Whoever steals the key can't pretend to be anything outside of the cluster.
        let permitted = ["svc", "svc.cluster.local"];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted
                .map(|name| GeneralSubtree::DnsName(name.to_owned()))
                .into(),
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key)?.der().clone();
        Self::assemble(certificate, key)
    }

    /// A CA as it was kept. It is tried out, because nothing else tells whether its parts belong together.
    pub(super) fn read(
        certificate: &CertificateDer<'static>,
        key_pem: &str,
        names: &Names,
        now: u64,
    ) -> Result<Self, CertError> {
        let key = KeyPair::from_pem(key_pem).map_err(CertError::Key)?;
        let ca = Self::assemble(certificate.clone(), key)?;
        // Some clients would let it sign all the same; Go's, which is the API server's, would not.
        if !ca.issuer.key_usages().contains(&KeyUsagePurpose::KeyCertSign) {
            return Err(CertError::NoCa);
        }
        let leaf = ca.sign(names, now)?;
        ca.check(&leaf, names, now)?;
        Ok(ca)
    }

    /// A server certificate for `names` from `now` on. It is valid as long as its CA has been: so nobody refuses it
    /// whose clock is behind that of whoever told us the time.
    pub(super) fn sign(&self, names: &Names, now: u64) -> Result<Leaf, CertError> {
        let key = KeyPair::generate()?;
        let not_after = (now + LEAF_LIFETIME).min(self.not_after.unix);
        let not_before = self.not_before.unix.min(backdated(now));
        let mut params = params(&names.short, not_before, not_after);
        for name in [&names.short, &names.long] {
            params.subject_alt_names.push(rcgen::SanType::DnsName(name.as_str().try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let private = ring::default_provider().key_provider.load_private_key(private)?;
        let key = Arc::new(CertifiedKey::new(vec![certificate], private));
        let renew_at = now + not_after.saturating_sub(now) * 2 / 3;
        Ok(Leaf { key, ca: self.certificate.clone(), not_after, renew_at, not_before })
    }

    /// Whether who trusts this CA accepts `leaf`.
    fn check(&self, leaf: &Leaf, names: &Names, now: u64) -> Result<(), CertError> {
        let refused = |error| CertError::Refused { name: names.short.clone(), error };
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(refused)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
        let name = ServerName::try_from(names.short.as_str())
            .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
        let certificate = leaf.key.end_entity_cert()?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        verifier.verify_server_cert(certificate, &[], &name, &[], now).map_err(refused)?;
        Ok(())
    }

    fn assemble(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, CertError> {
        let parsed = certificate::parse(&certificate).ok_or(CertError::NoCertificate)?;
        let key_pem = Secret::new(&key.serialize_pem());
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        let certificate::Certificate { serial: _, not_before, not_after } = parsed;
        Ok(Self { certificate, key_pem, not_before, not_after, issuer })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("expires", &self.not_after.text).finish_non_exhaustive()
    }
}

// === impl Leaf ===

impl Leaf {
    /// Whether it is time for another one: when it comes near its end, and when it has not begun, because the clock that
    /// it was dated by has been put right since.
    pub(super) const fn is_due(&self, now: u64) -> bool {
        self.renew_at <= now || now < self.not_before
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

// === helpers ===

fn params(common_name: &str, not_before: u64, not_after: u64) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(not_after);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, shortened(common_name));
    // All our CAs have one name; whose signature it is stands here.
    params.use_authority_key_identifier_extension = true;
    params
}

const fn backdated(now: u64) -> u64 {
    now.saturating_sub(BACKDATED)
}

/// A common name has 64 characters at most (RFC 5280, Appendix A.1); what counts are the alternative names.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn names() -> Names {
        Names::new("lameduck-injector", "lameduck-system")
    }

    #[test]
    fn a_ca_signs_for_both_names_of_its_service_from_an_hour_ago_on() {
        let ca = Ca::generate(NOW).unwrap();
        assert_eq!((ca.not_before.unix, ca.not_after.unix), (NOW - 3600, NOW + 3650 * DAY));
        let leaf = ca.sign(&names(), NOW).unwrap();
        assert_eq!((leaf.not_after, leaf.renew_at), (NOW + 30 * DAY, NOW + 20 * DAY));
        let due_at = [NOW - 3601, NOW - 3600, NOW + 20 * DAY - 1, NOW + 20 * DAY];
        assert_eq!(due_at.map(|now| leaf.is_due(now)), [true, false, false, true]);
        for (name, seen_at) in [
            ("lameduck-injector.lameduck-system.svc", NOW),
            ("lameduck-injector.lameduck-system.svc", NOW - 3600),
            ("lameduck-injector.lameduck-system.svc", NOW + 30 * DAY),
            ("lameduck-injector.lameduck-system.svc.cluster.local", NOW),
        ] {
            let asked = Names { short: name.to_owned(), long: String::new() };
            ca.check(&leaf, &asked, seen_at).unwrap();
        }
        assert!(ca.check(&leaf, &names(), NOW - 3601).is_err());
        assert!(ca.check(&leaf, &names(), NOW + 30 * DAY + 1).is_err());
        assert!(ca.check(&leaf, &Names::new("other", "lameduck-system"), NOW).is_err());
    }

    #[test]
    fn a_ca_can_not_sign_for_what_is_no_service() {
        let ca = Ca::generate(NOW).unwrap();
        for name in ["bank.example.com", "svc.example.com", "a.cluster.local"] {
            let stolen = Names { short: name.to_owned(), long: name.to_owned() };
            let leaf = ca.sign(&stolen, NOW).unwrap();
            let error = ca.check(&leaf, &stolen, NOW).unwrap_err();
            assert!(matches!(error, CertError::Refused { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn a_leaf_does_not_outlive_its_ca() {
        let ca = Ca::generate(NOW).unwrap();
        let late = ca.not_after.unix - 3 * DAY;
        let leaf = ca.sign(&names(), late).unwrap();
        assert_eq!((leaf.not_after, leaf.renew_at), (ca.not_after.unix, late + 2 * DAY));
    }

    #[test]
    fn a_ca_is_read_back_and_its_signatures_are_still_good() {
        let made = Ca::generate(NOW).unwrap();
        let read = Ca::read(&made.certificate, made.key_pem.reveal(), &names(), NOW).unwrap();
        let leaf = read.sign(&names(), NOW).unwrap();
        made.check(&leaf, &names(), NOW).unwrap();
    }

    #[test]
    fn what_is_no_ca_is_refused() {
        let ca = Ca::generate(NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params("leaf", NOW, NOW + DAY).self_signed(&key).unwrap().der().clone();
        let refused = Ca::read(&leaf, &key.serialize_pem(), &names(), NOW);
        assert!(matches!(refused, Err(CertError::NoCa)), "{refused:?}");
        let other = KeyPair::generate().unwrap().serialize_pem();
        let refused = Ca::read(&ca.certificate, &other, &names(), NOW);
        assert!(matches!(refused, Err(CertError::Refused { .. })), "{refused:?}");
    }

    #[test]
    fn nothing_shows_the_key() {
        let ca = Ca::generate(NOW).unwrap();
        let shown = format!("{ca:?} {:?}", ca.sign(&names(), NOW).unwrap());
        assert!(!shown.contains("PRIVATE") && shown.contains("Leaf"), "{shown}");
    }
}
