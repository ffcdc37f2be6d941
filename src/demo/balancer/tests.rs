//! Against real sockets: where a request ends up is read from the servers' own counts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// A server that answers every request with the same bytes, and counts.
struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, requests) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (connections.clone(), requests.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counts.0.fetch_add(1, SeqCst);
                let requests = counts.1.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    // Requests have no body and come one by one, so each read is one request.
                    while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                        requests.fetch_add(1, SeqCst);
                        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { addr, connections, requests }
    }

    fn seen(&self) -> (usize, usize) {
        (self.connections.load(SeqCst), self.requests.load(SeqCst))
    }
}

struct Rig {
    clock: Clock,
    nat: SharedNat,
    balancer: Balancer,
}

impl Rig {
    fn new() -> Self {
        let clock = Clock::start();
        let nat = Arc::new(Mutex::new(Nat::new(Duration::ZERO)));
        Self { clock, balancer: Balancer::new(clock, nat.clone()), nat }
    }

    fn set_ready(&self, pod: u32, server: &Server, ready: bool) {
        lock(&self.nat).set_ready(PodId(pod), server.addr, ready, self.clock.now());
    }

    async fn get(&self) -> Exchange {
        self.balancer.send(0, "/", LIMIT).await
    }
}

const KEPT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CLOSED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[tokio::test]
async fn an_endpoint_change_moves_new_connections_only() {
    let (old, new) = (Server::start(KEPT).await, Server::start(KEPT).await);
    let rig = Rig::new();
    rig.set_ready(1, &old, true);
    assert_eq!(rig.get().await.pod, Some(PodId(1)));
    rig.set_ready(2, &new, true);
    rig.set_ready(1, &old, false);
    for _ in 0..3 {
        assert_eq!(rig.get().await.pod, Some(PodId(1)), "the pooled connection stays pinned");
    }
    let other_front_end = rig.balancer.send(1, "/", LIMIT).await;
    assert_eq!(other_front_end.pod, Some(PodId(2)), "a new connection follows the rules");
    assert_eq!(old.seen(), (1, 4));
    assert_eq!(new.seen(), (1, 1));
}

#[tokio::test]
async fn connection_close_is_honoured_and_moves_the_next_request() {
    let (old, new) = (Server::start(CLOSED).await, Server::start(KEPT).await);
    let rig = Rig::new();
    rig.set_ready(1, &old, true);
    assert_eq!(rig.get().await.pod, Some(PodId(1)));
    rig.set_ready(2, &new, true);
    rig.set_ready(1, &old, false);
    assert_eq!(rig.get().await.pod, Some(PodId(2)));
    assert_eq!(old.seen(), (1, 1));
}

#[tokio::test]
async fn the_connection_used_last_is_used_next() {
    let (first, second) = (Server::start(KEPT).await, Server::start(KEPT).await);
    let rig = Rig::new();
    rig.set_ready(1, &first, true);
    let now = rig.clock.now();
    let held = rig.balancer.connection(&rig.balancer.pools[0], now).await.unwrap();
    rig.set_ready(1, &first, false);
    rig.set_ready(2, &second, true);
    assert_eq!(rig.get().await.pod, Some(PodId(2)));
    lock(&rig.balancer.pools[0]).push(held);
    assert_eq!(rig.get().await.pod, Some(PodId(1)), "the one that came back last");
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_name_and_nothing_is_sent_twice() {
    for (answer, fault) in [
        ("", Fault::Cut),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nshort",
            Fault::CutInBody,
        ),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", Fault::ErrorStatus),
    ] {
        let server = if fault == Fault::CutInBody {
            truncating(answer).await
        } else {
            Server::start(answer).await
        };
        let rig = Rig::new();
        rig.set_ready(1, &server, true);
        assert_eq!(rig.get().await.fault, Some(fault));
        assert_eq!(server.seen(), (1, 1), "{fault}");
    }
    assert_eq!(Rig::new().get().await.fault, Some(Fault::Refused), "nobody to choose");
}

/// Answers one request per connection with `answer` and hangs up.
async fn truncating(answer: &'static str) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counts = (connections.clone(), requests.clone());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counts.0.fetch_add(1, SeqCst);
            let _read = stream.read(&mut [0; 1024]).await.unwrap();
            counts.1.fetch_add(1, SeqCst);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Server { addr, connections, requests }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_a_timeout() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let rig = Rig::new();
    let addr = listener.local_addr().unwrap();
    lock(&rig.nat).set_ready(PodId(1), addr, true, rig.clock.now());
    let exchange = rig.balancer.send(0, "/", Duration::from_millis(20)).await;
    assert_eq!(exchange.fault, Some(Fault::TimedOut));
}
