//! gRPC probes: `grpc.health.v1.Health/Check`, with the frames of the h2 crate and the two messages by hand.
//!
//! (`pkg/probe/grpc/grpc.go`.) Whoever calls says how long it waits.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client;
use http::{Request, Version, header};

/// `SERVING` in field 1, and nothing else: the only answer that is a success.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 0x08, 1];

/// Asks the app at `addr` whether `service` is served; the error says why not.
pub(super) async fn check(addr: SocketAddr, service: &str) -> Result<(), String> {
    let stream = super::handler::connect(addr).await?;
    let (mut sender, connection) =
        client::handshake(stream).await.map_err(|error| format!("HTTP/2: {error}"))?;
    let driver = async {
        // Its errors reach the one who waits for the answer.
        let _ended = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        said = exchange(&mut sender, addr, service) => said,
        () = driver => unreachable!("must be pending"),
    }
}

async fn exchange(
    sender: &mut client::SendRequest<Bytes>,
    addr: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let broken = |error: h2::Error| format!("no answer: {error}");
    let request = Request::post(format!("http://{addr}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.33 grpc-go/1.72.1")
        .body(())
        .map_err(|error| format!("gRPC to {addr}: {error}"))?;
    std::future::poll_fn(|cx| sender.poll_ready(cx)).await.map_err(broken)?;
    let (response, mut body) = sender.send_request(request, false).map_err(broken)?;
    body.send_data(question(service), true).map_err(broken)?;
    let (head, mut body) = response.await.map_err(broken)?.into_parts();
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(broken)?;
        body.flow_control().release_capacity(data.len()).map_err(broken)?;
        answer.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(broken)?.unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    match status.map(http::HeaderValue::as_bytes) {
        Some(b"0") if answer == SERVING => Ok(()),
        status => Err(format!("{} {status:?} {answer:?}", head.status)),
    }
}

/// A message of one text in field 1, which is left out when it is empty, behind its length.
fn question(service: &str) -> Bytes {
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 0x80);
    let length = length.unwrap_or_else(|| panic!("grpc.service {service}: expected a short name"));
    let mut message = Vec::new();
    if length > 0 {
        message.extend([0x0a, length]);
        message.extend(service.as_bytes());
    }
    let size = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &size[..], &message].concat().into()
}
