//! Local ports that are used up, in a network namespace that has sixty of them.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use socket2::SockRef;

use crate::{
    network::Network,
    support::{FakeApp, Gate, TestPod, let_pass, ms, now},
};

/// An address that is the namespace's own, but not loopback.
const ELSEWHERE: &str = "10.9.8.7";

const PORTS: usize = 60;

/// A network with sixty local ports.
fn few_ports() -> Network {
    let last = 40_000 + PORTS - 1;
    Network::new(&format!(
        "ip address add {ELSEWHERE}/32 dev lo && echo 40000 {last} >/proc/sys/net/ipv4/ip_local_port_range"
    ))
}

// === tests ===

pub fn that_are_used_up_towards_a_loopback_app_cost_no_request() {
    few_ports().run(|| {
        let gate = Gate::default();
        let app = FakeApp::polls(&gate);
        let pod = TestPod::before(&app).start();
        let held = use_up(app.addr);
        let mut polls: Vec<_> = (0..PORTS / 2).map(|_| pod.client()).collect();
        for poll in &mut polls {
            poll.get("/poll");
        }
        app.wait_for(PORTS / 2);
        pod.fetch("/").expect(200);
        gate.open();
        for poll in &mut polls {
            poll.response().expect(200).expect_close(false);
        }
        assert_eq!(pod.status()["counts"]["upstream_connect_failures"], 0);
        drop(held);
    });
}

pub fn that_are_used_up_towards_another_app_are_waited_for_within_the_connect_timeout() {
    few_ports().run(|| {
        let app = FakeApp::at(format!("{ELSEWHERE}:8080").parse().unwrap(), |exchange| {
            exchange.reply("200 OK", "", b"ok")
        });
        let pod = TestPod::before(&app).env("UPSTREAM_CONNECT_TIMEOUT", "1s").start();
        let held = use_up(app.addr);

        let asked = now();
        let response = pod.fetch("/").expect(503);
        assert!(response.field("proxy-status").is_some(), "{response:?}");
        let took = asked.elapsed();
        assert!(took >= ms(600) && took < ms(2500), "told after {took:?}");

        let mut waiting = pod.client();
        waiting.get("/");
        let_pass(ms(200));
        assert!(waiting.is_open_and_silent(), "nobody waited for a port");
        drop(held);
        waiting.response().expect(200);
    });
}

/// Holds all ports towards `app`.
fn use_up(app: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    loop {
        match TcpStream::connect(app) {
            Ok(stream) => {
                // A reset leaves no TIME_WAIT, which would hold the port for a minute.
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                held.push(stream);
            }
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => break,
            Err(error) => panic!("{error}"),
        }
    }
    // The proxy has looked whether the app listens, and keeps no more than that.
    assert!(held.len() >= PORTS - 5 && held.len() <= PORTS, "{} ports", held.len());
    held
}
