//! Local ports that are used up, in a network namespace that has sixty of them.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    fd::AsFd,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use socket2::SockRef;

use crate::support::{FakeApp, Gate, TestPod, let_pass, ms, now};

/// An address that is the namespace's own, but not loopback.
const ELSEWHERE: &str = "10.9.8.7";

const PORTS: usize = 60;

/// A network namespace, kept by a process that lives as long.
struct Network(Child);

// === impl Network ===

impl Network {
    fn new() -> Self {
        let last = 40_000 + PORTS - 1;
        let script = format!(
            "ip link set lo up && ip address add {ELSEWHERE}/32 dev lo \
             && echo 40000 {last} >/proc/sys/net/ipv4/ip_local_port_range && echo ready && read -r end"
        );
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let network = Self(keeper);
        assert_eq!(said, "ready\n", "the namespace can't be made");
        network
    }

    /// Runs `test` in the namespace, and with it every thread and process that it starts.
    fn run(&self, test: impl FnOnce() + Send) {
        let namespace = File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test();
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|_| panic!("failed, see above"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

// === tests ===

pub fn that_are_used_up_towards_a_loopback_app_cost_no_request() {
    Network::new().run(|| {
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
    Network::new().run(|| {
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
