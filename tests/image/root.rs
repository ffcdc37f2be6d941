//! The image's files as somebody's whole world: its own root, read-only, as user 65532, no privilege to be had.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::chown,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use tempfile::TempDir;

use crate::{
    archive::Unpacked,
    build, output_of,
    support::{FakeApp, FakeKubelet, Gate, TestPod, app::thread, pod::PodBuilder},
};

/// Enters the root `$0` and becomes what follows. A container's runtime does the same, with more namespaces. Pods start
/// without a PATH.
const ENTER: &str = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && \
     PATH=/usr/sbin:/sbin:/usr/bin:/bin exec setpriv --no-new-privs chroot --groups= --userspec=65532:65532 \"$0\"";

/// The image's root, and nothing else.
fn unpacked() -> TempDir {
    let root = TempDir::new().unwrap();
    Unpacked::new(build::image()).unpack(root.path());
    root
}

/// Runs the image with `arguments`; `before` is done to its surroundings, `$0` being the root.
fn run(root: &Path, before: &str, arguments: &[&str]) -> Output {
    let script = format!("{before} {ENTER} /lameduck \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(root).args(arguments);
    command.output().unwrap()
}

/// A pod whose process is the image's.
fn in_image(root: &Path, pod: PodBuilder) -> PodBuilder {
    // A pod is started as `…/lameduck proxy`; the path is that of this build.
    let script = format!("{ENTER} /lameduck \"$2\"");
    pod.through(["unshare", "--mount", "sh", "-c", &script, root.to_str().unwrap()])
}

// === tests ===

pub fn serves_and_drains() {
    let root = unpacked();
    let said = |arguments: &[&str]| {
        let output = run(root.path(), "", arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said(&["--version"]).trim(), concat!("lameduck ", env!("CARGO_PKG_VERSION")));
    assert!(said(&["env"]).contains("LAMEDUCK_ROUTES"));

    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = Arc::new(in_image(root.path(), TestPod::before(&app)).start());
    pod.fetch("/").expect(200).expect_close(false);
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for_target("/poll", 1);
    let hook = FakeKubelet::hook(&pod, "/prestop/container/app");
    pod.terminate();
    pod.wait_for_phase("Draining");
    assert!(hook.is_held());
    gate.open();
    poll.response().expect(200).expect_close(true);
    hook.answered().expect(200);
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(pod.report()["outcome"], "drained");
}

/// From `/etc/hosts` and from a name server, as kubelet names both; without either, names lead nowhere, and nothing breaks.
pub fn finds_apps_by_name() {
    let app = FakeApp::echo();
    let named = |root: &Path, name: &str| {
        let pod = in_image(root, TestPod::before(&app));
        let route = format!("{}={name}:{}", pod.proxy, app.addr.port());
        pod.env("ROUTES", route)
    };
    let root = unpacked();
    let pod = named(root.path(), "localhost").start_unready();
    pod.fetch("/").expect(503);
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);

    let etc = root.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    std::fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    let pod = named(root.path(), "localhost").start();
    pod.fetch("/").expect(200);

    let server = NameServer::start();
    std::fs::write(etc.join("resolv.conf"), format!("nameserver {}\n", server.0.ip())).unwrap();
    let pod = named(root.path(), "web.default.svc.cluster.local").start();
    pod.fetch("/").expect(200);
}

pub fn copies_its_binary() {
    let (root, volume) = (unpacked(), TempDir::new().unwrap());
    chown(volume.path(), Some(65532), Some(65532)).unwrap();
    for folder in ["proc", "volume"] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
    }
    // Recursive, because the root is bound onto itself afterwards.
    let mounts = format!(
        "mount --bind /proc \"$0/proc\" && mount --bind {} \"$0/volume\" &&",
        volume.path().display()
    );
    let script = |arguments: &[&str]| {
        let script = format!(
            "{mounts} {} /lameduck \"$@\"",
            ENTER.replace("--bind \"$0\"", "--rbind \"$0\"")
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(root.path()).args(arguments);
        command.output().unwrap()
    };
    let output = script(&["copy", "--to", "/volume/lameduck"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let copy = volume.path().join("lameduck");
    let (original, made) =
        (std::fs::read(root.path().join("lameduck")).unwrap(), std::fs::read(&copy).unwrap());
    assert!(original == made, "the copy differs");
    assert!(output_of(Command::new(&copy).arg("--version")).starts_with("lameduck "));

    let refused = script(&["copy", "--to", "/lameduck"]);
    assert_eq!(refused.status.code(), Some(70), "its root is read-only: {refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("to /lameduck"), "{refused:?}");
    assert_eq!(script(&["copy"]).status.code(), Some(64));
    assert_eq!(std::fs::read_dir(volume.path()).unwrap().count(), 1, "nothing else is left");
}

// === a name server ===

/// A name server that knows one answer: loopback.
struct NameServer(SocketAddr);

impl NameServer {
    fn start() -> Self {
        // A loopback address of this process's own; the port is the only one that resolv.conf knows.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 253, high, low), 53)).unwrap();
        let addr = socket.local_addr().unwrap();
        let _ends_with_the_test = thread("name server", move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let _gone = socket.send_to(&answer(&question[..length]), from);
            }
        });
        Self(addr)
    }
}

/// The answer to a question of RFC 1035 §4: 127.0.0.1 if an IPv4 address is asked for, else none.
fn answer(question: &[u8]) -> Vec<u8> {
    // An option behind the question (EDNS) is not repeated.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_a = question[end - 4..end - 2] == [0, 1];
    let mut answer = question[..end].to_vec();
    // An answer, authoritative, recursion available; counts of each section.
    answer[2..4].copy_from_slice(&[0x85, 0x80]);
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        // The name as in the question, type A, class IN, 5 s to live, four bytes.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
    }
    answer
}
