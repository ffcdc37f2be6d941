//! Drains with thousands of connections. Belongs here: that numbers change nothing; what a drain costs is printed, not asserted.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};

use crate::support::{
    FakeApp, PATIENCE, TestPod, app::thread, eventually, ms, now, pod::PodBuilder,
};

/// Of 20,000 descriptors that a process here may have, a parked poll takes two of the test's and two of the proxy's.
const CLIENTS: usize = 4000;

/// A pod whose drain lasts until the last of many clients has been served.
fn patient(pod: PodBuilder) -> PodBuilder {
    pod.env("DRAIN_MIN", "2s")
        .env("DRAIN_QUIET", "1s")
        .env("DRAIN_TIMEOUT", "40s")
        .env("TERMINATION_GRACE_PERIOD", "50s")
        .env("PARKED_AFTER", "200ms")
        .env("HEADER_TIMEOUT", "60s")
        .env("LINGER", "15s")
}

#[test]
fn thousands_of_idle_connections_are_all_answered_with_close() {
    let app = FakeApp::echo();
    let pod = patient(TestPod::before(&app)).start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| pod.client()).collect();
    for client in &mut clients {
        client.get("/").response().expect(200).expect_close(false);
    }
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Draining");
    let (cpu, started) = (pod.cpu(), now());
    for client in &mut clients {
        client.get("/late");
    }
    for mut client in clients {
        client.response().expect(200).expect_close(true);
        client.expect_eof();
    }
    finish(&pod, cpu, started);
    let report = pod.report();
    assert_eq!(report["late_requests"], CLIENTS, "{report:#}");
    assert_eq!(report["requests_served"], CLIENTS, "{report:#}");
    assert_eq!(report["peers_ignoring_close"], 0, "{report:#}");
}

#[test]
fn thousands_of_parked_polls_are_all_answered_with_close() {
    let app = ParkingApp::start();
    let pod = patient(TestPod::before_addr(app.addr)).start();
    let mut polls: Vec<_> = (0..CLIENTS).map(|_| pod.client()).collect();
    for poll in &mut polls {
        poll.get("/poll");
    }
    pod.wait_for_count("parked", CLIENTS as u64);
    assert_eq!(app.parked.load(SeqCst), CLIENTS);
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Draining");
    let (cpu, started) = (pod.cpu(), now());
    app.gate.notify_waiters();
    for mut poll in polls {
        poll.response().expect(200).expect_close(true);
        poll.expect_eof();
    }
    finish(&pod, cpu, started);
    let report = pod.report();
    assert_eq!(report["parked_at_start"], CLIENTS, "{report:#}");
    assert_eq!(report["parked_answered"], CLIENTS, "{report:#}");
    assert_eq!(report["connections_at_start"], CLIENTS, "{report:#}");
}

/// Prints what the drain has cost, and ends the pod.
fn finish(pod: &TestPod, cpu: std::time::Duration, started: std::time::Instant) {
    let (cpu, took) = (pod.cpu().saturating_sub(cpu), started.elapsed());
    println!(
        "{CLIENTS} connections drained in {took:?} with {cpu:?} of processor time (debug build)"
    );
    eventually("the drain ends", 2 * PATIENCE, || (pod.phase() == "Drained").then_some(()));
    pod.terminate();
    assert_eq!(pod.wait_for_exit_within(ms(15_000)), 0);
}

/// An app for thousands of polls, which wait for its gate: one thread, where [`FakeApp`] has one for each connection.
struct ParkingApp {
    addr: SocketAddr,
    parked: Arc<AtomicUsize>,
    gate: Arc<Notify>,
}

// === impl ParkingApp ===

impl ParkingApp {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).listen(4096).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (parked, gate) = (Arc::default(), Arc::default());
        let _ends_with_the_test = thread("parking app", {
            let (parked, gate) = (Arc::clone(&parked), Arc::clone(&gate));
            move || park(listener, &parked, &gate)
        });
        Self { addr, parked, gate }
    }
}

fn park(listener: TcpListener, parked: &Arc<AtomicUsize>, gate: &Arc<Notify>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (parked, gate) = (Arc::clone(parked), Arc::clone(gate));
            let _detached = tokio::task::spawn(async move {
                let (mut head, mut chunk) = (Vec::new(), [0; 512]);
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut chunk).await {
                        Ok(0) | Err(_) => return,
                        Ok(n) => head.extend_from_slice(&chunk[..n]),
                    }
                }
                let opened = gate.notified();
                parked.fetch_add(1, SeqCst);
                opened.await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                let _gone = stream.write_all(answer).await;
                let _until_closed = stream.read(&mut chunk).await;
            });
        }
    });
}
