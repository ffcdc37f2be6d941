//! Pure. What has passed on one connection, as far as somebody besides the h2 crate has to know: what comes for nothing,
//! what is owed, how far the client has been told to go away.
//!
//! Not here: what is too much ([`super::flood`]).

use super::{
    flood::{Flood, Provoked},
    frames::{ACK, DATA, GOAWAY, HEADERS, PING, REFUSED_STREAM, RST_STREAM, Scanner},
    late::Late,
};
use crate::{proxy::preface::PREFACE, units::Uptime};

/// Follows the frames of one connection, both ways.
#[derive(Debug)]
pub struct Wire {
    read: Scanner,
    wrote: Scanner,
    flood: Flood,
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

// === impl Wire ===

impl Wire {
    /// For a connection of which nothing, or all, has been read; its first bytes are the preface.
    #[must_use]
    pub const fn new(now: Uptime) -> Self {
        Self {
            read: Scanner::new(PREFACE.len()),
            wrote: Scanner::new(0),
            flood: Flood::new(now),
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

    /// Whether the client makes work without end.
    #[must_use]
    pub const fn is_flooded(&self) -> bool {
        self.flood.is_over()
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
        self.flood.came_for_nothing(for_nothing, now);
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
        self.flood.answered(answers);
        self.flood.provoked(provoked);
        provoked
    }

    /// Notes that a stream has ended, and whether its client took it back.
    pub const fn stream_ended(&mut self, taken_back: bool) {
        self.flood.stream_ended(taken_back);
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

#[cfg(test)]
mod tests;
