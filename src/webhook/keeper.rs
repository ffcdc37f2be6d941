//! Keeps a self-managed identity good: a CA in the Secret, a leaf of it in memory, and the API server told to trust it.
//!
//! Replicas don't know of each other; they meet in the Secret, where the first one's CA wins, and in the `caBundle`, to
//! which everybody adds. A leaf of another CA is shown only when the API servers have had time to learn that it is to
//! be trusted; until then the old one stays, which they trust, too.

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{
    bundle::{self, NotAConfiguration},
    certs::{Ca, CertError, Leaf, Names},
    cluster::{CallError, Cluster},
    identity::Shown,
    secret::{self, Found},
    settings::SelfManaged,
};
use crate::{clock::Clock, units::Uptime};

/// From the moment a CA is in the `caBundle` to the moment its leaf is shown. API servers learn of it by a watch,
/// mostly within a second; nothing is lost by waiting, because the old leaf is good.
const SETTLE: Duration = Duration::from_secs(5);
/// The pause after a failure doubles from the first to the last.
const BACKOFF: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30);
/// So many looks may fail before what was found right counts as unknown. An API server that is away can't call
/// us, so nothing is gained by calling ourselves unready at once: when it is back we should be there.
const STALE_AFTER: u32 = 3;
/// Two replicas at most change an object at once, and who loses finds everything done.
const MOST_CONFLICTS: u32 = 5;

