//! TLS handshakes that fail: counted, and told in the log at most once a minute for each reason.
//!
//! An API server that does not trust us shows nowhere else: it calls nobody, and pods start without a sidecar. Not here:
//! handshakes themselves ([`super::connections`]).

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use rustls::{AlertDescription, Error};

use crate::{clock::Clock, units::Uptime};

/// Who floods us with nonsense must not flood the log, too.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The alerts with which clients refuse certificates (RFC 8446 §6.2). `decrypt_error` is some clients' word for the
/// signature of another CA that has the same name, as all of ours have.
const CERTIFICATE_ALERTS: [AlertDescription; 7] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::DecryptError,
];
/// Those with which they say that there is nothing in common.
const CHOICE_ALERTS: [AlertDescription; 3] = [
    AlertDescription::HandshakeFailure,
    AlertDescription::ProtocolVersion,
    AlertDescription::NoApplicationProtocol,
];

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// The peer does not accept our certificate.
    Distrusted,
    /// There is no certificate yet.
    NoCertificate,
    /// The peer has no version, cipher or key exchange in common with us.
    Incompatible,
    /// The peer does not speak TLS.
    NotTls,
    /// The peer went away or was silent, as port scanners and health checks of balancers do.
    BrokenOff,
    /// Anything else.
    Other,
}

/// What is known of handshakes that failed.
#[derive(Debug)]
pub(super) struct Handshakes {
    failed: Family<[(&'static str, &'static str); 1], Counter>,
    clock: Clock,
    /// By reason, so that nobody's noise hides an API server that distrusts us.
    untold: Mutex<HashMap<Reason, Untold>>,
}

/// What the log does not say yet.
#[derive(Debug, Default)]
struct Untold {
    failures: u64,
    told_at: Option<Uptime>,
}

// === impl Handshakes ===

impl Handshakes {
    /// None yet. They are counted in `registry`.
    pub(super) fn new(registry: &mut Registry, clock: Clock) -> Self {
        let failed = Family::<_, Counter>::default();
        for reason in Reason::ALL {
            drop(failed.get_or_create(&[("reason", reason.name())]));
        }
        registry.register(
            "handshakes_failed",
            "TLS handshakes that failed, by reason; distrusted: the API server does not accept our certificate",
            failed.clone(),
        );
        Self { failed, clock, untold: Mutex::default() }
    }

    /// One with `peer` has failed.
    pub(super) fn failed(&self, peer: SocketAddr, error: &io::Error) {
        let reason = Reason::of(error);
        self.failed.get_or_create(&[("reason", reason.name())]).inc();
        tracing::debug!(%peer, %error, reason = reason.name(), "a TLS handshake failed");
        if reason == Reason::BrokenOff {
            return;
        }
        if let Some(failures) = self.to_tell(reason) {
            tracing::warn!(
                event = "handshakes_failed", failures, reason = reason.name(), %peer, latest = %error,
                "TLS handshakes fail: if the peer is an API server, pods are not injected"
            );
        }
    }

    /// Takes note of a failure. Returns how many there were for this reason since the last time, if it is time to tell.
    fn to_tell(&self, reason: Reason) -> Option<u64> {
        let now = self.clock.now();
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = untold.entry(reason).or_default();
        untold.failures += 1;
        if untold.told_at.is_some_and(|told_at| now < told_at + TELL_EVERY) {
            return None;
        }
        let failures = untold.failures;
        *untold = Untold { failures: 0, told_at: Some(now) };
        Some(failures)
    }
}

// === impl Reason ===

impl Reason {
    /// All reasons.
    pub(super) const ALL: [Self; 6] = [
        Self::Distrusted,
        Self::NoCertificate,
        Self::Incompatible,
        Self::NotTls,
        Self::BrokenOff,
        Self::Other,
    ];

    /// The value of the label.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Distrusted => "distrusted",
            Self::NoCertificate => "no_certificate",
            Self::Incompatible => "incompatible",
            Self::NotTls => "not_tls",
            Self::BrokenOff => "broken_off",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) else {
            // The connection's own failure.
            return Self::BrokenOff;
        };
        let is_about_certificates = |alert| CERTIFICATE_ALERTS.contains(alert);
        if matches!(cause, Error::AlertReceived(alert) if is_about_certificates(alert)) {
            return Self::Distrusted;
        }
        let is_about_choices = |alert| CHOICE_ALERTS.contains(alert);
        if matches!(cause, Error::PeerIncompatible(_) | Error::NoApplicationProtocol)
            || matches!(cause, Error::AlertReceived(alert) if is_about_choices(alert))
        {
            return Self::Incompatible;
        }
        if matches!(
            cause,
            Error::InvalidMessage(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. }
        ) {
            return Self::NotTls;
        }
        // What rustls says when nothing is shown.
        if matches!(cause, Error::General(text) if text.contains("no server certificate")) {
            return Self::NoCertificate;
        }
        Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_hears_of_the_first_and_then_once_a_minute() {
        let handshakes = Handshakes::new(&mut Registry::default(), Clock::start());
        let told = |reason| handshakes.to_tell(reason);
        assert_eq!(told(Reason::NotTls), Some(1));
        assert_eq!((told(Reason::NotTls), told(Reason::NotTls)), (None, None));
        assert_eq!(told(Reason::Distrusted), Some(1), "noise hides nothing");
        tokio::time::advance(TELL_EVERY).await;
        assert_eq!((told(Reason::NotTls), told(Reason::NotTls)), (Some(3), None));
    }

    #[test]
    fn reasons_are_those_of_the_peer_and_of_nobody_else() {
        let of = |error: Error| Reason::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        for alert in CERTIFICATE_ALERTS {
            assert_eq!(of(Error::AlertReceived(alert)), Reason::Distrusted);
        }
        assert_eq!(of(Error::AlertReceived(AlertDescription::InternalError)), Reason::Other);
        assert_eq!(of(Error::NoApplicationProtocol), Reason::Incompatible);
        assert_eq!(
            of(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)),
            Reason::NotTls
        );
        let kinds =
            [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut];
        assert_eq!(kinds.map(|kind| Reason::of(&kind.into())), [Reason::BrokenOff; 3]);
    }
}
