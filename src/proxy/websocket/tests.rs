use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// A frame with `length` bytes of payload, its length in as few bytes as it needs.
fn frame(sender: Sender, first: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(length as u8),
        126..=0xffff => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if sender == Sender::Client {
        frame[1] |= MASK;
        frame.extend([0x88, 0, 0xff, 1]);
    }
    // Payload that looks like frames, in case somebody takes it for some.
    frame.extend([0x88, 0].iter().cycle().take(length));
    frame
}

/// The same question answered with all bytes at hand: frame after frame from the first byte on.
fn naive(sender: Sender, mut bytes: &[u8]) -> (Position, bool) {
    let mut in_message = false;
    loop {
        let Some(&first) = bytes.first() else { return (Position::Between, in_message) };
        let (is_final, opcode) = (first >= 0x80, first % 16);
        let fault = match opcode {
            3..=7 | 11..=15 => Some(FrameFault::ReservedOpcode),
            8..=10 if !is_final => Some(FrameFault::FragmentedControl),
            0 if !in_message => Some(FrameFault::FragmentOrder),
            1 | 2 if in_message => Some(FrameFault::FragmentOrder),
            _ => None,
        };
        if let Some(fault) = fault {
            return (Position::Lost(fault), in_message);
        }
        if opcode < 8 {
            in_message = !is_final;
        }
        let Some(&second) = bytes.get(1) else { return (Position::Within, in_message) };
        if (second >= 0x80) != (sender == Sender::Client) {
            return (Position::Lost(FrameFault::Masking), in_message);
        }
        let short = second % 128;
        if opcode >= 8 && short > 125 {
            return (Position::Lost(FrameFault::LongControl), in_message);
        }
        let extended = [(126, 2), (127, 8)].iter().find(|(mark, _)| *mark == short);
        let extended = extended.map_or(0, |(_, size)| *size);
        let Some(digits) = bytes.get(2..2 + extended) else {
            return (Position::Within, in_message);
        };
        let long = digits.iter().fold(0u128, |value, digit| value * 256 + u128::from(*digit));
        let length = if extended == 0 { u128::from(short) } else { long };
        if length >= 1 << 63 {
            return (Position::Lost(FrameFault::LengthTooLong), in_message);
        }
        if extended == 2 && length < 126 || extended == 8 && length < 65_536 {
            return (Position::Lost(FrameFault::LengthNotMinimal), in_message);
        }
        let key = if sender == Sender::Client { 4 } else { 0 };
        let end = 2 + extended as u128 + key + length;
        if end > bytes.len() as u128 {
            return (Position::Within, in_message);
        }
        if opcode == 8 {
            return (Position::Closed, in_message);
        }
        bytes = &bytes[end as usize..];
    }
}

#[track_caller]
fn check(sender: Sender, bytes: &[u8], expected: Position) {
    let mut whole = Follower::new(sender);
    whole.feed(bytes);
    assert_eq!(whole.position(), expected, "{bytes:02x?}");
    let mut bytewise = Follower::new(sender);
    bytes.chunks(1).for_each(|byte| bytewise.feed(byte));
    assert_eq!(bytewise, whole, "{bytes:02x?} byte by byte");
}

#[test]
fn frames_of_every_length_end_where_they_end() {
    for sender in [Sender::Client, Sender::Server] {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let frame = frame(sender, 0x82, length);
            check(sender, &frame, Position::Between);
            check(sender, &frame[..frame.len() - 1], Position::Within);
            let mut follower = Follower::new(sender);
            assert_eq!(follower.step(&[&frame[..], &frame].concat()), frame.len());
        }
    }
}

#[test]
fn between_the_fragments_of_a_message_there_is_room_for_a_control_frame() {
    let server = |first| frame(Sender::Server, first, 5);
    let mut follower = Follower::new(Sender::Server);
    for (first, in_message) in
        [(0x01, true), (0x89, true), (0x00, true), (0x8a, true), (0x80, false), (0x81, false)]
    {
        follower.feed(&server(first));
        assert_eq!((follower.position(), follower.in_message()), (Position::Between, in_message));
    }
    follower.feed(&server(0x88));
    assert_eq!(follower.position(), Position::Closed);
    follower.feed(b"whatever comes behind a close frame");
    assert_eq!(follower.position(), Position::Closed);
}

#[test]
fn extension_bits_are_not_ours_to_judge() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        check(Sender::Server, &frame(Sender::Server, 0x81 | bits, 300), Position::Between);
    }
}

