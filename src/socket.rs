//! Listening sockets: how an address becomes one, and what `[::]` is on a host without IPv6.
//!
//! Not here: which addresses there are ([`crate::config`]), and who accepts.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Listens at `address`, without blocking; the kernel holds `backlog` connections that nobody has accepted yet. `tune`
/// sets options before anybody can connect.
///
/// `[::]` takes IPv4 too, whatever `net.ipv6.bindv6only` says: so it is everywhere else in Kubernetes. Where there is no
/// IPv6 it becomes `0.0.0.0`, and the log says so.
///
/// # Errors
/// The address is taken or not ours, or an option can't be set.
pub fn listen(
    address: SocketAddr,
    backlog: i32,
    tune: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    everywhere(address, |address| open(address, backlog, &tune))
}

fn open(
    address: SocketAddr,
    backlog: i32,
    tune: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted container must not wait for its predecessor's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    tune(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Opens `address`, or all of IPv4 if all addresses are meant and there is no IPv6.
fn everywhere<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match open(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&error) => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            tracing::info!(%address, %instead, %error, "this host has no IPv6: listening on IPv4 only");
            open(instead)
        }
        outcome => outcome,
    }
}

/// A kernel without IPv6 knows no such sockets (socket(2)); one where it is switched off has no address for them (ip(7)).
fn lacks_ipv6(error: &io::Error) -> bool {
    let lacks = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    lacks.iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Which addresses are tried where IPv6 fails with `errno`, and what comes of it.
    fn tried(address: &str, errno: Errno) -> (Vec<String>, Result<SocketAddr, Option<i32>>) {
        let tried = RefCell::new(Vec::new());
        let outcome = everywhere(address.parse().unwrap(), |address| {
            tried.borrow_mut().push(address.to_string());
            if address.is_ipv6() { Err(errno.into()) } else { Ok(address) }
        });
        (tried.into_inner(), outcome.map_err(|error| error.raw_os_error()))
    }

    #[test]
    fn without_ipv6_every_address_means_all_of_ipv4() {
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let (tried, outcome) = tried("[::]:15801", errno);
            assert_eq!(tried, ["[::]:15801", "0.0.0.0:15801"]);
            assert_eq!(outcome, Ok("0.0.0.0:15801".parse().unwrap()));
        }
    }

    #[test]
    fn a_port_that_is_taken_and_one_address_of_ipv6_are_not_replaced() {
        for (address, errno) in [
            ("[::]:15801", Errno::ADDRINUSE),
            ("[::]:80", Errno::ACCESS),
            ("[::1]:15801", Errno::AFNOSUPPORT),
            ("[2001:db8::1]:15801", Errno::ADDRNOTAVAIL),
        ] {
            let (tried, outcome) = tried(address, errno);
            assert_eq!((tried.len(), outcome), (1, Err(Some(errno.raw_os_error()))), "{address}");
        }
    }

    #[test]
    fn what_is_bound_is_what_was_asked_for() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 1, |_| Ok(())).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
        let taken = listen(address, 1, |_| Ok(())).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
