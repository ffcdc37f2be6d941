//! The process under test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{PATIENCE, api::Api, client::Client, eventually};

/// What certificates are made for.
pub const NAME: &str = "injector.lameduck-system.svc";

/// A running injector. Killed when dropped; a failing test prints its log.
pub struct Injector {
    pub webhook: SocketAddr,
    pub health: SocketAddr,
    child: Mutex<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// The CA that its clients trust if it has files, PEM.
    pub ca: String,
    folder: Arc<TempDir>,
}

/// How it is started.
pub struct Builder {
    arguments: Vec<String>,
    ca: String,
    folder: Arc<TempDir>,
}

pub fn lameduck() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lameduck"));
    command.env_clear();
    command
}

/// A self-signed certificate for [`NAME`], and its key.
pub fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![NAME.to_owned(), "localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

// === impl Builder ===

impl Builder {
    /// With a certificate in files.
    pub fn with_files() -> Self {
        let folder = TempDir::new().unwrap();
        let (certificate, key) = pair();
        fs::write(folder.path().join("tls.crt"), &certificate).unwrap();
        fs::write(folder.path().join("tls.key"), key).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let arguments = [
            "--certs".to_owned(),
            "files".to_owned(),
            "--tls-cert".to_owned(),
            path("tls.crt"),
            "--tls-key".to_owned(),
            path("tls.key"),
        ];
        let builder =
            Self { arguments: arguments.into(), ca: certificate, folder: Arc::new(folder) };
        builder.config("options: {native-sidecar: \"true\"}")
    }

    /// With a certificate of its own, in the cluster of `api`.
    pub fn self_managed(api: &Api) -> Self {
        Self::outside(&api.kubeconfig())
    }

    /// The same, with an API server that a kubeconfig leads to.
    pub fn outside(content: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, content).unwrap();
        let flags = "--namespace lameduck-system --service injector --secret injector-ca \
                     --webhook-configuration lameduck-injector --check-every 1s --kubeconfig";
        let mut arguments: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        arguments.push(kubeconfig.display().to_string());
        Self { arguments, ca: String::new(), folder: Arc::new(folder) }
    }

    pub fn config(mut self, text: &str) -> Self {
        let path = self.folder.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        self.arguments.retain(|argument| !argument.starts_with("--config="));
        self.arguments.push(format!("--config={}", path.display()));
        self
    }

    /// With access to the API server that this leads to.
    pub fn kubeconfig(self, content: &str) -> Self {
        let path = self.folder.path().join("kubeconfig");
        fs::write(&path, content).unwrap();
        self.argument(&format!("--kubeconfig={}", path.display()))
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Injector {
        let mut child = lameduck()
            .arg("injector")
            .args(["--listen", "127.0.0.1:0", "--health", "127.0.0.1:0", "--log-format", "json"])
            .args(self.arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, listening) = mpsc::channel();
        let (lines, kept) = (BufReader::new(child.stdout.take().unwrap()).lines(), log.clone());
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line)
                    && event["event"] == "listening"
                {
                    let address = |key: &str| event[key].as_str().unwrap().parse().unwrap();
                    // The test may have ended.
                    let _ = sender.send((address("webhook"), address("health")));
                }
                kept.lock().unwrap().push(line);
            }
        });
        let (webhook, health) = listening.recv_timeout(PATIENCE).expect("it listens");
        let (ca, folder) = (self.ca, self.folder);
        Injector { webhook, health, child: Mutex::new(child), log, ca, folder }
    }
}

// === impl Injector ===

impl Injector {
    pub async fn until_ready(self) -> Self {
        eventually("it is ready", async || {
            (self.health("/readyz").await.ok()?.0 == 200).then_some(())
        })
        .await;
        self
    }

    /// What the health port answers.
    pub async fn health(&self, path: &str) -> std::io::Result<(u16, String)> {
        crate::client::get(self.health, path).await
    }

    /// A connection that trusts the certificate in its files.
    pub async fn connect(&self) -> Client {
        Client::connect(self.webhook, &self.ca).await.unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.child.lock().unwrap());
        kill_process(pid, Signal::TERM).unwrap();
    }

    pub async fn exit_code(&self) -> i32 {
        let status =
            eventually("it exits", async || self.child.lock().unwrap().try_wait().unwrap());
        status.await.code().unwrap()
    }

    /// Whether a line of the log contains `text`.
    pub fn logs(&self, text: &str) -> bool {
        self.count_logged(text) > 0
    }

    /// How many lines of the log contain `text`.
    pub fn count_logged(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line of the log that contains `text`.
    pub async fn until_logged(&self, text: &str) {
        eventually(text, async || self.logs(text).then_some(())).await;
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.log.lock().unwrap().join("\n"));
        }
        let child = self.child.get_mut().unwrap();
        // It may have ended.
        let _ = child.kill();
        let _ = child.wait();
    }
}
