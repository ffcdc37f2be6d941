//! Asks the app's readiness ourselves, so that a change is known sooner than kubelet would ask.

use std::time::Duration;

use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{
    lifecycle::{Phase, driver::Watch},
    readiness::Prober,
};

/// Asks every configured container each `every` until the pod leaves; `prober` tells the machine. Zero means
/// never.
///
/// All of them are asked, not only the first, because all must be ready: without a kubelet that asks the
/// others, the app would never be. Once the pod leaves, readiness moves nothing any more.
pub async fn watch_readiness(prober: Prober, every: Duration, watch: Watch) {
    if every.is_zero() {
        return;
    }
    let mut pollers = JoinSet::new();
    for container in prober.containers().map(ToOwned::to_owned) {
        pollers.spawn(poll(prober.clone(), container, every, watch.clone()));
    }
    while pollers.join_next().await.is_some() {}
}

async fn poll(prober: Prober, container: String, every: Duration, mut watch: Watch) {
    let mut ticks = tokio::time::interval(every);
    // An app that answers slowly is not asked twice at once, nor more often afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let asking = async {
        loop {
            ticks.tick().await;
            prober.observe(&container, None).await;
        }
    };
    tokio::select! {
        () = asking => {}
        _left = watch.wait_for(Phase::is_leaving) => {}
    }
}