#[test]
fn what_is_no_frame_is_lost_for_good_and_said_why() {
    let long = |length: u64| [&[0x82, 127][..], &length.to_be_bytes()].concat();
    for (bytes, fault) in [
        (vec![0x83], FrameFault::ReservedOpcode),
        (vec![0x8b], FrameFault::ReservedOpcode),
        (b"HTTP/1.1".to_vec(), FrameFault::FragmentedControl),
        (vec![0x80], FrameFault::FragmentOrder),
        (vec![0x01, 0, 0x81], FrameFault::FragmentOrder),
        (vec![0x08], FrameFault::FragmentedControl),
        (vec![0x89, 126], FrameFault::LongControl),
        (vec![0x88, 127], FrameFault::LongControl),
        (vec![0x81, 0x80], FrameFault::Masking),
        (vec![0x82, 126, 0, 125], FrameFault::LengthNotMinimal),
        (long(65_535), FrameFault::LengthNotMinimal),
        (long(1 << 63), FrameFault::LengthTooLong),
        (long(u64::MAX), FrameFault::LengthTooLong),
    ] {
        check(Sender::Server, &bytes, Position::Lost(fault));
        let more = [&bytes[..], &frame(Sender::Server, 0x88, 2)].concat();
        check(Sender::Server, &more, Position::Lost(fault));
    }
    check(Sender::Client, &[0x81, 0x05], Position::Lost(FrameFault::Masking));
    check(Sender::Server, &long((1 << 63) - 1), Position::Within);
    let masked = [&[0x82, 0xff][..], &(i64::MAX).to_be_bytes(), &[0; 100]].concat();
    check(Sender::Client, &masked, Position::Within);
}

#[test]
fn our_close_frame_is_one() {
    for code in [WebSocketCloseCode::GoingAway, WebSocketCloseCode::ServiceRestart] {
        let frame = close_frame(code);
        check(Sender::Server, &frame, Position::Closed);
        check(Sender::Server, &frame[..frame.len() - 1], Position::Within);
        assert_eq!(frame[..2], [0x88, 21]);
        assert_eq!(frame[2..4], code.number().to_be_bytes());
        assert_eq!(&frame[4..], b"this pod is leaving");
    }
}

#[test]
fn a_websocket_begins_with_that_protocol_alone_however_it_is_spelt() {
    let upgrade = |values: &[&'static str]| {
        let field = |value: &&'static str| Header { name: "upgrade", value: value.as_bytes() };
        begins(&values.iter().map(field).collect::<Vec<_>>())
    };
    assert!(upgrade(&["websocket"]) && upgrade(&["WebSocket"]) && upgrade(&[" WEBSOCKET "]));
    assert!(!upgrade(&[]) && !upgrade(&[""]) && !upgrade(&["tcp"]) && !upgrade(&["websocket2"]));
    assert!(!upgrade(&["websocket, tcp"]) && !upgrade(&["tcp", "websocket"]));
}

#[test]
fn a_follower_is_a_few_words() {
    assert!(size_of::<Follower>() <= 32, "{}", size_of::<Follower>());
}

fn sender() -> impl Strategy<Value = Sender> {
    prop_oneof![Just(Sender::Client), Just(Sender::Server)]
}

/// Bytes that are mostly frames: some of them broken in one place, some cut short, some mere noise.
fn stream() -> impl Strategy<Value = (Sender, Vec<u8>)> {
    let first = prop_oneof![
        8 => prop_oneof![Just(0x81u8), Just(0x82), Just(0xc1), Just(0x01), Just(0x00), Just(0x80)],
        4 => prop_oneof![Just(0x89u8), Just(0x8a)],
        1 => prop_oneof![Just(0x88u8), any::<u8>()],
    ];
    let length = prop_oneof![0..4usize, 120..130usize, 250..260usize, 65_530..65_540usize];
    let frames = vec((first, length), 0..6);
    let noise = prop::option::weighted(0.2, (any::<Index>(), any::<u8>()));
    (sender(), frames, noise).prop_map(|(sender, frames, noise)| {
        let mut bytes: Vec<u8> =
            frames.iter().flat_map(|(first, length)| frame(sender, *first, *length)).collect();
        if let Some((at, byte)) = noise
            && !bytes.is_empty()
        {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        (sender, bytes)
    })
}

proptest! {
    #[test]
    fn it_agrees_with_reading_everything_at_once_however_the_bytes_are_split(
        (sender, bytes) in stream(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut follower, mut fed) = (Follower::new(sender), 0);
        for cut in cuts.into_iter().chain([bytes.len()]) {
            follower.feed(&bytes[fed..cut]);
            fed = cut;
            let found = (follower.position(), follower.in_message());
            prop_assert_eq!(found, naive(sender, &bytes[..fed]), "after {} bytes", fed);
        }
    }

    #[test]
    fn any_bytes_at_all_are_taken(sender in sender(), bytes in vec(any::<u8>(), 0..400)) {
        let mut follower = Follower::new(sender);
        for at in 0..bytes.len() {
            follower.feed(&bytes[at..=at]);
            let found = (follower.position(), follower.in_message());
            prop_assert_eq!(found, naive(sender, &bytes[..=at]));
        }
    }

    #[test]
    fn a_step_ends_where_a_frame_does((sender, bytes) in stream()) {
        let (mut follower, mut rest) = (Follower::new(sender), &bytes[..]);
        while !rest.is_empty() {
            let used = follower.step(rest);
            prop_assert!(used > 0);
            prop_assert!(used == rest.len() || follower.position() != Position::Within);
            rest = &rest[used..];
        }
        prop_assert_eq!(follower.position(), naive(sender, &bytes).0);
    }
}
