//! The tools against a sidecar's admin port that plays a script, and the grammar of the command line.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    thread::JoinHandle,
};

use clap::CommandFactory as _;
use http::{Method, StatusCode};

use super::{
    client::{ANSWER_TIMEOUT, Client, block_on},
    drain::{Progress, wait},
    status::{Show, once, watch},
    *,
};
use crate::config::MapVars;

const SERVING: &str = r#"{"phase":"Serving","connections":2}"#;
const SHEDDING: &str = r#"{"phase":"Shedding","reasons":["Manual"],"connections":2,"in_flight":1}"#;
const SHED: &str = r#"{"phase":"Shedding","reasons":["Manual"],"connections":0,"in_flight":0}"#;
const DRAINING: &str = r#"{"phase":"Draining","reasons":["PreStop"],"connections":1}"#;

/// Between two questions of a loop.
const SOON: Duration = Duration::from_millis(10);

/// An admin port that gives these answers, one per connection, and is then gone.
struct Script {
    addr: SocketAddr,
    served: JoinHandle<Vec<String>>,
}

// === grammar ===

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn usage_is_as_documented() {
    for line in [
        "proxy",
        "demo",
        "demo --keep",
        "status --watch --json --admin [::1]:15800",
        "drain --wait --timeout 30s",
        "undrain",
        "prestop --pod",
        "prestop --pod -- true",
        "prestop --container app",
        "prestop --container app -- sh -c true",
        "env --format markdown",
        "injector --namespace ns --service s --secret s --webhook-configuration w",
        "injector --certs files --tls-cert c --tls-key k --config c.yaml --log debug --log-format text",
        "webhook-check --url https://injector.ns.svc/inject --ca ca.crt",
        "inject",
        "inject -f a.yaml -f - --set drain-timeout=30s --set image=x --kube-version v1.31.4-gke.1 --strict",
        "inject --native-sidecar false --name-port 8080=http --only-labelled --fix-services -o json",
        "uninject -f a.yaml -o yaml",
        "uninject -R -f folder",
        "check",
        "check -R -f pods.json -f - -o json --kube-version 1.31 --set drain-timeout=30s",
        "copy --to /lameduck-bin/lameduck",
    ] {
        let args = std::iter::once("lameduck").chain(line.split(' '));
        assert!(Cli::try_parse_from(args).is_ok(), "{line}");
    }
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "",
        "prestop",
        "prestop --pod --container app",
        "drain --timeout 30s",
        "drain --wait --timeout 30",
        "env --format yaml",
        "status --admin nowhere",
        "injector --certs cert-manager",
        "webhook-check --url https://injector.ns.svc/inject",
        "inject --set drain-timeout",
        "inject --native-sidecar maybe",
        "inject --kube-version 2",
        "inject --name-port http",
        "inject -o text",
        "inject a.yaml",
        "check pods.json",
        "check -o yaml",
        "copy",
        "copy /lameduck-bin/lameduck",
    ] {
        let args = std::iter::once("lameduck").chain(line.split_whitespace());
        assert!(Cli::try_parse_from(args).is_err(), "{line}");
    }
}

// === the client ===

#[test]
fn a_listener_on_all_addresses_is_asked_on_loopback() {
    let script = script(&[(200, SERVING)]);
    let everywhere = format!("0.0.0.0:{}", script.addr.port());
    let vars = MapVars::new().with("LAMEDUCK_ADMIN_ADDR", &everywhere);
    let client = Client::new(&AdminArgs { admin: None }, &vars).unwrap();
    let answer = block_on(client.ask(Method::GET, "/status", ANSWER_TIMEOUT)).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, SERVING));
    let heads = script.served.join().unwrap();
    assert!(heads[0].starts_with("GET /status HTTP/1.1\r\n"), "{heads:?}");
}

#[test]
fn the_token_is_presented() {
    let script = script(&[(200, "")]);
    let vars = MapVars::new()
        .with("LAMEDUCK_HOOK_TOKEN_FILE", "/run/token")
        .with_file("/run/token", "s3cret\n");
    let client = Client::new(&AdminArgs { admin: Some(script.addr) }, &vars).unwrap();
    block_on(client.demand(Method::POST, "/drain", ANSWER_TIMEOUT)).unwrap();
    let heads = script.served.join().unwrap();
    assert!(heads[0].to_lowercase().contains("\r\nlameduck-token: s3cret\r\n"), "{heads:?}");
}

#[test]
fn a_refusal_says_what_to_check() {
    let script = script(&[(403, "no token")]);
    let error =
        block_on(script.client().demand(Method::POST, "/drain", ANSWER_TIMEOUT)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("403") && text.contains("LAMEDUCK_HOOK_TOKEN"), "{text}");
    assert_eq!(code_of(&error), exit::INTERNAL);
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let error = block_on(gone().demand(Method::GET, "/status", ANSWER_TIMEOUT)).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("no sidecar at 127.0.0.1:") && text.contains("LAMEDUCK_ADMIN_ADDR"),
        "{text}"
    );
    assert_eq!(code_of(&error), exit::INTERNAL);
}

