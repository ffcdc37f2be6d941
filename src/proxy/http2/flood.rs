//! Pure. Clients that make work without wanting anything: frames that carry no message, requests that are taken back,
//! heads that do not end.
//!
//! What one frame or one stream may cost is bounded by the h2 crate; how many of them may come for nothing is bounded
//! here. Honest clients stay far below both limits, so reaching one ends the connection with `ENHANCE_YOUR_CALM`.

use std::time::Duration;

use super::late::Late;
use crate::units::Uptime;

/// Frames without a message that may come at once. Envoy lets 1,000 answers to such frames pile up.
const BURST: u32 = 1_000;
/// Frames without a message that may come each second for as long as the connection lives. An honest client sends a
/// PING every few seconds.
const PER_SECOND: u32 = 100;
/// Frames without a message that each frame of ours with a message pays for: two WINDOW_UPDATEs and a PING would do;
/// Envoy allows ten.
const PER_ANSWER: u32 = 10;

/// Streams after which the share of those taken back is looked at (Envoy's `premature_reset_total_stream_count`).
const STREAMS: u32 = 500;
/// A stream that its client resets sooner than this, before the end of its answer, was taken back (Envoy's
/// `premature_reset_min_stream_lifetime_seconds`).
pub const PREMATURE: Duration = Duration::from_secs(1);

/// What a reset costs that a client has provoked (CVE-2025-8671): the request it ends may have reached the app. An honest
/// client provokes few, but a balancer may have many clients that are not.
const PROVOKED: u32 = 10;

/// The length of a frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;
/// The length of the code in RST_STREAM (RFC 9113 §6.4).
const CODE: usize = 4;

/// Counts what comes for nothing on one connection.
#[derive(Debug)]
pub struct Flood {
    read: Scanner,
    wrote: Scanner,
    left: u32,
    refilled_at: Uptime,
    ended: u32,
    taken_back: u32,
    is_over: bool,
    /// Since when the client has owed the rest of a head, or the settings that belong to the preface.
    owes_since: Option<Uptime>,
    /// A header block has begun and not ended.
    in_block: bool,
    goaway: Goaway,
}

/// How far the client has been told to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goaway {
    /// Not at all.
    Unsaid,
    /// It was asked to open no more streams.
    Asked,
    /// It has answered the PING that came with that.
    Heard,
    /// Streams above this one are not looked at.
    Last(u32),
}

/// Resets of ours that a client has provoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provoked {
    /// For breaking the rules on a stream.
    pub faults: u32,
    /// For one stream too many at a time.
    pub refused: u32,
}

/// Finds the frames in bytes as they pass.
#[derive(Debug)]
struct Scanner {
    /// The next frame's header, and the code of a reset.
    head: [u8; HEADER + CODE],
    have: usize,
    skip: usize,
    has_found: bool,
    in_data: bool,
}

/// A frame's header, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    /// The first four bytes of the payload: why a stream is reset, or which one GOAWAY names.
    code: Option<u32>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const REFUSED_STREAM: u32 = 7;
const END_HEADERS: u8 = 4;

// === impl Flood ===

impl Flood {
    /// For a connection of which nothing, or all, has been read; its first bytes are the preface.
    #[must_use]
    pub const fn new(now: Uptime) -> Self {
        Self {
            read: Scanner::new(super::super::preface::PREFACE.len()),
            wrote: Scanner::new(0),
            left: BURST,
            refilled_at: now,
            ended: 0,
            taken_back: 0,
            is_over: false,
            owes_since: Some(now),
            in_block: false,
            goaway: Goaway::Unsaid,
        }
    }

    /// How far the client has been told to go away.
    #[must_use]
    pub const fn goaway(&self) -> Goaway {
        self.goaway
    }

    /// How many of `bytes`, which come next from the client, belong to its next frame.
    #[must_use]
    pub fn frame_in(&self, bytes: &[u8]) -> usize {
        self.read.frame_in(bytes).min(bytes.len())
    }

