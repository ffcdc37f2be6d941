//! A network of a test's own: a namespace, and threads and processes in it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::{
    fd::AsFd as _,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// A network namespace, kept by a process that lives as long.
pub struct Network(Child);

// === impl Network ===

impl Network {
    /// A namespace with loopback, in which the shell command `setup` has been run.
    pub fn new(setup: &str) -> Self {
        let script = format!("ip link set lo up && {setup} && echo ready && read -r end");
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
    pub fn run(&self, test: impl FnOnce() + Send) {
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
