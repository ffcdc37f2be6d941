use super::{
    super::{
        flood::{BURST, PER_SECOND},
        frames::{CODE, CONTINUATION, END_HEADERS, END_STREAM, HEADER, tests::frame},
    },
    *,
};

fn begun() -> Wire {
    let mut wire = Wire::new(Uptime::ZERO);
    wire.read(PREFACE, Uptime::ZERO);
    wire
}

fn over_after(bytes: &[u8], paid_by: &[u8]) -> Option<u32> {
    let mut wire = begun();
    (1..=20_000).find(|_| {
        wire.read(bytes, Uptime::ZERO);
        wire.wrote(paid_by);
        wire.is_flooded()
    })
}

#[test]
fn frames_without_a_message_are_too_many_after_a_thousand() {
    for (kind, payload) in [(2, 5), (3, 4), (4, 0), (6, 8), (8, 4), (0, 0), (0xee, 3)] {
        assert_eq!(over_after(&frame(kind, 0, payload), &[]), Some(BURST + 1), "type {kind}");
    }
}

#[test]
fn heads_and_bodies_are_never_too_many() {
    for bytes in [frame(0, 0, 1), frame(0, END_STREAM, 0), frame(1, 4, 30), frame(9, 4, 30)] {
        assert_eq!(over_after(&bytes, &[]), None);
    }
}

#[test]
fn window_updates_are_paid_for_by_what_we_send() {
    assert_eq!(over_after(&frame(8, 0, 4), &frame(0, 0, 100)), None);
    assert_eq!(over_after(&frame(6, 0, 8), &frame(6, 1, 8)), Some(BURST + 1), "PING's own ACK");
}

#[test]
fn resets_that_the_client_provokes_are_too_many_after_a_hundred() {
    let reset = |code: u8| {
        let mut bytes = frame(RST_STREAM, 0, CODE);
        bytes[HEADER + CODE - 1] = code;
        bytes
    };
    let over = |code| {
        let mut wire = begun();
        (1..=5_000).find(|_| {
            for part in reset(code).chunks(5) {
                wire.wrote(part);
            }
            wire.is_flooded()
        })
    };
    for code in [1, 3, 5, 6] {
        assert_eq!(over(code), Some(101), "code {code}");
    }
    assert_eq!(over(7), Some(1_001), "refused");
    assert_eq!([over(2), over(8)], [None, None], "our own reasons");
}

#[test]
fn provoked_resets_are_paid_for_by_answers() {
    let mut wire = begun();
    for _ in 0..10_000 {
        wire.wrote(&frame(RST_STREAM, 0, CODE));
        wire.wrote(&[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        wire.wrote(&frame(HEADERS, END_HEADERS, 30));
    }
    assert!(!wire.is_flooded());
}

#[test]
fn a_hundred_a_second_are_never_too_many() {
    let mut wire = begun();
    for second in 0..1_000 {
        for _ in 0..PER_SECOND {
            wire.read(&frame(6, 0, 8), Uptime::from_millis(second * 1_000));
        }
    }
    assert!(!wire.is_flooded());
}

#[test]
fn the_rest_of_a_frame_is_known_wherever_it_was_broken_off() {
    let ask = [&[0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff][..], &[0; 4]].concat();
    for whole in [frame(RST_STREAM, 0, 4), frame(GOAWAY, 0, 8), frame(8, 0, 4), frame(4, 0, 0)] {
        for seen in 1..whole.len() {
            let mut wire = begun();
            wire.wrote(&ask);
            wire.read(&whole[..seen], Uptime::ZERO);
            let (rest, next) = (&whole[seen..], frame(6, 0, 8));
            let more = [rest, &next].concat();
            assert_eq!(wire.frame_in(&more), rest.len(), "{whole:?} after {seen}");
            let mut kept = Vec::new();
            wire.late(0).keep(&more, &mut kept);
            assert_eq!(kept, more, "{whole:?} after {seen}");
        }
    }
}

#[test]
fn the_rest_of_a_head_is_owed_until_it_has_come() {
    let at = Uptime::from_millis;
    let mut wire = begun();
    assert_eq!(wire.owes_since(), Uptime::ZERO, "settings");
    wire.read(&frame(4, 0, 6), at(1_000));
    assert_eq!(wire.owes_since(), Uptime::NEVER);
    let head = frame(HEADERS, 0, 20);
    wire.read(&head[..15], at(2_000));
    wire.read(&head[15..], at(3_000));
    assert_eq!(wire.owes_since(), at(2_000), "an open block");
    wire.read(&frame(CONTINUATION, 0, 10), at(4_000));
    assert_eq!(wire.owes_since(), at(2_000), "an open block, whatever is added");
    wire.read(&frame(CONTINUATION, END_HEADERS, 10), at(5_000));
    assert_eq!(wire.owes_since(), Uptime::NEVER);
    wire.read(&frame(DATA, 0, 10)[..12], at(6_000));
    assert_eq!(wire.owes_since(), Uptime::NEVER, "a body is not a head");
    wire.read(&frame(DATA, 0, 10)[12..], at(6_500));
    let two = [frame(HEADERS, END_HEADERS, 20), frame(HEADERS, END_HEADERS, 20)].concat();
    wire.read(&two[..20], at(7_000));
    wire.read(&two[20..40], at(8_000));
    assert_eq!(wire.owes_since(), at(8_000), "the next head");
}
