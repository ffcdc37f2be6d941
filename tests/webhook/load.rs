//! Load: as many reviews as a large cluster makes while everything is restarted. The figures are printed; what is
//! asserted is that everybody was answered.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{client::Client, injector::Builder, reviews::recorded};

/// What came of a load.
#[derive(Debug, Default)]
pub struct Report {
    pub failed: usize,
    /// How long each took that was answered, sorted.
    took: Vec<Duration>,
}

impl Report {
    fn percentile(&self, percent: usize) -> Duration {
        let last = self.took.len().saturating_sub(1);
        self.took.get(last * percent / 100).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, failed) = (self.took.len(), self.failed);
        let [half, most, all] = [50, 99, 100].map(|percent| self.percentile(percent));
        write!(f, "{answered} answered, {failed} failed, p50 {half:?}, p99 {most:?}, max {all:?}")
    }
}

/// Sends so many reviews a second, in turn over `clients`, until `is_over`; each on time, however slow others are.
pub async fn paced(clients: &[Client], per_second: u32, is_over: impl Fn() -> bool) -> Report {
    let review = recorded("deployment-pod.json").to_string();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut requests = JoinSet::new();
    for client in clients.iter().cycle() {
        if is_over() {
            break;
        }
        pace.tick().await;
        let (client, review) = (client.clone(), review.clone());
        requests.spawn(async move {
            #[allow(clippy::disallowed_methods, reason = "measures the real process from outside")]
            let began = Instant::now();
            let answer = client.post(review).await;
            answer.is_ok_and(|answer| answer.status == 200).then(|| began.elapsed())
        });
    }
    let mut report = Report::default();
    for took in requests.join_all().await {
        match took {
            Some(took) => report.took.push(took),
            None => report.failed += 1,
        }
    }
    report.took.sort_unstable();
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_reviews_a_second_are_all_answered() {
    const PER_SECOND: u32 = 500;
    const SECONDS: usize = 4;
    let injector = Builder::with_files().start().until_ready().await;
    // Three API servers with a connection each.
    let clients = [injector.connect().await, injector.connect().await, injector.connect().await];
    let sent = Arc::new(AtomicUsize::new(0));
    let all = PER_SECOND as usize * SECONDS;
    let report = paced(&clients, PER_SECOND, || sent.fetch_add(1, SeqCst) >= all).await;
    println!("{PER_SECOND} reviews a second: {report}");
    assert_eq!((report.took.len(), report.failed), (all, 0), "{report}");
}
