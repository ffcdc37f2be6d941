//! The app of the story, as a process of its own: greets, holds long polls, says whether it is ready, and can be broken.
//!
//! It knows nothing of graceful shutdown: SIGTERM ends it at once, whatever is open. It is as strict a reader as every
//! app of these tests.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};

use crate::support::{
    FakeApp, Gate, Then,
    app::Exchange,
    http2_app::{Http2App, Settings},
    let_pass,
};

/// The two headers that the story's server sets, and that make a balancer keep the connection.
const KEPT: &str = "Connection: Keep-Alive\r\nKeep-Alive: timeout=30\r\n";

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// What can be turned over from outside.
#[derive(Clone, Default)]
struct Switches {
    unready: Arc<AtomicBool>,
    unhealthy: Arc<AtomicBool>,
}

/// Serves until a signal comes: on the port that the first argument names, else on that of `PORT`, else on 8080. The
/// second argument is how long it takes to start, in milliseconds, and on the port that the third names it speaks gRPC.
#[allow(clippy::disallowed_methods, reason = "an app's own configuration")]
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u16>().ok());
    let told = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
    let port = number(0).or(told).unwrap_or(8080);
    let_pass(Duration::from_millis(number(1).unwrap_or(0).into()));
    let switches = Switches::default();
    let _health = number(2).map(|port| switches.clone().health(port));
    let _app = FakeApp::at(([0, 0, 0, 0], port).into(), move |exchange| switches.answer(exchange));
    // Until the process is told to end, which nobody hears.
    loop {
        Gate::default().wait();
    }
}

// === impl Switches ===

impl Switches {
    fn answer(&self, exchange: &mut Exchange<'_>) -> Then {
        let target = exchange.request.target.clone();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let value = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let number = value("n").unwrap_or_default();
        match path {
            "/" => exchange.reply("200 OK", KEPT, format!("good day {number}").as_bytes()),
            "/poll" => {
                let length = value("ms").and_then(|millis| millis.parse().ok()).unwrap_or(30_000);
                let_pass(Duration::from_millis(length));
                exchange.reply("200 OK", KEPT, format!("nothing new {number}").as_bytes())
            }
            "/ready/" => health(exchange, &self.unready),
            "/live/" => health(exchange, &self.unhealthy),
            "/unready/" => turn_over(exchange, &self.unready),
            "/unhealthy/" => turn_over(exchange, &self.unhealthy),
            "/goodbye/" => {
                println!("goodbye");
                exchange.reply("200 OK", "", b"")
            }
            "/crash/" => {
                let _unsent = kill_process(getpid(), Signal::KILL);
                Then::Reset
            }
            _ => exchange.reply("404 Not Found", "", b"no such page"),
        }
    }
}

impl Switches {
    /// What `grpc.health.v1.Health` answers on `port` of the services `ready` and `live`; there is no other.
    fn health(self, port: u16) -> Http2App {
        Http2App::at(([0, 0, 0, 0], port).into(), Settings::default(), move |mut exchange| {
            let switches = self.clone();
            async move {
                let asked = exchange.body().await;
                // Behind the message's length, and the service's number and length.
                let bad = match asked.get(7..) {
                    Some(b"ready") => Some(&switches.unready),
                    Some(b"live") => Some(&switches.unhealthy),
                    Some(_) | None => None,
                };
                exchange.head(200, &[("content-type", "application/grpc")]);
                let Some(bad) = bad.filter(|_| exchange.request.uri.path() == CHECK) else {
                    return exchange.finish_with(&[("grpc-status", "5")]);
                };
                // SERVING or NOT_SERVING.
                let status = if bad.load(Relaxed) { 2 } else { 1 };
                exchange.send(&[0, 0, 0, 0, 2, 0x08, status]).await;
                exchange.finish_with(&[("grpc-status", "0")]);
            }
        })
    }
}

// === helpers ===

fn health(exchange: &mut Exchange<'_>, bad: &AtomicBool) -> Then {
    let status = if bad.load(Relaxed) { "503 Service Unavailable" } else { "200 OK" };
    exchange.reply(status, "", b"")
}

fn turn_over(exchange: &mut Exchange<'_>, bad: &AtomicBool) -> Then {
    bad.fetch_not(Relaxed);
    exchange.reply("200 OK", "", b"turned over")
}
