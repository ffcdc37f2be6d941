//! The follower of WebSocket frames agrees with frames read one by one from the whole stream, however it is split.

#![no_main]

use lameduck::proxy::websocket::{Follower, FrameFault, Position, Sender};
use lameduck_fuzz::parts;
use libfuzzer_sys::fuzz_target;

/// What a stream comes to: where each of its frames ends, and how it stands behind them.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    ends: Vec<usize>,
    position: Position,
}

fuzz_target!(|input: &[u8]| {
    let (stream, parts) = parts(input);
    for sender in [Sender::Client, Sender::Server] {
        let read = reference(stream, sender);
        assert_eq!(step(stream, &parts, sender), read, "{sender:?}");
        let mut fed = Follower::new(sender);
        parts.iter().for_each(|part| fed.feed(part));
        assert_eq!(fed.position(), read.position, "{sender:?}");
        let mut whole = Follower::new(sender);
        whole.feed(stream);
        assert_eq!(whole, fed, "{sender:?}");
    }
});

/// Steps through `parts`, from frame end to frame end.
fn step(stream: &[u8], parts: &[&[u8]], sender: Sender) -> Read {
    let mut follower = Follower::new(sender);
    let mut ends = Vec::new();
    let mut at = 0;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let was = follower.position();
            let taken = follower.step(rest);
            assert!(0 < taken && taken <= rest.len(), "takes {taken} of {}", rest.len());
            rest = &rest[taken..];
            at += taken;
            match was {
                Position::Closed | Position::Lost(_) => {
                    assert_eq!((follower.position(), rest), (was, &b""[..]), "no way back");
                }
                Position::Between | Position::Within => match follower.position() {
                    Position::Between | Position::Closed => ends.push(at),
                    Position::Within => assert!(rest.is_empty(), "stops within a frame"),
                    Position::Lost(_) => {}
                },
            }
        }
    }
    assert_eq!(at, stream.len());
    Read { ends, position: follower.position() }
}

/// Reads frame after frame (RFC 6455 §5.2), each from its first byte.
fn reference(stream: &[u8], sender: Sender) -> Read {
    let mut ends = Vec::new();
    let mut at = 0;
    let mut in_message = false;
    let position = loop {
        match frame(&stream[at..], sender, &mut in_message) {
            Ok(Some((length, closes))) => {
                at += length;
                ends.push(at);
                if closes {
                    break Position::Closed;
                }
            }
            Ok(None) if at == stream.len() => break Position::Between,
            Ok(None) => break Position::Within,
            Err(fault) => break Position::Lost(fault),
        }
    };
    Read { ends, position }
}

/// The length of the frame that `bytes` begin with and whether it is a close frame; `None` if there is not all of it.
fn frame(
    bytes: &[u8],
    sender: Sender,
    in_message: &mut bool,
) -> Result<Option<(usize, bool)>, FrameFault> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
    let control = opcode & 8 != 0;
    match opcode {
        0 if !*in_message => return Err(FrameFault::FragmentOrder),
        1 | 2 if *in_message => return Err(FrameFault::FragmentOrder),
        0..=2 => *in_message = !last,
        8..=10 if !last => return Err(FrameFault::FragmentedControl),
        8..=10 => {}
        _ => return Err(FrameFault::ReservedOpcode),
    }
    let Some(second) = bytes.get(1) else { return Ok(None) };
    let masked = second & 0x80 != 0;
    if masked != (sender == Sender::Client) {
        return Err(FrameFault::Masking);
    }
    let short = second & 0x7f;
    if control && short > 125 {
        return Err(FrameFault::LongControl);
    }
    let (length, least, behind) = match short {
        126 => (bytes.get(2..4).map(number), 126, 4),
        127 => (bytes.get(2..10).map(number), 65_536, 10),
        _ => (Some(u64::from(short)), 0, 2),
    };
    let Some(length) = length else { return Ok(None) };
    if length >> 63 != 0 {
        return Err(FrameFault::LengthTooLong);
    }
    if length < least {
        return Err(FrameFault::LengthNotMinimal);
    }
    let total = u128::from(length) + behind + if masked { 4 } else { 0 };
    if (bytes.len() as u128) < total {
        return Ok(None);
    }
    Ok(Some((usize::try_from(total).expect("must fit: so many bytes are there"), opcode == 8)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
