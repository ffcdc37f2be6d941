//! HPACK (RFC 7541) with nothing clever: a writer of any representation, and a reader of what the proxy writes.
//!
//! Written apart from the library under test, so that the two can't share a mistake.

use std::collections::VecDeque;

use crate::support::wire::{Fields, latin1};

/// Reads header blocks of one connection, in their order.
#[derive(Debug)]
pub struct Decoder {
    dynamic: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    limit: usize,
    /// Every code with its length, shortest first.
    codes: Vec<(u8, u32, u8)>,
}

// === impl Decoder ===

impl Decoder {
    /// An empty dynamic table of 4,096 octets.
    pub fn new() -> Self {
        Self { dynamic: VecDeque::new(), size: 0, limit: 4096, codes: huffman_codes() }
    }

    /// The fields of `block`, or what is wrong with it.
    pub fn decode(&mut self, block: &[u8]) -> Result<Fields, String> {
        let mut left = block;
        let mut fields = Fields::default();
        while let Some(first) = left.first().copied() {
            let (name, value) = match first {
                0x80.. => self.entry(integer(&mut left, 7)?)?,
                0x40.. => {
                    let field = self.literal(&mut left, 6)?;
                    self.insert(field.clone());
                    field
                }
                0x20.. => {
                    self.limit = integer(&mut left, 5)?;
                    self.evict();
                    continue;
                }
                0x00.. => self.literal(&mut left, 4)?,
            };
            fields.0.push((latin1(&name), latin1(&value)));
        }
        Ok(fields)
    }

    fn literal(&self, left: &mut &[u8], prefix: u32) -> Result<(Vec<u8>, Vec<u8>), String> {
        let name = match integer(left, prefix)? {
            0 => self.string(left)?,
            index => self.entry(index)?.0,
        };
        Ok((name, self.string(left)?))
    }

    fn string(&self, left: &mut &[u8]) -> Result<Vec<u8>, String> {
        let coded = left.first().ok_or("a string that is not there")? & 0x80 != 0;
        let length = integer(left, 7)?;
        let (text, rest) = left.split_at_checked(length).ok_or("a string cut short")?;
        *left = rest;
        if coded { self.huffman(text) } else { Ok(text.to_vec()) }
    }

    fn huffman(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let (mut plain, mut code, mut length) = (Vec::new(), 0_u32, 0_u8);
        for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
            (code, length) = (code << 1 | u32::from(bit), length + 1);
            if let Ok(at) = self.codes.binary_search_by_key(&(length, code), |c| (c.0, c.1)) {
                plain.push(self.codes[at].2);
                (code, length) = (0, 0);
            }
        }
        let padding = length < 8 && code == (1 << length) - 1;
        if padding { Ok(plain) } else { Err(format!("padding of {length} bits: {code:b}")) }
    }

    fn entry(&self, index: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|at| STATIC.get(at)) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        let dynamic = index.checked_sub(STATIC.len() + 1).and_then(|at| self.dynamic.get(at));
        dynamic.cloned().ok_or_else(|| format!("no entry {index}"))
    }

    fn insert(&mut self, field: (Vec<u8>, Vec<u8>)) {
        self.size += weight(&field);
        self.dynamic.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.limit {
            let Some(oldest) = self.dynamic.pop_back() else { return };
            self.size -= weight(&oldest);
        }
    }
}

// === helpers ===

/// A block of literals without indexing, names spelt out (§6.2.2).
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0x00, name, value)).collect()
}

/// A literal with a new name; `form` is 0x00 without, 0x40 with, 0x10 never indexed (§6.2).
pub fn literal(form: u8, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![form], string(name.as_ref()), string(value.as_ref())].concat()
}

/// An indexed field (§6.1).
pub fn indexed(index: usize) -> Vec<u8> {
    number(0x80, 7, index)
}

/// A change of the dynamic table's size (§6.3).
pub fn table_size(size: usize) -> Vec<u8> {
    number(0x20, 5, size)
}

/// The beginning of a string of `length` octets, and none of them.
pub fn string_of(length: usize) -> Vec<u8> {
    number(0x00, 7, length)
}

fn string(text: &[u8]) -> Vec<u8> {
    [number(0x00, 7, text.len()), text.to_vec()].concat()
}

fn number(form: u8, prefix: u32, mut value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![form | low(value)];
    }
    let mut bytes = vec![form | low(most)];
    value -= most;
    while value >= 128 {
        bytes.push(low(value % 128) | 0x80);
        value /= 128;
    }
    bytes.push(low(value));
    bytes
}

fn low(value: usize) -> u8 {
    u8::try_from(value).expect("must be one byte")
}

fn integer(left: &mut &[u8], prefix: u32) -> Result<usize, String> {
    let mut byte = || {
        let (first, rest) = left.split_first().ok_or("a number cut short")?;
        *left = rest;
        Ok::<_, String>(usize::from(*first))
    };
    let most = (1 << prefix) - 1;
    let mut value = byte()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in (0..=21).step_by(7) {
        let more = byte()?;
        value += (more & 127) << shift;
        if more < 128 {
            return Ok(value);
        }
    }
    Err("a number longer than any honest one".into())
}

fn weight((name, value): &(Vec<u8>, Vec<u8>)) -> usize {
    name.len() + value.len() + 32
}

/// The code is canonical (RFC 7541 Appendix B): lengths say everything.
fn huffman_codes() -> Vec<(u8, u32, u8)> {
    let mut symbols: Vec<(u8, u8)> = LENGTHS.into_iter().zip(0..=255).collect();
    symbols.sort_unstable();
    let (mut code, mut before) = (0, symbols[0].0);
    let mut codes = Vec::new();
    for (length, symbol) in symbols {
        code <<= length - before;
        codes.push((length, code, symbol));
        (code, before) = (code + 1, length);
    }
    codes
}

/// Bits of each octet's code (Appendix B). The end-of-string symbol, the last of 30 bits, never comes in a string.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The static table (Appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
