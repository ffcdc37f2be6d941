//! HTTP/2 under load: h2load, a HAProxy that speaks HTTP/2 with the pods, and an app that speaks HTTP/1.1.
//!
//! h2load by itself takes a GOAWAY for its end: it never connects again, and counts what it could not send as failed.
//! A balancer is what stands there in a cluster anyway. This one looks for another connection when the one that it chose
//! for a request is told GOAWAY before the request is written (its `retries`), and sends nothing a second time (it would,
//! with a `retry-on`).

use std::{fmt::Write as _, net::SocketAddr, path::Path, time::Duration};

use lameduck::clock::Clock;
use tokio::process::Command;

use crate::{
    front::Front,
    pod::{self, Addresses, Plan, Pod},
    process::Process,
    report::Report,
    server::Server,
    tools,
};

/// Together 2,160 requests a second, which a machine that is busy may miss.
const CONNECTIONS: u32 = 8;
const RATE_PER_CONNECTION: u32 = 270;
/// Long enough for a drain of the least length with some load before and after it.
const LOAD: Duration = Duration::from_secs(14);
const LOOK: Duration = Duration::from_secs(2);

/// A pod leaves under load.
pub(crate) async fn drain(python: &Path) -> Result<(), String> {
    let clock = Clock::start();
    let mut leaver = Pod::start(plan('a', python)?, clock).await?;
    let stayer = Pod::start(plan('b', python)?, clock).await?;
    let front = Front::start(leaver.proxy_addr).await?;
    let balancer = Balancer::start(front.addr)?;
    let outcome = play(&mut leaver, &stayer, &front, &balancer).await;
    outcome.map_err(|problem| {
        let log = balancer.process.log_tail();
        format!("{problem}\n{}\n{}\n{log}", leaver.log_tails(), stayer.log_tails())
    })
}

async fn play(
    leaver: &mut Pod,
    stayer: &Pod,
    front: &Front,
    balancer: &Balancer,
) -> Result<(), String> {
    balancer.wait_until_ready().await?;
    let mut command = Command::new("h2load");
    command
        .args(["--duration", &LOAD.as_secs().to_string()])
        .args(["--clients", &CONNECTIONS.to_string(), "--max-concurrent-streams", "20"])
        .args(["--rps", &RATE_PER_CONNECTION.to_string()])
        .arg(format!("http://{}/?n=1", balancer.addr));
    let load = tools::run(command, 2 * LOAD);
    let drain = async {
        pod::look_on(LOOK).await;
        leaver.delete(|| front.set_endpoint(stayer.proxy_addr)).await
    };
    let (said, drained) = tokio::join!(load, drain);
    let said = said?;
    let tally = Tally::from_output(&said).ok_or_else(|| format!("no h2load report: {said}"))?;
    let (report, took) = drained.map_err(|problem| format!("{problem}\n{said}"))?;
    if !tally.is_clean() {
        return Err(format!("requests failed:\n{said}"));
    }
    expect_goodbyes(&report)?;
    println!(
        "h2load: {} requests, {:.0} a second, 0 failed, on {} connections; drained in {took:.1?}",
        tally.succeeded,
        tally.rate,
        front.accepted(),
    );
    Ok(())
}

/// HAProxy.
struct Balancer {
    addr: SocketAddr,
    process: Process,
}

/// What h2load counted.
struct Tally {
    rate: f64,
    total: u64,
    succeeded: u64,
    failed: u64,
    errored: u64,
    timeout: u64,
}

// === impl Balancer ===

impl Balancer {
    fn start(pods: SocketAddr) -> Result<Self, String> {
        let addr = Addresses::free()?.proxy;
        let mut config = String::new();
        let written = write!(
            config,
            "global\n  nbthread 1\n  log stdout format raw local0\n\
             defaults\n  mode http\n  maxconn 1000\n\
             \x20 log global\n  option httplog\n  option dontlog-normal\n\
             \x20 timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n\
             frontend load\n  bind {addr} proto h2\n  default_backend pods\n\
             backend pods\n  server front {pods} proto h2\n"
        );
        written.map_err(|error| error.to_string())?;
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-haproxy.cfg");
        std::fs::write(&path, config).map_err(|error| error.to_string())?;
        // Debian's directory of it is not on everybody's path.
        let debian = Path::new("/usr/sbin/haproxy");
        let mut command = Command::new(if debian.exists() { debian } else { Path::new("haproxy") });
        command.arg("-f").arg(path);
        Ok(Self { addr, process: Process::start("haproxy", command)? })
    }

    /// Waits until it listens.
    async fn wait_until_ready(&self) -> Result<(), String> {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..200 {
            ticks.tick().await;
            if tokio::net::TcpStream::connect(self.addr).await.is_ok() {
                return Ok(());
            }
        }
        Err("HAProxy does not listen".to_owned())
    }
}

// === impl Tally ===

impl Tally {
    /// The lines `finished in …, 2312.50 req/s, …` and `requests: 32375 total, …`.
    fn from_output(output: &str) -> Option<Self> {
        let line = |start| output.lines().find_map(|line| line.strip_prefix(start));
        let before = |line: &str, unit: &str| {
            line.split(", ").find_map(|part| part.trim().strip_suffix(unit)?.trim().parse().ok())
        };
        let rate = line("finished in ")?.split(", ");
        let rate = rate.filter_map(|part| part.strip_suffix(" req/s")?.parse().ok()).next()?;
        let counts = line("requests: ")?;
        Some(Self {
            rate,
            total: before(counts, " total")?,
            succeeded: before(counts, " succeeded")?,
            failed: before(counts, " failed")?,
            errored: before(counts, " errored")?,
            timeout: before(counts, " timeout")?,
        })
    }

    fn is_clean(&self) -> bool {
        self.total > 0
            && self.total == self.succeeded
            && self.failed + self.errored + self.timeout == 0
    }
}

// === helpers ===

fn plan(letter: char, python: &Path) -> Result<Plan, String> {
    let mut plan = Server::Node.plan(letter, python)?;
    plan.name = format!("h2load-{letter}");
    plan.variables = vec![("LAMEDUCK_CLOSE_SPREAD", "2s".to_owned())];
    Ok(plan)
}

fn expect_goodbyes(report: &Report) -> Result<(), String> {
    report.expect_clean("PreStop")?;
    report.expect_between("requests_served", 1000, usize::MAX)
}
