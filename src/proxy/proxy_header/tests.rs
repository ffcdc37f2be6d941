use proptest::prelude::*;

use super::*;

fn v2(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&V2_SIGNATURE[..], &[command, protocol], &length, rest].concat()
}

fn v2_tcp4() -> Vec<u8> {
    v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb])
}

fn v2_tcp6() -> Vec<u8> {
    let source = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
    v2(0x21, 0x21, &[&source[..], &[0; 16], &[0xdc, 0x04, 0x01, 0xbb]].concat())
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The header is recognised whole, whatever follows, and every part of it wants more.
#[track_caller]
fn check(header: &[u8], source: Option<SocketAddr>) {
    for after in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"PROXY ", b"\r\n"] {
        let expected = Parsed::Whole { length: header.len(), source };
        assert_eq!(parse(&[header, after].concat()), expected, "{}", header.escape_ascii());
    }
    for seen in 0..header.len() {
        assert_eq!(parse(&header[..seen]), Parsed::More, "{}", header[..seen].escape_ascii());
    }
}

#[track_caller]
fn check_bad(bytes: &[u8]) {
    let parsed = parse(bytes);
    assert!(matches!(parsed, Parsed::Bad(_)), "{}: {parsed:?}", bytes.escape_ascii());
}

#[test]
fn version_1_names_the_client() {
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", Some(address("192.0.2.1:56324")));
    check(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 0 65535\r\n",
        Some(address("255.255.255.255:0")),
    );
    check(b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", Some(address("[2001:db8::7]:56324")));
    check(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Some(address("[::ffff:192.0.2.1]:1")));
}

#[test]
fn version_1_may_not_know_the_client() {
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN and whatever else 1 2\r\n", None);
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_V1 - 16));
    assert_eq!(longest.len(), LONGEST_V1);
    check(longest.as_bytes(), None);
}

#[test]
fn version_1_is_read_strictly() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.256 56324 443\r\n",
        "PROXY TCP4 2001:db8::7 ::1 56324 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP6 [2001:db8::7] ::1 56324 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY\tTCP4 ",
        "proxy ",
        "GET / HTTP/1.1\r\n",
        "G",
        "\x16",
        "P/",
    ] {
        check_bad(line.as_bytes());
    }
    check_bad(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 \xff\r\n");
    check_bad(format!("PROXY UNKNOWN {}", "f".repeat(LONGEST_V1)).as_bytes());
    check_bad(format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_V1 - 15)).as_bytes());
}

#[test]
fn version_2_names_the_client() {
    check(&v2_tcp4(), Some(address("192.0.2.1:56324")));
    check(&v2_tcp6(), Some(address("[2001:db8::7]:56324")));
}

#[test]
fn version_2_may_not_name_a_client() {
    check(&v2(0x20, 0x00, b""), None);
    check(&v2(0x20, 0x11, &[0; 12]), None);
    // The family and what follows must be ignored.
    check(&v2(0x20, 0x11, b"short"), None);
    check(&v2(0x21, 0x00, b""), None);
    check(&v2(0x21, 0x00, b"anything"), None);
    check(&v2(0x21, 0x31, &[b'/'; 216]), None);
}

#[test]
fn tlvs_are_skipped_as_far_as_they_fit() {
    let addresses = &v2_tcp4()[V2_FIXED..];
    let aws = [&[0xea, 0x00, 0x17, 0x01][..], b"vpce-08d2bf15fac5001c9"].concat();
    check(&v2(0x21, 0x11, &[addresses, &aws].concat()), Some(address("192.0.2.1:56324")));
    let most = vec![0xee; LONGEST - V2_FIXED - addresses.len()];
    check(&v2(0x21, 0x11, &[addresses, &most].concat()), Some(address("192.0.2.1:56324")));
    check_bad(&v2(0x21, 0x11, &[addresses, &most, b"x"].concat()));
}

#[test]
fn version_2_is_read_strictly() {
    check_bad(b"\r\n\r\n\0\r\nQUIT\r");
    for (command, protocol, rest) in [
        (0x11, 0x11, 12),
        (0x22, 0x11, 12),
        (0x2f, 0x11, 12),
        (0x31, 0x11, 12),
        (0x21, 0x01, 12),
        (0x21, 0x10, 12),
        (0x21, 0x13, 12),
        (0x21, 0x41, 12),
        (0x21, 0x11, 11),
        (0x21, 0x21, 35),
        (0x21, 0x31, 215),
    ] {
        check_bad(&v2(command, protocol, &vec![0; rest]));
    }
    // What can be refused is refused at once.
    check_bad(&v2(0x41, 0x11, &[0; 12])[..13]);
    check_bad(&v2(0x21, 0x99, &[0; 12])[..14]);
    check_bad(&v2(0x21, 0x11, &[0; 5000])[..16]);
}

proptest! {
    #[test]
    fn a_verdict_stands_whatever_follows(bytes in proptest::collection::vec(any::<u8>(), 0..300), form in 0..4) {
        let bytes = match form {
            0 => bytes,
            1 => [V1_PREFIX, &bytes[..]].concat(),
            2 => [&V2_SIGNATURE[..], &bytes[..]].concat(),
            _ => v2(0x21, 0x11, &bytes),
        };
        let whole = parse(&bytes);
        for seen in 0..bytes.len() {
            match parse(&bytes[..seen]) {
                Parsed::More => {}
                Parsed::Bad(_) => prop_assert!(matches!(whole, Parsed::Bad(_))),
                Parsed::Whole { length, source } => {
                    prop_assert!(length <= seen);
                    prop_assert_eq!(whole, Parsed::Whole { length, source });
                }
            }
        }
    }
}
