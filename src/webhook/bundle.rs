//! Pure. The `caBundle` of a webhook configuration: whom the API server trusts when it calls us.
//!
//! Ours is added and what is there stays, because another replica may still show a certificate of an older CA. Not
//! here: which CA is ours ([`super::secret`]), and talking to the API server ([`super::cluster`]).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::tls::certificate;

/// How many CAs that are not ours stay. A CA is replaced once in ten years, or when its Secret was lost; an object
/// of the API server has 1.5 MiB at most, and a CA about 700 bytes.
const OTHERS: usize = 8;

/// Why a configuration can't be put right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAConfiguration {
    /// It has nothing to trust us for.
    #[error("it has no webhooks")]
    NoWebhooks,
    /// It is no object of an API server.
    #[error("it has no metadata.resourceVersion")]
    NoVersion,
}

/// The JSON patch that makes every webhook of `configuration` trust the CAs in `wanted`; `None` if they do. It fails
/// if somebody else changes the configuration first. `now` is in seconds since 1970.
///
/// # Errors
/// The object is no configuration with webhooks.
pub(super) fn patch(
    configuration: &Value,
    wanted: &[CertificateDer<'static>],
    now: u64,
) -> Result<Option<Value>, NotAConfiguration> {
    let webhooks = configuration["webhooks"].as_array().filter(|webhooks| !webhooks.is_empty());
    let webhooks = webhooks.ok_or(NotAConfiguration::NoWebhooks)?;
    let version = &configuration["metadata"]["resourceVersion"];
    let version = version.as_str().ok_or(NotAConfiguration::NoVersion)?;
    let mut patch =
        vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
    for (index, webhook) in webhooks.iter().enumerate() {
        let present = webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        if let Some(bundle) = merged(present, wanted, now) {
            let path = format!("/webhooks/{index}/clientConfig/caBundle");
            // What is there is replaced by `add`, too (RFC 6902 §4.1).
            patch.push(json!({"op": "add", "path": path, "value": bundle}));
        }
    }
    Ok((patch.len() > 1).then(|| Value::Array(patch)))
}

/// Whether every webhook of `configuration` trusts `ca`.
pub(super) fn trusts(configuration: &Value, ca: &CertificateDer<'static>) -> bool {
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    let mut bundles =
        webhooks.map(|webhook| webhook["clientConfig"]["caBundle"].as_str()).peekable();
    bundles.peek().is_some() && bundles.all(|bundle| held(bundle.unwrap_or_default()).contains(ca))
}

/// The bundle, in base64, with all of `wanted`; `None` if `present` is right as it is.
fn merged(present: &str, wanted: &[CertificateDer<'static>], now: u64) -> Option<String> {
    let held = held(present);
    let is_trusted = |ca| held.contains(ca);
    if wanted.iter().all(is_trusted) && held.iter().all(|ca| is_valid(ca, now)) {
        return None;
    }
    let others = held.iter().filter(|ca| !wanted.contains(ca) && is_valid(ca, now));
    let all = wanted.iter().chain(others.take(OTHERS));
    Some(BASE64_STANDARD.encode(all.map(to_pem).collect::<String>()))
}

/// The certificates in a bundle; what is none is none.
fn held(bundle: &str) -> Vec<CertificateDer<'static>> {
    certificates(&BASE64_STANDARD.decode(bundle).unwrap_or_default())
}

/// The certificates in PEM text; what is none is passed over.
pub(super) fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let mut certificates = Vec::new();
    for certificate in all {
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
    }
    certificates
}

/// Whether it is a certificate that has not expired. One that is not valid yet harms nobody.
pub(super) fn is_valid(certificate: &CertificateDer<'_>, now: u64) -> bool {
    certificate::parse(certificate).is_some_and(|parsed| parsed.not_after.unix > now)
}

