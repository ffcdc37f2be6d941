//! A pod: `lameduck proxy` as a real process in front of an app, and everything a test may ask it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    PATIENCE, RawClient, Response,
    app::{FakeApp, thread},
    eventually,
};

/// A running (or ended) `lameduck proxy`. Killed when dropped; a failing test prints its log.
pub struct TestPod {
    /// Where clients connect.
    pub proxy: SocketAddr,
    /// Where hooks, probes and people connect.
    pub admin: SocketAddr,
    child: Mutex<Child>,
    pid: Pid,
    log: Arc<Log>,
}

/// A pod that has not been started yet.
#[derive(Clone, Debug)]
pub struct PodBuilder {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    environment: BTreeMap<String, String>,
    starter: Vec<String>,
}

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

// === impl PodBuilder ===

impl PodBuilder {
    /// Sets `LAMEDUCK_{name}`.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.insert(format!("LAMEDUCK_{name}"), value.to_string());
        self
    }

    /// Has `starter`, a program and its arguments, start the process: it must become it (`exec`), not fork.
    #[allow(dead_code, reason = "only `tests/host` prepares the process's surroundings")]
    pub fn through(mut self, starter: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.starter = starter.into_iter().map(Into::into).collect();
        self
    }

    /// Starts the process and waits until it serves.
    pub fn start(self) -> TestPod {
        let pod = self.spawn();
        pod.wait_for_phase("Serving");
        pod
    }

    /// Starts the process and waits until its admin port answers.
    pub fn start_unready(self) -> TestPod {
        let pod = self.spawn();
        eventually("the admin port answers", PATIENCE, || pod.try_get("/livez"));
        pod
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(self) -> TestPod {
        let proxy = [env!("CARGO_BIN_EXE_lameduck"), "proxy"];
        let mut command = self.starter.iter().map(String::as_str).chain(proxy);
        let mut child = Command::new(command.next().unwrap())
            .args(command)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let pid = Pid::from_child(&child);
        TestPod { proxy: self.proxy, admin: self.admin, child: Mutex::new(child), pid, log }
    }
}

// === impl TestPod ===

impl TestPod {
    /// A pod in front of `app` with short timings.
    pub fn before(app: &FakeApp) -> PodBuilder {
        Self::before_addr(app.addr)
    }

    /// A pod in front of whatever listens at `app`.
    pub fn before_addr(app: SocketAddr) -> PodBuilder {
        let host = own_address();
        let (proxy, admin) = (SocketAddr::from((host, 15801)), SocketAddr::from((host, 15800)));
        PodBuilder { proxy, admin, environment: BTreeMap::new(), starter: Vec::new() }
            .env("ROUTES", format!("{proxy}={app}"))
            .env("ADMIN_ADDR", admin)
            .env("DRAIN_MIN", "200ms")
            .env("DRAIN_QUIET", "200ms")
            .env("DRAIN_TIMEOUT", "5s")
            .env("TERMINATION_GRACE_PERIOD", "12s")
            .env("CLOSE_SPREAD", "500ms")
            .env("LINGER", "500ms")
            .env("WORKERS", "2")
    }