    /// Takes out what comes too late, from here on.
    #[must_use]
    pub fn late(&self, last: u32) -> Late {
        Late::new(last, self.read.left(), self.read.begun())
    }

    /// Since when the rest of a head, or what belongs to the preface, has been waited for; [`Uptime::NEVER`] if it is not.
    #[must_use]
    pub fn owes_since(&self) -> Uptime {
        self.owes_since.unwrap_or(Uptime::NEVER)
    }

    /// Whether it is too much.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Notes bytes that came from the client.
    pub fn read(&mut self, bytes: &[u8], now: Uptime) {
        let mut for_nothing = 0;
        let (in_block, owes_since) = (&mut self.in_block, &mut self.owes_since);
        let goaway = &mut self.goaway;
        self.read.scan(bytes, |frame| {
            for_nothing += u32::from(frame.is_for_nothing());
            if frame.kind == PING && frame.flags & ACK != 0 && *goaway == Goaway::Asked {
                *goaway = Goaway::Heard;
            }
            if !std::mem::replace(in_block, frame.leaves_block_open()) {
                *owes_since = None;
            }
        });
        if self.in_block || self.read.is_within_frame() {
            // What is missing of a body has a limit of its own; a frame's other kinds are short, and waited for as a head.
            self.owes_since = self.owes_since.or(Some(now));
        } else if self.read.has_found {
            self.owes_since = None;
        }
        if for_nothing > 0 {
            self.refill(now);
            self.is_over |= for_nothing > self.left;
            self.left = self.left.saturating_sub(for_nothing);
        }
    }

    /// Notes bytes that went to the client; returns the resets among them that it has provoked.
    pub fn wrote(&mut self, bytes: &[u8]) -> Provoked {
        let (mut answers, mut provoked) = (0u32, Provoked::default());
        let goaway = &mut self.goaway;
        self.wrote.scan(bytes, |frame| {
            answers += u32::from(matches!(frame.kind, DATA | HEADERS));
            provoked.faults += u32::from(frame.is_fault());
            let is_reset = frame.kind == RST_STREAM;
            provoked.refused += u32::from(is_reset && frame.code == Some(REFUSED_STREAM));
            if let (GOAWAY, Some(last)) = (frame.kind, frame.code) {
                *goaway = Goaway::naming(last);
            }
        });
        self.left = self.left.saturating_add(answers.saturating_mul(PER_ANSWER)).min(BURST);
        // An honest client sends a burst that is refused before it has read our settings.
        let cost = provoked.faults.saturating_mul(PROVOKED).saturating_add(provoked.refused);
        self.is_over |= cost > self.left;
        self.left = self.left.saturating_sub(cost);
        provoked
    }

    /// Notes that a stream has ended, and whether its client took it back.
    pub const fn stream_ended(&mut self, taken_back: bool) {
        self.ended += 1;
        self.taken_back += taken_back as u32;
        if self.ended >= STREAMS {
            self.is_over |= self.taken_back * 2 >= self.ended;
            // Half of the past counts on, so that nobody can hide behind a long honest one.
            self.ended /= 2;
            self.taken_back /= 2;
        }
    }

    fn refill(&mut self, now: Uptime) {
        let seconds = now.saturating_since(self.refilled_at).as_secs();
        if seconds > 0 {
            let earned = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.refilled_at = now;
        }
    }
}

// === impl Goaway ===

impl Goaway {
    /// Said by a GOAWAY that names `last` (RFC 9113 §6.8).
    const fn naming(last: u32) -> Self {
        const ANY: u32 = 0x7fff_ffff;
        if last & ANY == ANY { Self::Asked } else { Self::Last(last & ANY) }
    }
}

// === impl Scanner ===

impl Scanner {
    const fn new(skip: usize) -> Self {
        Self { head: [0; HEADER + CODE], have: 0, skip, has_found: false, in_data: false }
    }

