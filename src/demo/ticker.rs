//! Pure. The messages of the app's gRPC method, by hand: one field each is no reason for a protobuf compiler.
//!
//! ```text
//! package lameduck.demo;
//! service Ticker { rpc Watch(WatchRequest) returns (stream Tick); }
//! message WatchRequest { uint64 count = 1; }   // how many ticks; 0 = no end
//! message Tick         { uint64 number = 1; }  // 1, 2, 3 …
//! ```
//!
//! Both look the same on the wire: a prefix of a flag and a length ("Length-Prefixed-Message" in gRPC's
//! `PROTOCOL-HTTP2.md`), then field 1 as a varint, left out when it is 0.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The method's path.
pub(super) const WATCH: &str = "/lameduck.demo.Ticker/Watch";

/// `google.rpc.Code`: all went well.
pub(super) const OK: &str = "0";

/// `google.rpc.Code`: try elsewhere.
pub(super) const UNAVAILABLE: &str = "14";

/// One byte for the flag, four for the length.
const PREFIX: usize = 5;

/// Field 1, varint.
const TAG: u8 = 0x08;

/// A tag and a varint of 64 bits.
const LONGEST: usize = 11;

/// Bytes that are no message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A whole message that says `value`.
pub(super) fn encode(value: u64) -> Bytes {
    let mut message = BytesMut::new();
    if value > 0 {
        message.put_u8(TAG);
        let mut rest = value;
        while rest >= 0x80 {
            message.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        message.put_u8(rest as u8);
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0); // not compressed
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

/// Takes the first message off `bytes` and returns what it says; `None` while it is not whole.
pub(super) fn take(bytes: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else { return Ok(None) };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let length = usize::try_from(length).map_err(|_too_long| Malformed)?;
    if prefix[0] != 0 || length > LONGEST {
        return Err(Malformed);
    }
    let Some(message) = rest.get(..length) else { return Ok(None) };
    let value = decode(message)?;
    bytes.advance(PREFIX + length);
    Ok(Some(value))
}

fn decode(message: &[u8]) -> Result<u64, Malformed> {
    let Some((tag, varint)) = message.split_first() else { return Ok(0) };
    let Some((last, first)) = varint.split_last() else { return Err(Malformed) };
    if *tag != TAG || *last >= 0x80 || first.iter().any(|byte| *byte < 0x80) {
        return Err(Malformed);
    }
    let digits = varint.iter().rev().map(|byte| u64::from(byte & 0x7f));
    Ok(digits.fold(0, |value, digit| value << 7 | digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_however_it_is_split() {
        assert_eq!(&encode(0)[..], b"\0\0\0\0\0");
        assert_eq!(&encode(300)[..], b"\0\0\0\0\x03\x08\xac\x02");
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            let whole = encode(value);
            for seen in 0..whole.len() {
                assert_eq!(take(&mut BytesMut::from(&whole[..seen])), Ok(None), "{value} {seen}");
            }
            let mut two = BytesMut::from(&[&whole[..], b"\0"].concat()[..]);
            assert_eq!(take(&mut two), Ok(Some(value)));
            assert_eq!(&two[..], b"\0", "what follows is left");
        }
    }

    #[test]
    fn what_is_no_message_of_ours_is_refused() {
        for bad in [
            &b"\x01\0\0\0\x02\x08\x01"[..],
            b"\0\x01\0\0\0",
            b"\0\0\0\0\x01\x08",
            b"\0\0\0\0\x02\x10\x01",
            b"\0\0\0\0\x02\x08\x80",
            b"\0\0\0\0\x03\x08\x01\x01",
        ] {
            assert_eq!(take(&mut BytesMut::from(bad)), Err(Malformed), "{bad:?}");
        }
    }
}