/// The certificate as everybody reads it: PEM, in lines of 64 characters (RFC 7468 §2).
pub(super) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = BASE64_STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn ca(valid_until: u64) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_after = epoch + std::time::Duration::from_secs(valid_until);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn bundle(certificates: &[&CertificateDer<'static>]) -> String {
        BASE64_STANDARD.encode(certificates.iter().map(|ca| to_pem(ca)).collect::<String>())
    }

    fn configuration(bundles: &[&str]) -> Value {
        let webhooks = bundles.iter().map(|bundle| match *bundle {
            "" => json!({"name": "a", "clientConfig": {"service": {}}}),
            bundle => json!({"name": "a", "clientConfig": {"caBundle": bundle}}),
        });
        let webhooks: Vec<Value> = webhooks.collect();
        json!({"metadata": {"resourceVersion": "7"}, "webhooks": webhooks})
    }

    /// The certificates that each webhook trusts after the patch.
    fn patched(
        configuration: &Value,
        wanted: &[CertificateDer<'static>],
    ) -> Vec<Vec<CertificateDer<'static>>> {
        let mut configuration = configuration.clone();
        if let Some(patch) = patch(&configuration, wanted, NOW).unwrap() {
            let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
            json_patch::patch(&mut configuration, &patch).unwrap();
        }
        let webhooks = configuration["webhooks"].as_array().unwrap();
        let bundles = webhooks.iter().map(|webhook| webhook["clientConfig"]["caBundle"].as_str());
        bundles
            .map(|bundle| certificates(&BASE64_STANDARD.decode(bundle.unwrap()).unwrap()))
            .collect()
    }

    #[test]
    fn every_webhook_trusts_us_and_whoever_it_trusted() {
        let (ours, other, expired) = (ca(NOW + DAY), ca(NOW + DAY), ca(NOW - DAY));
        let lone = bundle(&[&other]);
        let mixed = bundle(&[&expired, &other, &other]);
        let configuration = configuration(&["", "Cg==", "no base64", &lone, &mixed]);
        let (alone, both) = (vec![ours.clone()], vec![ours.clone(), other]);
        assert_eq!(
            patched(&configuration, &[ours]),
            [alone.clone(), alone.clone(), alone, both.clone(), both]
        );
    }

    #[test]
    fn what_is_right_is_left_alone_in_whichever_order() {
        let (new, old, other) = (ca(NOW + DAY), ca(NOW + DAY), ca(NOW + DAY));
        let right = bundle(&[&other, &old, &new]);
        let configuration = configuration(&[&right, &right]);
        assert_eq!(patch(&configuration, &[new, old], NOW), Ok(None));
    }

    #[test]
    fn only_what_is_wrong_is_patched_and_only_if_nobody_else_was_faster() {
        let ours = ca(NOW + DAY);
        let right = bundle(&[&ours]);
        let patch = patch(&configuration(&[&right, ""]), &[ours], NOW).unwrap().unwrap();
        assert_eq!(
            patch,
            json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": right},
            ])
        );
    }

    #[test]
    fn who_is_trusted_is_trusted_by_every_webhook() {
        let (ours, other) = (ca(NOW + DAY), ca(NOW + DAY));
        let (both, lone) = (bundle(&[&other, &ours]), bundle(&[&other]));
        assert!(trusts(&configuration(&[&both, &both]), &ours));
        for bundles in [&[&both[..], &lone][..], &["", &both], &["no base64"], &[]] {
            assert!(!trusts(&configuration(bundles), &ours), "{bundles:?}");
        }
    }

    #[test]
    fn the_bundle_does_not_grow_for_ever() {
        let others: Vec<_> = (0..20).map(|_| ca(NOW + DAY)).collect();
        let full = bundle(&others.iter().collect::<Vec<_>>());
        let ours = ca(NOW + DAY);
        let [trusted] = &patched(&configuration(&[&full]), std::slice::from_ref(&ours))[..] else {
            panic!("one webhook");
        };
        assert_eq!((trusted.len(), &trusted[0], &trusted[1]), (OTHERS + 1, &ours, &others[0]));
    }

    #[test]
    fn what_is_no_configuration_is_told() {
        let ours = [ca(NOW + DAY)];
        let empty = json!({"metadata": {"resourceVersion": "7"}, "webhooks": []});
        assert_eq!(patch(&empty, &ours, NOW), Err(NotAConfiguration::NoWebhooks));
        let odd = json!({"webhooks": [{}]});
        assert_eq!(patch(&odd, &ours, NOW), Err(NotAConfiguration::NoVersion));
    }
}
