//! Pure. The Secret that all replicas share: which CA is in it, and whether it is still good.
//!
//! Not here: making certificates ([`super::certs`]), and talking to the API server ([`super::cluster`]).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::{
    bundle,
    certs::{Ca, Names},
};

/// The key of the CA's certificate. Older ones, which are still trusted, stand behind it.
const CERTIFICATE: &str = "ca.crt";
/// The key of the CA's private key.
const KEY: &str = "ca.key";

/// A CA is replaced this long before it expires, in seconds: the lifetime of the leaves that it signs.
pub(super) const REPLACE_BEFORE: u64 = 30 * 86_400;

/// A CA that begins this much later, in seconds, is not replaced: it will be good before anybody has learnt of another
/// one, and the clocks of a cluster may differ by so much (Kerberos allows for the same, RFC 4120 §1.6). Ours are
/// dated back by an hour, so that one that begins later at all was made by somebody whose clock is wrong.
const SKEW: u64 = 300;

/// What a Secret is good for.
pub(super) enum Found {
    /// It holds a CA that can be used.
    Usable(Box<Ca>),
    /// It needs another one.
    Replace {
        /// The reason, for the log.
        why: String,
        /// CAs in it that have not expired: leaves of theirs may be in use.
        older: Vec<CertificateDer<'static>>,
    },
}

/// Looks for a CA that can sign for `names`. `now` is in seconds since 1970, and the same for all who ask: replicas that
/// disagree about it replace each other's CA for ever.
pub(super) fn read(secret: &Value, names: &Names, now: u64) -> Found {
    let text = |key: &str| -> Option<String> {
        let encoded = secret["data"][key].as_str().filter(|text| !text.is_empty())?;
        Some(String::from_utf8_lossy(&BASE64_STANDARD.decode(encoded).ok()?).into_owned())
    };
    let certificates = text(CERTIFICATE).map(|pem| bundle::certificates(pem.as_bytes()));
    let mut older = certificates.unwrap_or_default();
    older.retain(|certificate| bundle::is_valid(certificate, now));
    let replace = |why: String| Found::Replace { why, older: older.clone() };
    let (Some(certificate), Some(key)) = (older.first(), text(KEY)) else {
        let is_empty = secret["data"].as_object().is_none_or(serde_json::Map::is_empty);
        let why = if is_empty { "it is empty" } else { "it holds no valid certificate with a key" };
        return replace(why.to_owned());
    };
    match Ca::read(certificate, &key, names, now) {
        Ok(ca) if ca.not_after.unix < now + REPLACE_BEFORE => {
            replace(format!("its CA expires on {}", ca.not_after.text))
        }
        // It stays behind the new one and in the `caBundle`, like one that is about to expire: it harms nobody there.
        Ok(ca) if ca.not_before.unix > now + SKEW => {
            replace(format!("its CA is not valid before {}", ca.not_before.text))
        }
        Ok(ca) => Found::Usable(Box::new(ca)),
        Err(error) => replace(error.to_string()),
    }
}

