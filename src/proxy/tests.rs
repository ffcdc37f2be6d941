use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use super::*;
use crate::{
    config::{Facts, MapVars},
    lifecycle::{
        driver::{self, Driver},
        machine::{Entry, Input, Machine, Reach},
    },
    slots::Slots,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A route that is not configured: using it is a defect, and panics.
const NO_ROUTE: usize = 7;

/// One worker in `Serving` before an app, what it counts, and who keeps its phase.
fn worker() -> (Workers, Tracker, Driver) {
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = app.local_addr().unwrap();
    let _ends_with_the_test = thread::spawn(move || {
        for mut stream in app.incoming().map_while(Result::ok) {
            let mut request = [0; 1024];
            while matches!(stream.read(&mut request), Ok(n) if n > 0) {
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let vars = MapVars::new().with("LAMEDUCK_ROUTES", &format!("15801={address}"));
    let config = Config::from_vars(&vars, &Facts { fd_limit: 1024, cpus: 1 }).unwrap();
    let (clock, tracker) = (Clock::start(), Tracker::new(1));
    let mut machine = Machine::new(config.budget, Entry::Accepts);
    machine.handle(Uptime::ZERO, Input::Upstream(Reach::Accepted));
    let (_trigger, watch, driver) = driver::new(machine, clock, tracker.clone());
    let pressure = Pressure::none();
    let config = Arc::new(config);
    let outages = Outages::none(config.routes.len());
    let all = tracker.clone();
    let failures = Failures::default();
    let context =
        Context { config, clock, watch, tracker: all, pressure, tls: None, outages, failures };
    (Workers::spawn(&context).unwrap(), tracker, driver)
}

/// A client whose connection the worker serves as `route`'s.
fn connect(workers: &Workers, slots: &Slots, route: usize) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (stream, peer) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let slot = slots.take();
    workers.serve(Accepted { stream, peer, route, at: Uptime::ZERO, slot });
    client
}

fn answer(client: &mut TcpStream) -> String {
    client.write_all(REQUEST).unwrap();
    let mut text = String::new();
    while !text.ends_with("ok") {
        let mut bytes = [0; 1024];
        let n = client.read(&mut bytes).unwrap();
        assert_ne!(n, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    text
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only_and_is_counted() {
    let (workers, tracker, _driver) = worker();
    let slots = Slots::new(10, Pressure::none());
    let mut neighbour = connect(&workers, &slots, 0);
    assert!(answer(&mut neighbour).starts_with("HTTP/1.1 200"));
    assert_eq!(tracker.counts()[Count::ErrorInternal], 0);

    let mut victim = connect(&workers, &slots, NO_ROUTE);
    victim.write_all(REQUEST).unwrap();
    // Closed, with or without a reset, and without an answer.
    assert!(matches!(victim.read(&mut [0; 64]), Ok(0) | Err(_)));
    slots.wait_until_at_most(1).await;
    assert_eq!(tracker.counts()[Count::ErrorInternal], 1);
    assert_eq!(tracker.counts()[Count::Connections], 1);
    assert_eq!(tracker.counts()[Count::InFlight], 0, "its guards have counted it out");

    assert!(answer(&mut neighbour).starts_with("HTTP/1.1 200"), "the neighbour goes on");
    let mut next = connect(&workers, &slots, 0);
    assert!(answer(&mut next).starts_with("HTTP/1.1 200"), "and so does the worker");
    drop((neighbour, next));
    workers.stop();
}
