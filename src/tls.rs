//! TLS on the proxy ports: certificate, key and client CA, read at the start and again whenever their files change.
//!
//! Everything a handshake needs is one immutable [`ServerConfig`]. A handshake takes the present one, once; a reload
//! puts another one in its place. So certificate, key and CA always belong together, new handshakes use the new ones
//! at once, and connections that exist go on with what they began with.
//!
//! Files are looked at once a second, by content. Watching for events would be no simpler and less certain:
//! Kubernetes changes a mounted Secret by swapping a symbolic link two levels up, other tools rename or write in
//! place, some file systems have no events at all – and their contents are the same everywhere. Three files of a few
//! KiB cost some microseconds.
//!
//! Not here: handshakes ([`crate::proxy`]); TLS to the app, which only probes speak ([`crate::readiness`]).

pub(crate) mod certificate;
mod files;
mod material;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::ServerConfig;

use self::{certificate::Certificate, files::Contents, material::Material};
use crate::{
    clock,
    config::{self, Issues},
};

/// How often the files are looked at: far more often than kubelet brings news (once a minute or so), and seldom
/// enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What handshakes on the proxy ports use. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: config::Tls,
    /// What `present` was made of.
    loaded: u64,
    /// Locked once per handshake and once per reload, for as long as it takes to clone an `Arc`.
    present: Mutex<Present>,
    /// When the certificate expires, in seconds since 1970; read by scrapes.
    expires_at: AtomicU64,
}

#[derive(Clone, Debug)]
struct Present {
    config: Arc<ServerConfig>,
    certificate: Certificate,
}

/// Looks after the files for as long as the process lives.
#[derive(Debug)]
struct Keeper {
    server: Server,
    /// What was last found in the files, loaded or not.
    seen: u64,
    /// Whether what was found is in use or has been complained about.
    settled: bool,
    /// The certificate that was found expired, by when that was: one warning is enough.
    told_expired: Option<u64>,
}

// === impl Server ===

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong with them. No message holds anything of the key.
    pub fn load(files: &config::Tls) -> Result<Self, Issues> {
        let contents = Contents::read(files);
        let loaded = contents.fingerprint();
        let Material { config, certificate } = material::build(files, contents)?;
        let expires_at = AtomicU64::new(certificate.not_after.unix);
        let present = Mutex::new(Present { config, certificate });
        Ok(Self(Arc::new(Shared { files: files.clone(), loaded, present, expires_at })))
    }

    /// What a handshake that begins now uses.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.present.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// When the certificate in use expires, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        self.0.expires_at.load(Relaxed)
    }

    /// Says which certificate is in use, then follows the files without end.
    pub async fn keep_up_to_date(self) {
        let mut keeper = Keeper::new(self);
        keeper.announce("TLS is on");
        loop {
            keeper.look(clock::unix_seconds());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn put(&self, Material { config, certificate }: Material) {
        self.0.expires_at.store(certificate.not_after.unix, Relaxed);
        let mut present = self.0.present.lock().unwrap_or_else(PoisonError::into_inner);
        *present = Present { config, certificate };
    }

    fn certificate(&self) -> Certificate {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner).certificate.clone()
    }
}

// === impl Keeper ===

impl Keeper {
    fn new(server: Server) -> Self {
        let seen = server.0.loaded;
        Self { server, seen, settled: true, told_expired: None }
    }

    /// Looks at the files and the calendar once. `now` is in seconds since 1970.
    fn look(&mut self, now: u64) {
        let contents = Contents::read(&self.server.0.files);
        let found = contents.fingerprint();
        if found != self.seen {
            self.seen = found;
            // Certificate and key are two files and can't change in one moment: whoever replaces them has until the
            // next look before anybody complains.
            self.settled = self.reload(contents).is_ok();
        } else if !self.settled {
            self.settled = true;
            if let Err(issues) = self.reload(contents) {
                let reason = issues.to_string().replace('\n', "; ");
                tracing::warn!(
                    event = "tls_reload_failed", %reason,
                    "the changed TLS files can't be used; the old ones stay in use"
                );
            }
        }
        self.warn_if_expired(now);
    }

    fn reload(&self, contents: Contents) -> Result<(), Issues> {
        let material = material::build(&self.server.0.files, contents)?;
        self.server.put(material);
        self.announce("new TLS files are in use");
        Ok(())
    }

    fn announce(&self, what: &str) {
        let Certificate { serial, not_before: _, not_after } = self.server.certificate();
        tracing::info!(event = "tls_certificate", %serial, expires = %not_after.text, "{what}");
    }

    fn warn_if_expired(&mut self, now: u64) {
        let Certificate { serial, not_before: _, not_after } = self.server.certificate();
        if not_after.unix < now && self.told_expired != Some(not_after.unix) {
            self.told_expired = Some(not_after.unix);
            tracing::warn!(
                event = "tls_certificate_expired", %serial, expired = %not_after.text,
                "the TLS certificate has expired: clients will refuse it"
            );
        }
    }
}

#[cfg(test)]
mod tests;
