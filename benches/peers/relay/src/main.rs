//! A TCP byte relay: what it costs to move bytes through a process that understands none of them.
//!
//! One thread, one level-triggered epoll, one read and one write per message. It opens one
//! connection to the origin for each client connection and has no timeouts, no limits and no
//! goodbye: it is the floor of a comparison, not a proxy to run.
//!
//! Usage: `bench-relay LISTEN_ADDR ORIGIN_ADDR`

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Larger than a loopback segment, so that a big body costs few calls.
const BUFFER: usize = 64 * 1024;

/// Epoll's token of the listener; connections have `2 * index` and `2 * index + 1`.
const LISTENER: u64 = u64::MAX;

/// One side of a pair: its socket, and what could not be written to it yet.
struct Side {
    socket: TcpStream,
    unsent: Vec<u8>,
    /// The other side sent its FIN: pass it on once `unsent` is empty.
    finish: bool,
    /// This side sent its FIN.
    ended: bool,
    interest: EventFlags,
}

/// `[client, origin]`
type Pair = [Side; 2];

struct Relay {
    poll: OwnedFd,
    listener: TcpListener,
    origin: SocketAddr,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

fn main() -> std::io::Result<ExitCode> {
    let addresses: Vec<SocketAddr> = std::env::args().skip(1).flat_map(|a| a.parse()).collect();
    let [listen, origin] = addresses[..] else {
        eprintln!("usage: bench-relay LISTEN_ADDR ORIGIN_ADDR");
        return Ok(ExitCode::from(64));
    };
    Relay::bind(listen, origin)?.run()
}

// === impl Relay ===

impl Relay {
    fn bind(listen: SocketAddr, origin: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let buffer = vec![0; BUFFER];
        Ok(Self { poll, listener, origin, pairs: Vec::new(), free: Vec::new(), buffer })
    }

    /// Returns only with an error: the relay is ended by a signal.
    fn run(&mut self) -> std::io::Result<ExitCode> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            match epoll::wait(&self.poll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    token => self.turn((token / 2) as usize, (token % 2) as usize, event.flags),
                }
            }
        }
    }

    fn accept(&mut self) -> std::io::Result<()> {
        loop {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            // A client is dropped when the origin refuses: its reset is what the load
            // generator reports.
            let Ok(origin) = TcpStream::connect(self.origin) else { continue };
            let index = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            let pair = [Side::new(client)?, Side::new(origin)?];
            for (side, token) in pair.iter().zip(2 * index as u64..) {
                epoll::add(&self.poll, &side.socket, EventData::new_u64(token), side.interest)?;
            }
            self.pairs[index] = Some(pair);
        }
    }

    /// One event of one side. A pair that has ended or failed is closed whole.
    fn turn(&mut self, index: usize, at: usize, flags: EventFlags) {
        // The other side's event of the same batch may have closed the pair.
        let Some(pair) = self.pairs[index].as_mut() else { return };
        let (left, right) = pair.split_at_mut(1);
        let (own, other) =
            if at == 0 { (&mut left[0], &mut right[0]) } else { (&mut right[0], &mut left[0]) };
        let outcome = own
            .flush(flags)
            .and_then(|()| own.pass_on(other, flags, &mut self.buffer))
            .and_then(|()| own.watch(&self.poll, 2 * index + at, other))
            .and_then(|()| other.watch(&self.poll, 2 * index + (1 - at), own));
        let over = own.ended && other.ended && own.unsent.is_empty() && other.unsent.is_empty();
        if outcome.is_err() || over {
            self.pairs[index] = None;
            self.free.push(index);
        }
    }
}

// === impl Side ===

impl Side {
    fn new(socket: TcpStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let interest = EventFlags::IN;
        Ok(Self { socket, unsent: Vec::new(), finish: false, ended: false, interest })
    }

    fn flush(&mut self, flags: EventFlags) -> std::io::Result<()> {
        if self.unsent.is_empty() || !flags.contains(EventFlags::OUT) {
            return Ok(());
        }
        let sent = self.write()?;
        self.unsent.drain(..sent);
        if self.unsent.is_empty() && self.finish {
            self.socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    fn write(&mut self) -> std::io::Result<usize> {
        match self.socket.write(&self.unsent) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Reads once and writes once; what does not fit waits in `other.unsent`.
    fn pass_on(
        &mut self,
        other: &mut Self,
        flags: EventFlags,
        buffer: &mut [u8],
    ) -> std::io::Result<()> {
        let readable = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        if self.ended || !other.unsent.is_empty() || !flags.intersects(readable) {
            return Ok(());
        }
        let got = match self.socket.read(buffer) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        };
        if got == 0 {
            self.ended = true;
            other.finish = true;
            return other.socket.shutdown(Shutdown::Write);
        }
        let sent = match other.socket.write(&buffer[..got]) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        other.unsent.extend_from_slice(&buffer[sent..got]);
        Ok(())
    }

    /// Reading waits while the other side is full: backpressure.
    fn watch(&mut self, poll: &OwnedFd, token: usize, other: &Self) -> std::io::Result<()> {
        let mut want = EventFlags::empty();
        want.set(EventFlags::IN, !self.ended && other.unsent.is_empty());
        want.set(EventFlags::OUT, !self.unsent.is_empty());
        if want != self.interest {
            self.interest = want;
            epoll::modify(poll, &self.socket, EventData::new_u64(token as u64), want)?;
        }
        Ok(())
    }
}
