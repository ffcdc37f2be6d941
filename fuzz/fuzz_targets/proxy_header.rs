//! PROXY headers: what is read is what the specification says, and more bytes never change what was settled.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use lameduck::proxy::proxy_header::{LONGEST, LONGEST_V1, Parsed, parse};
use libfuzzer_sys::fuzz_target;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fuzz_target!(|bytes: &[u8]| {
    let settled = parse(bytes);
    match settled {
        Parsed::Whole { length, source } => check_whole(bytes, length, source),
        Parsed::More => {
            assert!(bytes.len() < LONGEST, "there is an end to waiting");
            assert!(
                bytes.is_empty()
                    || b"PROXY ".starts_with(&bytes[..bytes.len().min(6)])
                    || SIGNATURE.starts_with(&bytes[..bytes.len().min(12)])
            );
        }
        Parsed::Bad(reason) => assert!(!reason.is_empty()),
    }
    check_prefixes(bytes, settled);
});

/// Up to some byte the header goes on; from there on it is settled, and stays so.
fn check_prefixes(bytes: &[u8], settled: Parsed) {
    let mut first = None;
    // A long tail says nothing new, and takes its time.
    for seen in (0..=bytes.len()).take(LONGEST_V1 + 200) {
        match (first, parse(&bytes[..seen])) {
            (None, Parsed::More) => {}
            (None, now) => {
                if let Parsed::Whole { length, source: _ } = now {
                    assert_eq!(length, seen, "whole with its last byte");
                }
                first = Some(now);
            }
            (Some(Parsed::Bad(_)), now) => {
                assert!(matches!(now, Parsed::Bad(_)), "{seen}: {now:?}")
            }
            (Some(before), now) => assert_eq!(now, before, "{seen} bytes"),
        }
    }
    match first {
        Some(whole @ Parsed::Whole { .. }) => assert_eq!(settled, whole),
        Some(Parsed::Bad(_)) => assert!(matches!(settled, Parsed::Bad(_))),
        Some(Parsed::More) | None => {}
    }
}

fn check_whole(bytes: &[u8], length: usize, source: Option<SocketAddr>) {
    assert!(length <= bytes.len() && length <= LONGEST);
    let header = &bytes[..length];
    if header.starts_with(SIGNATURE) {
        let announced = usize::from(u16::from_be_bytes([header[14], header[15]]));
        assert_eq!(length, 16 + announced);
        let tcp = match (header[12], header[13] >> 4, source) {
            (0x21, 1, Some(source)) => Some((source, &header[16..20], &header[24..26])),
            (0x21, 2, Some(source)) => Some((source, &header[16..32], &header[48..50])),
            (0x20, _, None) | (0x21, 0 | 3, None) => None,
            other => panic!("{other:?}"),
        };
        if let Some((source, address, port)) = tcp {
            let octets = match source.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            assert_eq!((&octets[..], &source.port().to_be_bytes()[..]), (address, port));
        }
        return;
    }
    assert!(length <= LONGEST_V1 && header.starts_with(b"PROXY ") && header.ends_with(b"\r\n"));
    let line = std::str::from_utf8(&header[..length - 2]);
    let Some(source) = source else {
        assert!(header.starts_with(b"PROXY UNKNOWN"), "{header:?}");
        return;
    };
    let words: Vec<_> = line.expect("must be text").split(' ').collect();
    assert_eq!(words.len(), 6);
    assert_eq!(words[1] == "TCP4", source.is_ipv4());
    let ip: IpAddr = words[2].parse().expect("must be an address");
    assert_eq!((ip, words[4]), (source.ip(), source.port().to_string().as_str()));
}
