//! TLS handshakes that fail: what the log and the counts say of them.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    api::Api,
    client::Client,
    eventually,
    injector::{Builder, pair},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_distrusts_us_shows_in_the_log_and_is_counted() {
    let injector = Builder::with_files().start().until_ready().await;
    for _ in 0..3 {
        assert!(Client::connect(injector.webhook, &pair().0).await.is_err(), "it trusts another");
    }
    injector.until_logged("\"event\":\"handshakes_failed\"").await;
    let mut plain = TcpStream::connect(injector.webhook).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Anything but TLS is answered with an alert.
    plain.read_to_end(&mut Vec::new()).await.unwrap();
    drop(TcpStream::connect(injector.webhook).await.unwrap());
    let counted = async |reason: &str| {
        let (_, metrics) = injector.health("/metrics").await.unwrap();
        let name = format!("lameduck_injector_handshakes_failed_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok()).unwrap()
    };
    for (reason, times) in [("distrusted", 3), ("not_tls", 1), ("broken_off", 1), ("other", 0)] {
        eventually(reason, async || (counted(reason).await == times).then_some(())).await;
    }
    injector.until_logged("\"reason\":\"not_tls\"").await;
    // Once a minute for each reason; who broke off is nobody's business.
    assert_eq!(injector.count_logged("\"event\":\"handshakes_failed\""), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_there_is_no_certificate_that_is_what_handshakes_fail_for() {
    let api = Api::start().await;
    api.with(|cluster| cluster.is_away = true);
    let injector = Builder::self_managed(&api).start();
    assert!(Client::connect(injector.webhook, &pair().0).await.is_err());
    injector.until_logged("\"reason\":\"no_certificate\"").await;
}
