//! Listening on every address: of IPv4, of IPv6, and of what the host has of them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process::Command,
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    network::Network,
    support::{FakeApp, RawClient, TestPod},
};

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Why nothing can be reached over IPv6, if it can't.
pub fn missing() -> Option<String> {
    let tried = TcpListener::bind((IPV6, 0));
    tried.err().map(|error| format!("the machine has no IPv6: {error}"))
}

// === tests ===

pub fn a_port_alone_is_reached_over_both() {
    let app = FakeApp::echo();
    let pod = listening_at(&app, "", "");
    for ip in [IPV4, IPV6] {
        is_reached_at(&pod, &app, ip);
    }
    is_not_obeyed_through_a_mesh(&pod);
}

pub fn one_family_alone_is_reached_over_it_only() {
    let app = FakeApp::echo();
    let pod = listening_at(&app, "0.0.0.0:", "0.0.0.0:");
    is_reached_at(&pod, &app, IPV4);
    for port in [pod.proxy.port(), pod.admin.port()] {
        assert!(RawClient::try_connect((IPV6, port).into()).is_err());
    }
}

pub fn sockets_of_ipv6_alone_by_default_make_no_difference() {
    Network::new("echo 1 >/proc/sys/net/ipv6/bindv6only").run(|| {
        let app = FakeApp::echo();
        for everywhere in ["", "[::]:"] {
            let pod = listening_at(&app, everywhere, everywhere);
            for ip in [IPV4, IPV6] {
                is_reached_at(&pod, &app, ip);
            }
        }
    });
}

pub fn addresses_of_ipv6_that_are_switched_off_leave_those_of_ipv4() {
    Network::new("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6").run(|| {
        assert!(missing().is_some());
        let app = FakeApp::echo();
        for everywhere in ["", "[::]:"] {
            let pod = listening_at(&app, everywhere, everywhere);
            is_reached_at(&pod, &app, IPV4);
        }
    });
}

// === helpers ===

/// A pod before `app` whose ports, at the addresses `proxy` and `admin`, are the kernel's choice.
fn listening_at(app: &FakeApp, proxy: &str, admin: &str) -> TestPod {
    let mut pod = TestPod::before(app)
        .env("ROUTES", format!("{proxy}0={}", app.addr))
        .env("ADMIN_ADDR", format!("{admin}0"))
        .env("HOOK_TOKEN", "s3cret")
        .env("ACCESS_LOG", "all")
        .spawn();
    let line: Value = serde_json::from_str(&pod.wait_for_log(r#""event":"listening""#)).unwrap();
    let port = |name: &str| {
        let addresses = line[name].as_str().unwrap().trim_end_matches(']');
        addresses.rsplit_once(':').unwrap().1.parse::<u16>().unwrap()
    };
    pod.proxy = (IPV4, port("proxy")).into();
    pod.admin = (IPV4, port("admin")).into();
    pod.wait_for_phase("Serving");
    pod
}

/// Everybody sees the client's address as it is, and its hooks are the pod's own.
fn is_reached_at(pod: &TestPod, app: &FakeApp, ip: IpAddr) {
    let at = |address: SocketAddr| RawClient::connect((ip, address.port()).into());
    let path = format!("/{}", app.requests().len());
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nForwarded: for=6.6.6.6\r\n\r\n");
    at(pod.proxy).send(request).response().expect(200);
    let sent = app.requests().pop().unwrap().fields;
    assert_eq!(sent.get("x-forwarded-for"), Some(ip.to_string().as_str()));
    let forwarded = sent.get("forwarded").unwrap();
    let named = if ip.is_ipv4() { "for=127.0.0.1;" } else { r#"for="[::1]";"# };
    assert!(forwarded.starts_with(named), "{forwarded}");
    let logged: Value = serde_json::from_str(&pod.wait_for_log(&format!(r#""{path}""#))).unwrap();
    assert_eq!(logged["client"], ip.to_string(), "{logged}");

    for ask in ["/drain", "/undrain"] {
        at(pod.admin).send(post(ask)).response().expect(200);
    }
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, pod.admin.port()));
    let status = Command::new(env!("CARGO_BIN_EXE_lameduck"))
        .env_clear()
        .args(["status", "--json", "--admin", &everywhere.to_string()])
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

/// From where a mesh passes on what others have sent, a hook needs the token.
fn is_not_obeyed_through_a_mesh(pod: &TestPod) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 6], 0)).into()).unwrap();
    socket.connect(&pod.admin.into()).unwrap();
    RawClient::over(std::net::TcpStream::from(socket)).send(post("/drain")).response().expect(403);
    assert_eq!(pod.phase(), "Serving");
    pod.wait_for_log(r#""peer":"127.0.0.6""#);
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
