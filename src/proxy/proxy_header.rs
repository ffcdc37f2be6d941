//! Pure. The PROXY protocol, versions 1 and 2: how a load balancer that passes bytes on says whose bytes they are
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, "the specification").
//!
//! Strict, because whoever can send a header chooses an address: what the specification does not allow is refused, and
//! every byte is refused as soon as it can't belong to a header.
//!
//! Not here: whether a header is expected at all, and for how long it is waited for ([`super::entry`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its end included (the specification, §2.1).
pub const LONGEST_V1: usize = 107;

/// The longest header of version 2 that is accepted. Addresses take 232 bytes at the most; what balancers add – AWS the
/// endpoint's id, others the names in a client's certificate – takes some hundred. More would be memory for nothing.
pub const LONGEST: usize = 4096;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// They are no header, whatever follows.
    Bad(&'static str),
    /// They are the beginning of a header, or nothing.
    More,
    /// They begin with a header.
    Whole {
        /// How many bytes belong to it.
        length: usize,
        /// Who has connected to the balancer; `None` if the balancer speaks for itself, or does not know.
        source: Option<SocketAddr>,
    },
}

const V1_PREFIX: &[u8; 6] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const V2_FIXED: usize = 16;

/// Looks at the first bytes of a connection, all of them from the first one on.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    if begins_as(bytes, V2_SIGNATURE) && !bytes.is_empty() {
        parse_v2(bytes)
    } else if begins_as(bytes, V1_PREFIX) {
        parse_v1(bytes)
    } else {
        Parsed::Bad("there is no PROXY header")
    }
}

/// Whether `bytes` and `prefix` agree as far as both go.
fn begins_as(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

// === version 1 ===

fn parse_v1(bytes: &[u8]) -> Parsed {
    let seen = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() < LONGEST_V1 {
            Parsed::More
        } else {
            Parsed::Bad("its line is longer than 107 bytes")
        };
    };
    let Some(line) = seen[..end].strip_suffix(b"\r") else {
        return Parsed::Bad("its line does not end with CRLF");
    };
    match source_v1(line) {
        Ok(source) => Parsed::Whole { length: end + 1, source },
        Err(reason) => Parsed::Bad(reason),
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.2 56324 443`, without its end.
fn source_v1(line: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "its line is no text")?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // What follows must be ignored (the specification, §2.1).
        return Ok(None);
    }
    let [Some(source), Some(destination), Some(source_port), Some(destination_port), None] =
        [words.next(), words.next(), words.next(), words.next(), words.next()]
    else {
        return Err("its line does not have six words");
    };
    let (source, destination) = match family {
        "TCP4" => (v4(source), v4(destination)),
        "TCP6" => (v6(source), v6(destination)),
        _ => return Err("it names no known protocol"),
    };
    let (Some(source), Some(_)) = (source, destination) else {
        return Err("an address is none of its protocol");
    };
    let (Some(port), Some(_)) = (port(source_port), port(destination_port)) else {
        return Err("a port is none");
    };
    Ok(Some(SocketAddr::new(source, port)))
}

fn v4(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn v6(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Digits without a sign and without zeros in front (the specification, §2.1).
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    if digits && canonical { text.parse().ok() } else { None }
}

// === version 2 ===

fn parse_v2(bytes: &[u8]) -> Parsed {
    if let Some(version_and_command) = bytes.get(12)
        && !matches!(version_and_command, 0x20 | 0x21)
    {
        return Parsed::Bad("neither version 2 nor a known command");
    }
    if let Some(protocol) = bytes.get(13)
        && addresses_length(*protocol).is_none()
    {
        return Parsed::Bad("an unknown address family or protocol");
    }
    let Some(fixed) = bytes.first_chunk::<V2_FIXED>() else { return Parsed::More };
    let (command, protocol) = (fixed[12], fixed[13]);
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > LONGEST {
        return Parsed::Bad("it is longer than 4096 bytes");
    }
    let is_local = command == 0x20;
    // The family of LOCAL must be ignored (the specification, §2.2).
    if !is_local && length - V2_FIXED < addresses_length(protocol).unwrap_or(0) {
        return Parsed::Bad("it is shorter than its addresses");
    }
    // What follows the addresses (TLVs) is of no use here, and is skipped unread.
    let Some(rest) = bytes.get(V2_FIXED..length) else { return Parsed::More };
    let source = if is_local { None } else { source_v2(protocol, rest) };
    Parsed::Whole { length, source }
}

/// How long the addresses are of the families and protocols that there are (the specification, §2.2): unspecified, TCP
/// and UDP over IPv4 and IPv6, streams and datagrams of Unix sockets.
const fn addresses_length(protocol: u8) -> Option<usize> {
    match protocol {
        0x00 => Some(0),
        0x11 | 0x12 => Some(12),
        0x21 | 0x22 => Some(36),
        0x31 | 0x32 => Some(216),
        _ => None,
    }
}

/// Both addresses stand before both ports.
fn source_v2(protocol: u8, addresses: &[u8]) -> Option<SocketAddr> {
    let (address, port): (IpAddr, &[u8]) = match protocol >> 4 {
        1 => (IpAddr::from(*addresses.first_chunk::<4>()?), addresses.get(8..10)?),
        2 => (IpAddr::from(*addresses.first_chunk::<16>()?), addresses.get(32..34)?),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes([port[0], port[1]])))
}

#[cfg(test)]
mod tests;
