//! Request heads: what is accepted is read in one way only, and the app is told the same in one head.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use lameduck::proxy::{
    error::Fault,
    framing::Framing,
    headers::{self, Forwarding, Scheme},
    request::{self, HeadLimits, Parsed, Request},
};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 40 };
/// What we add fits beside what was let through.
const WIDER: HeadLimits = HeadLimits { bytes: 16 * 4096, fields: 60 };

/// What a head means, apart from the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meaning {
    method: String,
    target: String,
    host: Vec<u8>,
    framing: Framing,
    expects_continue: bool,
    upgrade: Option<Vec<Vec<u8>>>,
}

fuzz_target!(|bytes: &[u8]| {
    match read(bytes, LIMITS) {
        Ok(Parsed::Whole(length, (meaning, to_app))) => {
            assert!(length <= bytes.len() && length <= LIMITS.bytes);
            check_prefixes(bytes, length, &meaning);
            check_sent(&meaning, &to_app);
        }
        // A client that sends more of it gets on: nothing refused it, so no shorter part was refused or whole.
        Ok(Parsed::Partial) => {
            let half = &bytes[..bytes.len() / 2];
            assert!(matches!(read(half, LIMITS), Ok(Parsed::Partial)), "half of a part");
        }
        Err(fault) => assert!(fault.is_clients(), "{fault} is the client's fault"),
    }
});

fn read(bytes: &[u8], limits: HeadLimits) -> Result<Parsed<(Meaning, Vec<u8>)>, Fault> {
    request::parse(bytes, limits, |length, request| {
        let head = &bytes[..length];
        assert!(head.ends_with(b"\r\n\r\n"), "ends with an empty line");
        Ok((Meaning::of(request), to_app(request)))
    })
}

fn to_app(request: &Request<'_, '_>) -> Vec<u8> {
    let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let forwarding =
        Forwarding { peer, trusted: true, default_host: "app.test", scheme: Scheme::Https };
    let mut sent = Vec::new();
    headers::to_upstream(request, &forwarding, &mut sent);
    sent
}

/// However the head is split, it is whole with its last byte and means the same.
fn check_prefixes(bytes: &[u8], length: usize, meaning: &Meaning) {
    match read(&bytes[..length], LIMITS) {
        Ok(Parsed::Whole(again, (other, _))) => assert_eq!((again, &other), (length, meaning)),
        other => panic!("whole with more, but alone {other:?}"),
    }
    for seen in [length - 1, length - 2, length / 2, length / 3] {
        let prefix = read(&bytes[..seen], LIMITS);
        assert!(matches!(prefix, Ok(Parsed::Partial)), "{seen} of {length} bytes: {prefix:?}");
    }
}

/// The app's head is one head with the same meaning, also for a reader that knows nothing of ours.
fn check_sent(meaning: &Meaning, sent: &[u8]) {
    match read(sent, WIDER) {
        Ok(Parsed::Whole(length, (told, _))) => {
            assert_eq!(length, sent.len(), "nothing follows the head");
            assert_eq!(&told, meaning);
        }
        other => panic!("the app is sent what we refuse: {other:?}"),
    }
    let bare = |at: &usize| sent[*at] == b'\n' && sent[at - 1] != b'\r';
    assert!((1..sent.len()).find(bare).is_none(), "a line feed of its own");
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut plain = httparse::Request::new(&mut fields);
    let parsed = plain.parse(sent);
    assert_eq!(parsed, Ok(httparse::Status::Complete(sent.len())));
    let count = |name: &str| {
        plain.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count()
    };
    assert_eq!(count("host"), 1);
    let (coded, counted) = match meaning.framing {
        Framing::Chunked => (1, 0),
        Framing::Length(_) => (0, 1),
        Framing::None | Framing::UntilClose => (0, 0),
    };
    assert_eq!((count("transfer-encoding"), count("content-length")), (coded, counted));
    for hop in ["keep-alive", "proxy-connection", "http2-settings", "proxy-authorization"] {
        assert_eq!(count(hop), 0, "{hop} is for one hop");
    }
}

// === impl Meaning ===

impl Meaning {
    fn of(request: &Request<'_, '_>) -> Self {
        let upgrade = request.upgrade.as_ref();
        Self {
            method: request.method.to_owned(),
            // The app is never sent an empty path (RFC 9112 §3.2.1).
            target: match request.target {
                query if query.starts_with('?') => format!("/{query}"),
                target => target.to_owned(),
            },
            host: request.host.unwrap_or(b"app.test").to_vec(),
            framing: request.framing,
            expects_continue: request.expects_continue,
            upgrade: upgrade.map(|offers| offers.iter().map(|offer| offer.to_vec()).collect()),
        }
    }
}
