use tokio::sync::watch;

use super::*;
use crate::{
    lifecycle::{Cause, Departure, HookAnswer, Reasons, Shed, driver},
    readiness::tests::{app, response},
    units::Uptime,
};

fn shedding(reason: ShedReason) -> Phase {
    let reasons = Reasons::NONE.with(reason);
    Phase::Shedding(Shed { reasons, since: Uptime::ZERO, hook: HookAnswer::Hold })
}

fn draining() -> Phase {
    let deadline = Uptime::from_millis(60_000);
    Phase::Draining(Departure { cause: Cause::Sigterm, since: Uptime::ZERO, deadline })
}

struct Rig {
    set: watch::Sender<Phase>,
    task: tokio::task::JoinHandle<()>,
    heads: tokio::sync::mpsc::UnboundedReceiver<String>,
}

async fn rig(answer: &str) -> Rig {
    let (addr, heads) = app(&[("/leave?now", response(answer, ""))]).await;
    let (set, watch) = driver::test_watch(Phase::Serving);
    let url = format!("http://{addr}/leave?now").parse().unwrap();
    Rig { set, task: tokio::spawn(watch_drain(url, watch)), heads }
}

#[tokio::test]
async fn the_app_is_told_once_when_draining_begins_and_that_is_all() {
    let mut rig = rig("204 No Content").await;
    rig.set.send_replace(draining());
    rig.task.await.unwrap();
    let head = rig.heads.recv().await.unwrap();
    assert!(head.starts_with("POST /leave?now HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-length: 0\r\n"), "{head}");
    assert!(rig.heads.try_recv().is_err());
}

#[tokio::test]
async fn each_beginning_is_told_and_a_failing_probe_is_none() {
    let mut rig = rig("200 OK").await;
    rig.set.send_replace(shedding(ShedReason::AppNotReady));
    rig.set.send_replace(shedding(ShedReason::Manual));
    rig.heads.recv().await.unwrap();
    rig.set.send_replace(draining());
    rig.heads.recv().await.unwrap();
    rig.task.await.unwrap();
    assert!(rig.heads.try_recv().is_err());
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_refusal_not_repeated() {
    for answer in ["307 Temporary Redirect\r\nLocation: /leave?now", "500 Internal Server Error"] {
        let mut rig = rig(answer).await;
        rig.set.send_replace(draining());
        rig.task.await.unwrap();
        rig.heads.recv().await.unwrap();
        assert!(rig.heads.try_recv().is_err(), "{answer}");
    }
}

#[tokio::test]
async fn a_url_that_is_none_ends_at_once() {
    let (_set, watch) = driver::test_watch(Phase::Serving);
    watch_drain("/leave".parse().unwrap(), watch).await;
}
