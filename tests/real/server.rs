//! The servers: how each is started, and what differs between them in a test.

use std::{path::Path, time::Duration};

use tokio::process::Command;

use crate::{
    pod::{Addresses, Plan},
    tools::{program_of, story},
};

/// A server that nobody here wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    /// Flask's own server: HTTP/1.1 without keep-alive, a thread per request.
    Flask,
    /// The Flask app under gunicorn with threads; drops idle connections after 2 s.
    Gunicorn,
    /// Node's http server; drops idle connections after 5 s and says so.
    Node,
    /// Twisted's HTTP server, with the 30 s polls it held in the story.
    Twisted,
    /// A plain ASGI app under uvicorn; drops idle connections after 5 s without saying so.
    Uvicorn,
}

// === impl Server ===

impl Server {
    /// The one that takes longest first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Twisted, Self::Flask, Self::Gunicorn, Self::Node, Self::Uvicorn];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flask => "flask",
            Self::Gunicorn => "gunicorn",
            Self::Node => "node",
            Self::Twisted => "twisted",
            Self::Uvicorn => "uvicorn",
        }
    }

    /// How long the parked polls last.
    pub(crate) const fn poll(self) -> Duration {
        match self {
            Self::Twisted => Duration::from_secs(30),
            Self::Flask | Self::Gunicorn | Self::Node | Self::Uvicorn => Duration::from_secs(8),
        }
    }

    /// `LAMEDUCK_CLOSE_SPREAD`: all connections at once for some, a ramp for others.
    pub(crate) const fn close_spread(self) -> Duration {
        match self {
            Self::Flask | Self::Gunicorn | Self::Node => Duration::ZERO,
            Self::Twisted | Self::Uvicorn => Duration::from_secs(2),
        }
    }

    /// A pod of this server.
    pub(crate) fn plan(self, letter: char, python: &Path) -> Result<Plan, String> {
        let addresses = Addresses::free()?;
        let probe = serde_json::json!({
            "httpGet": {"path": "/ready/", "port": addresses.app.port()},
            "failureThreshold": 1,
        });
        Ok(Plan {
            name: format!("{}-{letter}", self.name()),
            addresses,
            app: self.command(python, addresses.app.port()),
            probe,
            variables: vec![(
                "LAMEDUCK_CLOSE_SPREAD",
                format!("{}s", self.close_spread().as_secs()),
            )],
        })
    }

    /// The command that runs the app on `port` of the loopback address, each server with its own defaults.
    fn command(self, python: &Path, port: u16) -> Command {
        let bin = |name: &str| program_of(python, name);
        let (program, arguments) = match self {
            Self::Flask => (bin("flask"), format!("--app flask_app run --port {port}")),
            Self::Gunicorn => (
                bin("gunicorn"),
                // 64 threads: 20 of them wait in polls. The control socket would lie in the home directory.
                format!(
                    "--bind 127.0.0.1:{port} --worker-class gthread --threads 64 --no-control-socket flask_app:app"
                ),
            ),
            Self::Node => ("node".into(), format!("node_app.js {port}")),
            Self::Twisted => (bin("python"), format!("twisted_app.py {port}")),
            Self::Uvicorn => {
                (bin("uvicorn"), format!("--port {port} --no-access-log asgi_app:app"))
            }
        };
        story(&program, arguments.split(' '))
    }
}
