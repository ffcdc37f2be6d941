//! The networks of node and pods: the process's own namespace is the node, each pod has one of its own.
//!
//! The whole test binary runs in namespaces that end with it (see `main`), so nothing here can be left behind.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use tokio::{io::AsyncWriteExt, process::Command};

/// The node's address on the pods' network, from which probes and hooks come. (TEST-NET-2, RFC 5737.)
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Where the namespaces of pods have their names.
const NAMES: &str = "/run/netns";

static ADDRESSES: Mutex<Addresses> = Mutex::new(Addresses { used: BTreeSet::new(), last: 1 });

/// The last bytes of the pods' addresses.
struct Addresses {
    used: BTreeSet<u8>,
    last: u8,
}

/// A pod's network namespace; it ends with this and the processes in it.
pub(crate) struct PodNetwork {
    pub(crate) ip: Ipv4Addr,
    name: String,
}

/// Makes the node's bridge. To be done once, in a network and a mount namespace of the process's own.
pub(crate) fn make_node() -> Result<(), String> {
    // Names of namespaces are mounts, and the host shall not see them.
    let script = format!(
        "mount -t tmpfs pods /run && ip link set lo up && ip link add pods type bridge \
         && ip address add {NODE}/24 dev pods && ip link set pods up"
    );
    let made = std::process::Command::new("sh").args(["-ec", &script]).output();
    let output = made.map_err(|error| format!("sh: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("the node's network: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

// === impl PodNetwork ===

impl PodNetwork {
    /// A namespace that reaches the node and the other pods.
    pub(crate) async fn new() -> Self {
        let last = lock().take();
        let [a, b, c, _] = NODE.octets();
        let network = Self { ip: Ipv4Addr::new(a, b, c, last), name: format!("pod-{last}") };
        let (name, ip) = (&network.name, network.ip);
        batch(&[], &format!("netns add {name}\n")).await;
        let outside = format!(
            "link add {name} type veth peer name eth0 netns {name}\nlink set {name} master pods up\n"
        );
        batch(&[], &outside).await;
        let inside = format!("address add {ip}/24 dev eth0\nlink set lo up\nlink set eth0 up\n");
        batch(&["-netns", name], &inside).await;
        network
    }

    /// Its name, which no other pod's has now.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The processes in it, one id a line.
    pub(crate) async fn processes(&self) -> String {
        batch(&[], &format!("netns pids {}\n", self.name)).await
    }

    /// What has to stand before a command so that it runs in this network. It becomes the command, without a fork.
    pub(crate) fn enter(&self) -> [String; 3] {
        ["nsenter".to_owned(), format!("--net={NAMES}/{}", self.name), "--".to_owned()]
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        // The link goes with the namespace once its last process has gone; its name must be free for the next now.
        for arguments in [["link", "delete", &self.name], ["netns", "delete", &self.name]] {
            let deleted = std::process::Command::new("ip").args(arguments).status();
            if !deleted.is_ok_and(|status| status.success()) {
                println!("{} can't be deleted", self.name);
            }
        }
        lock().used.remove(&self.ip.octets()[3]);
    }
}

// === impl Addresses ===

impl Addresses {
    /// One that was not used for as long as possible: nobody shall take a new pod for an old one.
    fn take(&mut self) -> u8 {
        for _ in 0..=u8::MAX {
            self.last = if self.last == 254 { 2 } else { self.last + 1 };
            if self.used.insert(self.last) {
                return self.last;
            }
        }
        panic!("all addresses of the pods' network are used");
    }
}

// === helpers ===

fn lock() -> std::sync::MutexGuard<'static, Addresses> {
    ADDRESSES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `ip` carry out `commands`: what it writes.
async fn batch(options: &[&str], commands: &str) -> String {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {options:?}: {said}\n{commands}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