    /// Whether the last bytes were the beginning of a frame, of which the rest must come for anything to happen.
    const fn is_within_frame(&self) -> bool {
        self.have > 0 || (self.has_found && self.skip > 0 && !self.in_data)
    }

    fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let part = (self.wanted() - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have >= HEADER && self.have == self.wanted() {
                let frame = Frame::read(&self.head);
                (self.skip, self.have) = (frame.length + HEADER - self.have, 0);
                (self.has_found, self.in_data) = (true, frame.kind == DATA);
                found(frame);
            }
        }
    }

    /// How many bytes it is to the end of the next frame, or of what of its header is there.
    fn frame_in(&self, bytes: &[u8]) -> usize {
        if self.left() > 0 {
            return self.left();
        }
        let mut head = [0; HEADER + CODE];
        let have = self.begun().len();
        let part = (HEADER - have).min(bytes.len());
        head[..have].copy_from_slice(self.begun());
        head[have..have + part].copy_from_slice(&bytes[..part]);
        if have + part < HEADER { part } else { part + Frame::read(&head).length }
    }

    /// What is missing of a frame whose header has come.
    fn left(&self) -> usize {
        // Of a frame with a code the first bytes of the payload have been kept, too.
        let is_known = self.have >= HEADER;
        if is_known { HEADER + Frame::read(&self.head).length - self.have } else { self.skip }
    }

    /// What has come of a header that is not whole.
    fn begun(&self) -> &[u8] {
        if self.have < HEADER { &self.head[..self.have] } else { &[] }
    }

    /// How many bytes make the next frame known.
    fn wanted(&self) -> usize {
        let has_code = self.have >= HEADER && Frame::read(&self.head).code.is_some();
        if has_code { HEADER + CODE } else { HEADER }
    }
}

// === impl Frame ===

impl Frame {
    /// Whether the header block that it begins or goes on with is not over.
    const fn leaves_block_open(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS == 0
    }