/// Looks after one identity.
pub(super) struct Keeper {
    cluster: Cluster,
    objects: SelfManaged,
    names: Names,
    shown: Shown,
    clock: Clock,
    /// What was last found in the Secret.
    ca: Option<Box<Ca>>,
    /// Since when that CA is in the `caBundle`.
    trusted_since: Option<Uptime>,
    /// When the API server was last found to trust what is shown.
    confirmed_at: Option<Uptime>,
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Certificate(#[from] CertError),
    #[error("the webhook configuration {name}: {problem}")]
    Configuration { name: String, problem: NotAConfiguration },
    #[error("the Secret {0} changes each time it is to be written")]
    BusySecret(String),
    #[error(
        "the webhook configuration {0} changes each time it is to be written, or refuses the caBundle"
    )]
    BusyConfiguration(String),
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(cluster: Cluster, objects: SelfManaged, shown: Shown, clock: Clock) -> Self {
        let names = Names::new(&objects.service, &objects.namespace);
        let (ca, trusted_since, confirmed_at) = (None, None, None);
        Self { cluster, objects, names, shown, clock, ca, trusted_since, confirmed_at }
    }

    /// Looks after it without end.
    pub(super) async fn run(mut self) {
        let mut backoff = *BACKOFF.start();
        loop {
            let pause = match self.look().await {
                Ok(pause) => {
                    backoff = *BACKOFF.start();
                    pause
                }
                Err(error) => {
                    tracing::warn!(
                        event = "certificates_failed", %error, retry = ?backoff,
                        "CA and caBundle can't be looked after"
                    );
                    self.doubt();
                    let pause = backoff;
                    backoff = (backoff * 2).min(*BACKOFF.end());
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Puts right what is not. Returns when to look again.
    async fn look(&mut self) -> Result<Duration, KeepError> {
        self.renew(self.cluster.now())?;
        let ca = self.find_ca().await?;
        let now = self.cluster.now();
        let is_new = self.ca.as_ref().is_none_or(|known| known.certificate != ca.certificate);
        if is_new {
            self.trusted_since = None;
        }
        let certificate = ca.certificate.clone();
        self.ca = Some(ca);
        let shown = self.shown.leaf().map(|leaf| leaf.ca);
        let mut wanted = vec![certificate.clone()];
        wanted.extend(shown.clone().filter(|shown| *shown != certificate));
        let was_wrong = self.make_trusted(&wanted, shown.as_ref(), now).await?;
        self.confirm();
        let present = self.clock.now();
        if was_wrong || self.trusted_since.is_none() {
            self.trusted_since = Some(present);
        }
        let settled = self.trusted_since.map_or(present, |since| since + SETTLE);
        match shown {
            Some(shown) if shown == certificate => Ok(self.objects.check_every),
            Some(_) if present < settled => {
                Ok(self.objects.check_every.min(settled.saturating_since(present)))
            }
            Some(_) | None => {
                self.show_leaf(now)?;
                Ok(self.objects.check_every)
            }
        }
    }

    /// A new leaf of the same CA, when it is time. It needs nobody's consent.
    fn renew(&self, now: u64) -> Result<(), CertError> {
        let is_due = |leaf: &Leaf, ca: &Ca| leaf.is_due(now) && leaf.ca == ca.certificate;
        match (self.shown.leaf(), &self.ca) {
            (Some(leaf), Some(ca)) if is_due(&leaf, ca) => self.show_leaf(now),
            (_, _) => Ok(()),
        }
    }

    fn show_leaf(&self, now: u64) -> Result<(), CertError> {
        if let Some(ca) = &self.ca {
            let leaf = ca.sign(&self.names, now)?;
            tracing::info!(
                event = "tls_certificate", name = %self.names.short, expires = leaf.not_after,
                "a new certificate is in use"
            );
            self.shown.put(leaf);
        }
        Ok(())
    }

    /// The CA in the Secret, which is made if there is none, or none for much longer.
    async fn find_ca(&self) -> Result<Box<Ca>, KeepError> {
        let SelfManaged { namespace, secret: name, .. } = &self.objects;
        for _ in 0..MOST_CONFLICTS {
            let secret = self.cluster.secret(&self.objects).await?;
            // Now that it has answered, its clock is known.
            let now = self.cluster.now();
            let (why, older) = match secret::read(&secret, &self.names, now) {
                Found::Usable(ca) => return Ok(ca),
                Found::Replace { why, older } => (why, older),
            };
            let ca = Ca::generate(now)?;
            let secret = secret::with_ca(&secret, &ca, &older);
            match self.cluster.put_secret(&self.objects, &secret).await {
                Ok(_) => {
                    tracing::info!(
                        event = "ca_created", secret = %format_args!("{namespace}/{name}"), %why,
                        expires = %ca.not_after.text, "a new CA is in the Secret"
                    );
                    return Ok(Box::new(ca));
                }
                Err(error) if error.is_conflict() => {
                    tracing::info!(%error, "another replica has written the Secret");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(KeepError::BusySecret(format!("{namespace}/{name}")))
    }

    /// Whether the `caBundle` had to be put right. While it is, who shows a leaf of a CA that is trusted already can be
    /// called as before.
    async fn make_trusted(
        &mut self,
        wanted: &[CertificateDer<'static>],
        shown: Option<&CertificateDer<'static>>,
        now: u64,
    ) -> Result<bool, KeepError> {
        let name = self.objects.webhook_configuration.clone();
        let configuration = |problem| KeepError::Configuration { name: name.clone(), problem };
        let mut found = self.cluster.configuration(&self.objects).await?;
        for tries in 0..MOST_CONFLICTS {
            // What a patch has led to is looked at like anything else.
            let Some(patch) = bundle::patch(&found, wanted, now).map_err(configuration)? else {
                return Ok(tries > 0);
            };
            if shown.is_some_and(|ca| bundle::trusts(&found, ca)) {
                self.confirm();
            } else {
                self.shown.set_verified(false);
            }
            found = match self.cluster.patch_configuration(&self.objects, &patch).await {
                Ok(patched) => {
                    tracing::info!(event = "ca_bundle", configuration = %name, "the caBundle was put right");
                    patched
                }
                Err(error) if error.is_conflict() || error.is_failed_test() => {
                    tracing::info!(%error, "somebody else has changed the webhook configuration");
                    self.cluster.configuration(&self.objects).await?
                }
                Err(error) => return Err(error.into()),
            };
        }
        Err(KeepError::BusyConfiguration(name))
    }

    /// The API server was found to trust what is shown, or what will be.
    fn confirm(&mut self) {
        self.confirmed_at = Some(self.clock.now());
        self.shown.set_verified(true);
    }

    /// What was confirmed too long ago is not known any more.
    fn doubt(&self) {
        let stale =
            |confirmed| self.clock.now() > confirmed + self.objects.check_every * STALE_AFTER;
        if self.confirmed_at.is_none_or(stale) {
            self.shown.set_verified(false);
        }
    }
}
