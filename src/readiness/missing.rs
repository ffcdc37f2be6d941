//! Says in the log what `Starting` waits for, if it takes long: an app that nobody reaches, or a probe that says no.
//!
//! Not here: finding out when the wait is over; that is done by [`super::reach`] and [`super::poll`], whose answers
//! move the phase. What is looked at here moves nothing.

use std::time::Duration;

use super::{Answer, Prober, reach};
use crate::{
    config::UpstreamAddr,
    lifecycle::{Phase, driver::Watch, machine::Reach},
};

/// Most apps are up sooner; a person who looks at the log because a pod does not get ready has not waited longer.
const FIRST: Duration = Duration::from_secs(10);

/// Often enough to be among the last lines of a log, seldom enough not to be all of them.
const AGAIN: Duration = Duration::from_secs(60);

/// Tells what is missing while the phase is `Starting`: after a while, then now and again.
pub async fn watch_missing(
    upstreams: Vec<UpstreamAddr>,
    connect_timeout: Duration,
    prober: Prober,
    watch: Watch,
) {
    let mut waits = Waits { watch, pause: FIRST };
    while waits.last_on().await {
        let missing = missing(&upstreams, connect_timeout, &prober).await;
        if !missing.is_empty() {
            let missing = missing.join("; ");
            tracing::warn!(
                event = "app_missing",
                missing,
                "still starting: the app is not there, or not ready"
            );
        }
    }
}

/// The times at which there is something to say.
struct Waits {
    watch: Watch,
    pause: Duration,
}

// === impl Waits ===

impl Waits {
    /// Waits for the next of them; whether `Starting` still lasts then.
    async fn last_on(&mut self) -> bool {
        let started = self.watch.wait_for(|phase| !matches!(phase, Phase::Starting));
        let last_on = tokio::time::timeout(self.pause, started).await.is_err();
        self.pause = AGAIN;
        last_on
    }
}

// === helpers ===

/// What the machine has not been told yet: routes that do not accept, containers that are not known to be ready.
async fn missing(
    upstreams: &[UpstreamAddr],
    connect_timeout: Duration,
    prober: &Prober,
) -> Vec<String> {
    let mut missing = Vec::new();
    for upstream in upstreams {
        if reach::try_one(upstream.clone(), connect_timeout).await != Some(Reach::Accepted) {
            missing.push(match upstream {
                UpstreamAddr::Tcp { host, port } => {
                    format!("the app does not accept connections at {host}:{port}")
                }
                UpstreamAddr::Unix(path) => {
                    format!("the app does not accept connections at {}", path.display())
                }
            });
        }
    }
    let unready = prober.verdicts().into_iter().filter(|(_, verdict)| *verdict != Some(true));
    let containers: Vec<_> = unready.map(|(container, _)| container).collect();
    if let Some(said) = said(prober, &containers) {
        missing.push(said);
    }
    missing
}

fn said(prober: &Prober, unready: &[&str]) -> Option<String> {
    if unready.is_empty() {
        return None;
    }
    let last = prober.last().filter(|last| unready.contains(&last.container.as_str()));
    let said = match last.map(|last| (last.container, last.answer)) {
        Some((container, Answer::Status { status, body: _ })) => {
            format!("the last answer was {} of {container}", status.as_u16())
        }
        Some((container, Answer::Failed(why))) => format!("{container} could not be asked: {why}"),
        Some((_, Answer::Unknown)) | None => "nobody has asked".to_owned(),
    };
    Some(format!("the readiness probe does not say ready for {}: {said}", unready.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        config::{ContainerProbe, Probe, ProbeAction},
        lifecycle::driver,
        units::Uptime,
    };

    fn tcp(port: u16) -> UpstreamAddr {
        UpstreamAddr::Tcp { host: "127.0.0.1".to_owned(), port }
    }

    fn prober(port: u16) -> Prober {
        let action = ProbeAction::Tcp { host: "127.0.0.1".to_owned(), port };
        let readiness = Probe {
            action,
            timeout: Duration::from_secs(5),
            failure_threshold: 1,
            success_threshold: 1,
        };
        Prober::new(&[ContainerProbe { container: "web".to_owned(), readiness }])
    }

    #[tokio::test]
    async fn whoever_is_not_there_is_named() {
        let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let up = app.local_addr().unwrap().port();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let down = closed.local_addr().unwrap().port();
        drop(closed);
        let second = Duration::from_secs(1);
        let look = async |prober: &Prober| missing(&[tcp(up), tcp(down)], second, prober).await;
        let refused = format!("the app does not accept connections at 127.0.0.1:{down}");

        assert_eq!(look(&Prober::new(&[])).await, std::slice::from_ref(&refused));
        let unasked = prober(down);
        let probe = "the readiness probe does not say ready for web: ";
        assert_eq!(look(&unasked).await, [refused.clone(), format!("{probe}nobody has asked")]);
        unasked.observe("web", None).await;
        let found = look(&unasked).await;
        assert!(found[1].starts_with(&format!("{probe}web could not be asked: ")), "{found:?}");
        let ready = prober(up);
        ready.observe("web", None).await;
        assert_eq!(look(&ready).await, [refused]);
        assert!(missing(&[tcp(up)], second, &ready).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_after_a_while_then_now_and_again_until_the_app_is_there() {
        let (set, watch) = driver::test_watch(Phase::Starting);
        let clock = Clock::start();
        let mut waits = Waits { watch, pause: FIRST };
        for told in 0..3 {
            assert!(waits.last_on().await);
            assert_eq!(clock.now(), Uptime::ZERO + FIRST + AGAIN * told);
        }
        set.send_replace(Phase::Serving);
        assert!(!waits.last_on().await);
    }
}