    fn read(head: &[u8; HEADER + CODE]) -> Self {
        let [high, middle, low, kind, flags, _, _, _, _, code @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let has_code = kind == RST_STREAM && length == CODE || kind == GOAWAY && length >= 2 * CODE;
        Self { length, kind, flags, code: has_code.then(|| u32::from_be_bytes(code)) }
    }

    /// Whether it is a reset for a fault of the client's, by its code (RFC 9113 §7). Those are the h2 crate's; our own are
    /// CANCEL and INTERNAL_ERROR.
    const fn is_fault(self) -> bool {
        if self.kind != RST_STREAM {
            return false;
        }
        const PROTOCOL_ERROR: u32 = 1;
        const FLOW_CONTROL_ERROR: u32 = 3;
        const STREAM_CLOSED: u32 = 5;
        const FRAME_SIZE_ERROR: u32 = 6;
        matches!(
            self.code,
            Some(PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR)
        )
    }

    /// Whether it brings a request no further: everything but HEADERS, its continuation – both are bounded by the size
    /// of a head – and bytes of a body.
    const fn is_for_nothing(self) -> bool {
        match self.kind {
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            HEADERS | CONTINUATION => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER + payload, 0);
        bytes
    }

    fn begun() -> Flood {
        let mut flood = Flood::new(Uptime::ZERO);
        flood.read(crate::proxy::preface::PREFACE, Uptime::ZERO);
        flood
    }

    fn over_after(bytes: &[u8], paid_by: &[u8]) -> Option<u32> {
        let mut flood = begun();
        (1..=20_000).find(|_| {
            flood.read(bytes, Uptime::ZERO);
            flood.wrote(paid_by);
            flood.is_over()
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
            let mut flood = begun();
            (1..=5_000).find(|_| {
                for part in reset(code).chunks(5) {
                    flood.wrote(part);
                }
                flood.is_over()
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
        let mut flood = begun();
        for _ in 0..10_000 {
            flood.wrote(&frame(RST_STREAM, 0, CODE));
            flood.wrote(&[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
            flood.wrote(&frame(HEADERS, END_HEADERS, 30));
        }
        assert!(!flood.is_over());
    }

    #[test]
    fn a_hundred_a_second_are_never_too_many() {
        let mut flood = begun();
        for second in 0..1_000 {
            for _ in 0..PER_SECOND {
                flood.read(&frame(6, 0, 8), Uptime::from_millis(second * 1_000));
            }
        }
        assert!(!flood.is_over());
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = frame(1, 4, 20);
        bytes.extend(frame(6, 0, 8));
        bytes.extend(frame(0, 1, 300));
        for size in 1..=bytes.len() {
            let (mut scanner, mut kinds) = (Scanner::new(0), Vec::new());
            bytes.chunks(size).for_each(|part| scanner.scan(part, |frame| kinds.push(frame.kind)));
            assert_eq!(kinds, [1, 6, 0], "in parts of {size}");
        }
    }

    #[test]
    fn the_rest_of_a_frame_is_known_wherever_it_was_broken_off() {
        let ask = [&[0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff][..], &[0; 4]].concat();
        for whole in [frame(RST_STREAM, 0, 4), frame(GOAWAY, 0, 8), frame(8, 0, 4), frame(4, 0, 0)]
        {
            for seen in 1..whole.len() {
                let mut flood = begun();
                flood.wrote(&ask);
                flood.read(&whole[..seen], Uptime::ZERO);
                let (rest, next) = (&whole[seen..], frame(6, 0, 8));
                let more = [rest, &next].concat();
                assert_eq!(flood.frame_in(&more), rest.len(), "{whole:?} after {seen}");
                let mut kept = Vec::new();
                flood.late(0).keep(&more, &mut kept);
                assert_eq!(kept, more, "{whole:?} after {seen}");
            }
        }
    }

    #[test]
    fn the_rest_of_a_head_is_owed_until_it_has_come() {
        let at = Uptime::from_millis;
        let mut flood = begun();
        assert_eq!(flood.owes_since(), Uptime::ZERO, "settings");
        flood.read(&frame(4, 0, 6), at(1_000));
        assert_eq!(flood.owes_since(), Uptime::NEVER);
        let head = frame(HEADERS, 0, 20);
        flood.read(&head[..15], at(2_000));
        flood.read(&head[15..], at(3_000));
        assert_eq!(flood.owes_since(), at(2_000), "an open block");
        flood.read(&frame(CONTINUATION, 0, 10), at(4_000));
        assert_eq!(flood.owes_since(), at(2_000), "an open block, whatever is added");
        flood.read(&frame(CONTINUATION, END_HEADERS, 10), at(5_000));
        assert_eq!(flood.owes_since(), Uptime::NEVER);
        flood.read(&frame(DATA, 0, 10)[..12], at(6_000));
        assert_eq!(flood.owes_since(), Uptime::NEVER, "a body is not a head");
        flood.read(&frame(DATA, 0, 10)[12..], at(6_500));
        let two = [frame(HEADERS, END_HEADERS, 20), frame(HEADERS, END_HEADERS, 20)].concat();
        flood.read(&two[..20], at(7_000));
        flood.read(&two[20..40], at(8_000));
        assert_eq!(flood.owes_since(), at(8_000), "the next head");
    }

    #[test]
    fn half_of_five_hundred_streams_taken_back_are_too_many() {
        let over = |one_in: u32| {
            let mut flood = begun();
            (1..=5_000).find(|n| {
                flood.stream_ended(n % one_in == 0);
                flood.is_over()
            })
        };
        assert_eq!(over(1), Some(STREAMS));
        assert_eq!(over(2), Some(STREAMS));
        assert_eq!(over(3), None);
    }

    #[test]
    fn a_long_honest_past_hides_nobody() {
        let mut flood = begun();
        (0..100_000).for_each(|_| flood.stream_ended(false));
        let more = (1..=5_000).find(|_| {
            flood.stream_ended(true);
            flood.is_over()
        });
        assert!(more.is_some_and(|more| more < 2 * STREAMS), "{more:?}");
    }
}