#[test]
fn a_bad_admin_address_is_a_usage_error() {
    let vars = MapVars::new().with("LAMEDUCK_ADMIN_ADDR", "somewhere");
    let Err(error) = Client::new(&AdminArgs { admin: None }, &vars) else { panic!("accepted") };
    assert_eq!(code_of(&error), exit::USAGE);
    assert!(error.to_string().starts_with("LAMEDUCK_ADMIN_ADDR=somewhere: expected"), "{error}");
}

// === status ===

#[test]
fn json_is_printed_as_it_was_answered() {
    let script = script(&[(200, SHEDDING)]);
    let mut out = Vec::new();
    block_on(once(&script.client(), true, &mut out)).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{SHEDDING}\n"));
}

#[test]
fn watching_prints_a_line_per_change_and_ends_with_a_leaving_sidecar() {
    let script = script(&[(200, SERVING), (200, SERVING), (200, DRAINING)]);
    let mut out = Vec::new();
    block_on(watch(&script.client(), Show::Lines, SOON, &mut out)).unwrap();
    let expected = "\
Serving: 2 connections, 0 in flight (0 parked), 0 tunnels
Draining (PreStop): 1 connection, 0 in flight (0 parked), 0 tunnels
the sidecar has ended
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn watching_a_sidecar_that_vanishes_while_serving_is_an_error() {
    let script = script(&[(200, SERVING)]);
    let error = block_on(watch(&script.client(), Show::Lines, SOON, &mut Vec::new())).unwrap_err();
    assert_eq!(code_of(&error), exit::INTERNAL);
}

// === drain ===

#[test]
fn waiting_ends_when_nothing_is_open() {
    // The first answer is from before the phase changed.
    let script = script(&[(200, SERVING), (200, SHEDDING), (200, SHEDDING), (200, SHED)]);
    let mut out = Vec::new();
    block_on(wait(&script.client(), SOON, Progress::Lines(&mut out))).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("Shedding (Manual): 2 connections").count(), 1, "{text}");
    assert!(text.contains("; waits for 1 request, 1 idle connection\n"), "{text}");
    assert!(text.ends_with("idle: no connection is open\n"), "{text}");
    assert_eq!(script.served.join().unwrap().len(), 4);
}

#[test]
fn waiting_ends_when_somebody_undrains() {
    let script = script(&[(200, SHEDDING), (200, SERVING)]);
    let error =
        block_on(wait(&script.client(), SOON, Progress::Lines(&mut Vec::new()))).unwrap_err();
    assert!(error.to_string().contains("serves again"), "{error}");
}

// === prestop ===

#[test]
fn a_container_hook_asks_in_its_name() {
    let script = script(&[(200, "")]);
    run_tool(&["prestop", "--container", "app"], script.addr);
    let heads = script.served.join().unwrap();
    assert!(heads[0].starts_with("GET /prestop/container/app HTTP/1.1\r\n"), "{heads:?}");
}

#[test]
fn the_command_of_a_hook_runs_even_if_nobody_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("ran");
    let nobody = closed_port();
    run_tool(&["prestop", "--container", "app", "--", "touch", mark.to_str().unwrap()], nobody);
    assert!(mark.exists());
}

// === helpers ===

/// Plays `answers`, one per connection.
fn script(answers: &[(u16, &str)]) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answers: Vec<_> =
        answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
    let served = std::thread::spawn(move || {
        let serve = |(status, body): (u16, String)| {
            let (mut socket, _) = listener.accept().unwrap();
            let lines = BufReader::new(socket.try_clone().unwrap()).lines();
            let head: Vec<_> = lines.map(Result::unwrap).take_while(|l| !l.is_empty()).collect();
            write!(socket, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .unwrap();
            head.join("\r\n") + "\r\n\r\n"
        };
        answers.into_iter().map(serve).collect()
    });
    Script { addr, served }
}

impl Script {
    fn client(&self) -> Client {
        Client::new(&AdminArgs { admin: Some(self.addr) }, &MapVars::new()).unwrap()
    }
}

fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn gone() -> Client {
    Client::new(&AdminArgs { admin: Some(closed_port()) }, &MapVars::new()).unwrap()
}

fn run_tool(args: &[&str], admin: SocketAddr) -> ExitCode {
    let vars = MapVars::new().with("LAMEDUCK_ADMIN_ADDR", &admin.to_string());
    let cli = Cli::try_parse_from(std::iter::once("lameduck").chain(args.iter().copied())).unwrap();
    let Command::Tool(tool) = cli.command else { panic!("{args:?} is no tool") };
    tool.run(&vars)
}
