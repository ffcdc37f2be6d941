//! Opens connections to the app, from another loopback address when the local ports of one are used up.
//!
//! A connection is told from others by its two addresses and two ports. Towards one app only the local port differs,
//! and the kernel has 28,232 of them (`net.ipv4.ip_local_port_range`). But all of 127.0.0.0/8 is this machine
//! (RFC 1122 §3.2.1.3), so on loopback there is a further source address, with as many ports again.
//!
//! Not here: trying again ([`super`]).

use std::{
    cell::Cell,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};

use crate::{config::UpstreamAddr, proxy::io::Socket};

/// Source addresses that are tried: 451,712 ports, more than a process has descriptors (1,048,576, two for each
/// request) to use at once.
const SOURCES: u8 = 16;

/// Where the app is, and from where it was reached last.
#[derive(Debug)]
pub(super) struct Opener {
    address: Address,
    /// The source that had a free port last: searching a full range for one takes the kernel a millisecond.
    source: Cell<Source>,
}

#[derive(Debug)]
enum Address {
    Ip(SocketAddr),
    Name(String, u16),
    Unix(PathBuf),
}

/// One of the [`SOURCES`]; number 0 is the kernel's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source(u8);

// === impl Opener ===

impl Opener {
    pub(super) fn new(upstream: &UpstreamAddr) -> Self {
        let address = match upstream {
            UpstreamAddr::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => Address::Ip(SocketAddr::new(ip, *port)),
                Err(_) => Address::Name(host.clone(), *port),
            },
            UpstreamAddr::Unix(path) => Address::Unix(path.clone()),
        };
        Self { address, source: Cell::new(Source(0)) }
    }

    /// `Host` for requests that came without.
    pub(super) fn default_host(&self) -> String {
        match &self.address {
            Address::Ip(address) => address.to_string(),
            Address::Name(host, port) => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    pub(super) async fn open(&self) -> io::Result<Socket> {
        let stream = match &self.address {
            Address::Ip(address) => self.connect(*address).await?,
            Address::Name(host, port) => self.connect_name(host, *port).await?,
            Address::Unix(path) => return UnixStream::connect(path).await.map(Socket::unix),
        };
        stream.set_nodelay(true)?;
        Ok(Socket::tcp(stream))
    }

    async fn connect_name(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut outcome = Err(io::Error::from(io::ErrorKind::NotFound));
        for address in lookup_host((host, port)).await? {
            outcome = self.connect(address).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn connect(&self, app: SocketAddr) -> io::Result<TcpStream> {
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for source in sources(app.ip(), self.source.get()) {
            outcome = source.connect(app).await;
            match &outcome {
                Ok(_) => self.source.set(source),
                Err(error) if is_out_of_ports(error) => continue,
                Err(_) => {}
            }
            break;
        }
        outcome
    }
}

// === impl Source ===

impl Source {
    fn address(self) -> Option<Ipv4Addr> {
        (self.0 > 0).then(|| Ipv4Addr::new(127, 0, 0, 1 + self.0))
    }

    async fn connect(self, app: SocketAddr) -> io::Result<TcpStream> {
        let Some(address) = self.address() else { return TcpStream::connect(app).await };
        let socket = TcpSocket::new_v4()?;
        // Without this bind(2) chooses the port, and takes it away from everybody else in the pod, whatever their
        // source and destination are. With it connect(2) does, which looks at both.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind((address, 0).into())?;
        socket.connect(app).await
    }
}

// === helpers ===

/// Whether no local port is free towards this destination.
pub(super) fn is_out_of_ports(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// The sources from which `app` may be reached, beginning with `first`.
fn sources(app: IpAddr, first: Source) -> impl Iterator<Item = Source> {
    let all = match app {
        IpAddr::V4(app) if app.is_loopback() => SOURCES,
        IpAddr::V4(_) | IpAddr::V6(_) => 1,
    };
    (0..all).map(move |next| Source((first.0 + next) % all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(app: &str, first: u8) -> Vec<Option<Ipv4Addr>> {
        sources(app.parse().unwrap(), Source(first)).map(Source::address).collect()
    }

    #[test]
    fn a_loopback_app_is_tried_from_every_source_once_beginning_with_the_last_good_one() {
        let tried = addresses("127.0.0.1", 14);
        let end = [Some(Ipv4Addr::new(127, 0, 0, 15)), Some(Ipv4Addr::new(127, 0, 0, 16)), None];
        assert_eq!(tried[..3], end);
        assert_eq!(tried[3], Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(tried.len(), usize::from(SOURCES));
    }

    #[test]
    fn an_app_elsewhere_is_tried_from_the_address_that_the_kernel_chooses() {
        for app in ["10.1.2.3", "::1", "2001:db8::1"] {
            assert_eq!(addresses(app, 0), [None], "{app}");
        }
    }

    #[tokio::test]
    async fn each_source_reaches_the_app_from_its_own_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        for source in sources(app.ip(), Source(0)) {
            let stream = source.connect(app).await.unwrap();
            let expected = source.address().unwrap_or(Ipv4Addr::LOCALHOST);
            assert_eq!(stream.local_addr().unwrap().ip(), expected);
        }
    }
}