    /// A client connected to the proxy port.
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.proxy)
    }

    /// One GET through the proxy on a connection of its own.
    pub fn fetch(&self, target: &str) -> Response {
        self.client().get(target).response()
    }

    /// One request to the admin port, if it answers.
    pub fn try_admin(&self, method: &str, path: &str, fields: &str) -> Option<Response> {
        let mut client = RawClient::try_connect(self.admin).ok()?.with_patience(3 * PATIENCE);
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{fields}", self.admin);
        client.try_send(format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n")).ok()?;
        client.try_response_to(method).ok()
    }

    /// A GET to the admin port, if it answers.
    pub fn try_get(&self, path: &str) -> Option<Response> {
        self.try_admin("GET", path, "")
    }

    /// A GET to the admin port.
    pub fn get(&self, path: &str) -> Response {
        self.try_get(path).unwrap_or_else(|| panic!("GET {path}: the admin port did not answer"))
    }

    /// A POST to the admin port.
    pub fn post(&self, path: &str) -> Response {
        let answer = self.try_admin("POST", path, "");
        answer.unwrap_or_else(|| panic!("POST {path}: the admin port did not answer"))
    }

    /// `GET /status`.
    pub fn status(&self) -> Value {
        let status = self.get("/status").expect(200);
        serde_json::from_slice(&status.body).unwrap()
    }

    /// The phase's name.
    pub fn phase(&self) -> String {
        self.status()["phase"].as_str().unwrap().to_owned()
    }

    /// Waits until `/status` names `phase`.
    pub fn wait_for_phase(&self, phase: &str) {
        eventually(&format!("phase {phase}"), PATIENCE, || {
            let status: Value = serde_json::from_slice(&self.try_get("/status")?.body).ok()?;
            (status["phase"] == phase).then_some(())
        });
    }

    /// Waits until the number `name` of `/status` is `value`.
    pub fn wait_for_count(&self, name: &str, value: u64) {
        eventually(&format!("{name} = {value}"), PATIENCE, || {
            (self.status()[name].as_u64() == Some(value)).then_some(())
        });
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child.lock().unwrap();
        if child.try_wait().unwrap().is_none() {
            kill_process(self.pid, signal).unwrap();
        }
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the process to end: its exit code.
    pub fn wait_for_exit(&self) -> i32 {
        self.wait_for_exit_within(2 * PATIENCE)
    }

    /// Waits for the process to end within `limit`: its exit code.
    pub fn wait_for_exit_within(&self, limit: Duration) -> i32 {
        let status = eventually("the process ends", limit, || self.exited());
        status.unwrap_or_else(|| panic!("ended by a signal"))
    }

    /// Whether the process has ended, and with which code.
    pub fn exited(&self) -> Option<Option<i32>> {
        self.child.lock().unwrap().try_wait().unwrap().map(|status| status.code())
    }

    /// What the process has written so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Waits for a line of the log that contains `text`.
    pub fn wait_for_log(&self, text: &str) -> String {
        let found = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let lines = self.log.lines.lock().unwrap();
        let (lines, _) = self
            .log
            .grown
            .wait_timeout_while(lines, PATIENCE, |lines| found(lines).is_none())
            .unwrap();
        found(&lines).unwrap_or_else(|| panic!("no log line with {text:?}"))
    }

    /// All drain reports in the log.
    pub fn reports(&self) -> Vec<Value> {
        let lines = self.log();
        let objects = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects.filter_map(report_in).collect()
    }

    /// The drain report in the log, once it is there; a second one is a failure.
    pub fn report(&self) -> Value {
        self.wait_for_log("drain_report");
        let mut reports = self.reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        reports.remove(0)
    }

    /// Resident memory in KiB.
    pub fn rss(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Processor time so far, in steps of 10 ms.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.pid.as_raw_nonzero());
        let text = std::fs::read_to_string(path).unwrap();
        // After the name in parentheses comes field 3; 14 and 15 are ticks in user and kernel mode, 100 a second (proc(5)).
        let (_, fields) = text.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// How many file descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).unwrap().count()
    }
}

impl Drop for TestPod {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _already_ended = child.kill();
        let _reaped = child.wait();
        if std::thread::panicking() {
            let lines = self.log.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            println!("--- log of the process, its last lines of {} ---", lines.len());
            for line in &lines[lines.len().saturating_sub(20)..] {
                println!("{line}");
            }
        }
    }
}

// === impl Log ===

impl Log {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        let _ends_with_the_process = thread("log", move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                log.lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                log.grown.notify_all();
            }
        });
    }
}

// === helpers ===

/// A loopback address that no other test, and no outgoing connection, uses: then fixed ports can't clash.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = NEXT.fetch_add(1, SeqCst);
    let [_, high, low, _] = (std::process::id() << 8).to_be_bytes();
    // 127.0.0.0/16 is left to everybody else. A process starts at most 65,000 pods; a wrap meets long gone ones.
    let [_, _, spill, last] = own.to_be_bytes();
    Ipv4Addr::new(127, 1 + (high ^ spill) % 254, low, 1 + last % 254)
}

fn report_in(line: Value) -> Option<Value> {
    (line["event"] == "drain_report").then_some(line)
}
