//! The sniffer of the HTTP/2 preface says what the bytes are, and never changes its mind.

#![no_main]

use lameduck::proxy::preface::{PREFACE, Sniffed, sniff};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut settled = None;
    for seen in 0..=bytes.len().min(PREFACE.len() + 8) {
        let prefix = &bytes[..seen];
        let sniffed = sniff(prefix);
        let expected = if prefix.starts_with(PREFACE) {
            Sniffed::Http2
        } else if PREFACE.starts_with(prefix) {
            Sniffed::More
        } else {
            Sniffed::Http1
        };
        assert_eq!(sniffed, expected, "{seen} bytes");
        if sniffed != Sniffed::More {
            assert_eq!(*settled.get_or_insert(sniffed), sniffed, "changed at {seen} bytes");
        }
    }
    if bytes.len() >= PREFACE.len() {
        assert_eq!(settled, Some(sniff(bytes)));
    }
});