/// The Secret with `ca` in it, and `older` behind it. Everything else stays, above all the version that it was read
/// in, so that of two replicas that do this at once the second is told.
pub(super) fn with_ca(secret: &Value, ca: &Ca, older: &[CertificateDer<'static>]) -> Value {
    let certificates = std::iter::once(&ca.certificate).chain(older);
    let pem: String = certificates.map(bundle::to_pem).collect();
    let mut secret = secret.clone();
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    secret["data"][CERTIFICATE] = BASE64_STANDARD.encode(pem).into();
    secret["data"][KEY] = BASE64_STANDARD.encode(ca.key_pem.reveal()).into();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn names() -> Names {
        Names::new("lameduck-injector", "lameduck-system")
    }

    fn empty() -> Value {
        json!({"kind": "Secret", "metadata": {"name": "ca", "resourceVersion": "3"}, "type": "Opaque"})
    }

    /// Why the Secret needs another CA, and how many it held.
    fn why(secret: &Value, now: u64) -> Option<(String, usize)> {
        match read(secret, &names(), now) {
            Found::Usable(_) => None,
            Found::Replace { why, older } => Some((why, older.len())),
        }
    }

    #[test]
    fn a_ca_that_was_put_is_found_until_a_month_before_its_end() {
        let ca = Ca::generate(NOW).unwrap();
        let secret = with_ca(&empty(), &ca, &[]);
        assert_eq!(secret["metadata"]["resourceVersion"], "3");
        assert_eq!(secret["type"], "Opaque");
        let Found::Usable(found) = read(&secret, &names(), NOW) else { panic!("must be usable") };
        assert_eq!(found.certificate, ca.certificate);
        assert_eq!(why(&secret, ca.not_after.unix - 30 * DAY), None);
        let (why, older) = why(&secret, ca.not_after.unix - 30 * DAY + 1).unwrap();
        assert!(why.starts_with("its CA expires on 20"), "{why}");
        assert_eq!(older, 1, "its leaves may be in use");
    }

    #[test]
    fn a_ca_that_is_not_valid_yet_is_replaced_and_the_next_one_by_nobody() {
        let ahead = Ca::generate(NOW + 3 * DAY).unwrap();
        let secret = with_ca(&empty(), &ahead, &[]);
        let (reason, older) = why(&secret, NOW).unwrap();
        assert!(reason.starts_with("its CA is not valid before 20"), "{reason}");
        assert_eq!(older, 1, "it will be valid one day");
        let begins = ahead.not_before.unix;
        assert!(why(&secret, begins - SKEW - 1).is_some());
        assert_eq!(why(&secret, begins - SKEW), None, "clocks differ");
        let ours = Ca::generate(NOW).unwrap();
        let secret = with_ca(&secret, &ours, std::slice::from_ref(&ahead.certificate));
        for now in [NOW, NOW + 3 * DAY] {
            assert_eq!(why(&secret, now), None, "whose clock is ahead takes it, too");
        }
    }

    #[test]
    fn what_is_empty_odd_or_spoilt_is_replaced() {
        let (ca, other) = (Ca::generate(NOW).unwrap(), Ca::generate(NOW).unwrap());
        assert_eq!(why(&empty(), NOW), Some(("it is empty".to_owned(), 0)));
        let spoilt = |key: &str, value: &str| {
            let mut secret = with_ca(&empty(), &ca, &[]);
            secret["data"][key] = BASE64_STANDARD.encode(value).into();
            why(&secret, NOW).unwrap()
        };
        let nothing = "it holds no valid certificate with a key".to_owned();
        assert_eq!(spoilt(CERTIFICATE, "garbage"), (nothing.clone(), 0));
        assert_eq!(spoilt(KEY, ""), (nothing.clone(), 1));
        assert!(spoilt(KEY, "garbage").0.starts_with("its private key"));
        assert!(spoilt(KEY, other.key_pem.reveal()).0.starts_with("its CA can't sign"));
        let expired = with_ca(&empty(), &ca, &[]);
        assert_eq!(why(&expired, ca.not_after.unix + 1), Some((nothing, 0)));
    }

    #[test]
    fn older_cas_stand_behind_the_present_one() {
        let (old, new) = (Ca::generate(NOW).unwrap(), Ca::generate(NOW).unwrap());
        let secret = with_ca(&empty(), &old, &[]);
        let secret = with_ca(&secret, &new, std::slice::from_ref(&old.certificate));
        let Found::Usable(found) = read(&secret, &names(), NOW) else { panic!("must be usable") };
        assert_eq!(found.certificate, new.certificate);
        let pem = BASE64_STANDARD.decode(secret["data"][CERTIFICATE].as_str().unwrap()).unwrap();
        assert_eq!(bundle::certificates(&pem), [new.certificate, old.certificate]);
    }
}
