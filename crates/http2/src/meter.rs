//! Which frames does an honest peer never send so many of?
//!
//! HTTP/2 has frames that cost their sender nine bytes and their receiver work. A [`Meter`] sees every frame of a connection, both ways, and says when the peer went beyond all that honest
//! peers need. It knows no socket and no clock.
//!
//! Each bound is a [`Bucket`]: a burst that refills with time, and credit that the other side's own work earns. So a
//! bound follows what the connection does: a peer that is sent much data may send many WINDOW_UPDATEs and PINGs (gRPC
//! probes the path with one PING for each round trip that brings data), a peer whose requests are answered may take
//! many back. What remains are frames that answer nothing.
//!
//! | frames | bound | earned by | attack |
//! |---|---|---|---|
//! | RST_STREAM soon after HEADERS | 100 a second | an answered stream: 1 | rapid reset, CVE-2023-44487 |
//! | the same, over the connection's life | 10,000 | an answered stream: 1 | the same, patient |
//! | RST_STREAM of a stream that is not open | 100 a second | a new stream, HEADERS or DATA that we send: 1 | flood |
//! | resets that the peer's mistakes make us send | 500 | an answered stream, a reset of our own: 1 | MadeYouReset, CVE-2025-8671 |
//! | CONTINUATION of one block | 20 | | CVE-2024-27316 |
//! | bytes of one header block | 4 x the header limit | | the same |
//! | PING, either way | 100 a second | a DATA frame or a PING that we send: 1 | CVE-2019-9512 |
//! | SETTINGS, GOAWAY | 50 a second | | CVE-2019-9515 |
//! | PRIORITY, unknown types | 100 a second | a new stream: 100 | CVE-2019-9513 |
//! | WINDOW_UPDATE | 100 a second | payload that we send, unless a few bytes filled a window: 2, and 2 for each 512 bytes; a new stream: 2 | CVE-2019-9511 |
//! | DATA with no payload that ends nothing | 100 a second | a DATA frame with payload: 1 | CVE-2019-9518 |
//!
//! **Clients that cancel.** A reset is held against a client only when it comes within [`RAPID`] of the request and
//! before any answer: what stands out in a rapid reset is that streams never last, so that the limit of open streams
//! does not hold. A stream that kept its place for longer was limited like any other, however it ended: callers whose
//! deadlines run out, hedge their calls or stop watching never cost others their shared connection.

use std::collections::VecDeque;

use crate::code::Code;
use crate::frame::{Frame, Kind};

/// Nanoseconds on any clock that never goes back.
pub type Nanos = u64;

/// The time in which a bucket refills.
pub const WINDOW: Nanos = 1_000_000_000;
/// A reset this soon after the request is rapid: sooner than any server behind could have answered. In a flood the two
/// come in one packet, and no time is between them.
pub const RAPID: Nanos = 1_000_000;
/// Credit for frames is kept up to this: answers to what is in flight may come all at once, late.
const FRAME_CREDIT: u32 = 16_384;
/// The same for WINDOW_UPDATE, of which a reader of little pieces sends two for each: what is in the windows of a hundred
/// streams of 4 MiB, as Go opens them, read by 4 KiB.
const WINDOW_CREDIT: u32 = 262_144;
/// Payload that earns a WINDOW_UPDATE for its stream and one for the connection. Go sends both for each read of 4 KiB, and
/// its older servers for each read: 512 bytes are the least that its readers ask for.
pub(crate) const READ: u32 = 512;
/// Credit for resets is kept up to this, so that what was earned long ago lets no flood pass.
const RESET_CREDIT: u32 = 1_000;
/// Streams that may be reset before a server takes offence: nghttp2, so Node and others, bears 1,000 in a burst.
const MOST_RESETS: u32 = 1000;
/// Unanswered streams that are remembered. Far above any stream limit: more are open only while refusals wait.
const MOST_WAITING: usize = 16_384;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// Which side of the connection is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer is a client; it opens the streams.
    Server,
    /// The peer is a server; this side opens the streams.
    Client,
}

/// What the peer sent too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// RST_STREAM soon after the request, or of streams that are not open.
    Resets,
    /// Frames that make this side send RST_STREAM.
    LocalResets,
    /// CONTINUATION frames of one header block.
    Continuations,
    /// Bytes of one header block.
    HeaderBlock,
    /// PING.
    Pings,
    /// SETTINGS or GOAWAY.
    Settings,
    /// PRIORITY, or frames of unknown types.
    Priorities,
    /// WINDOW_UPDATE.
    WindowUpdates,
    /// DATA without payload.
    SmallData,
}

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// RST_STREAM soon after HEADERS, in a window. 100, as Sozu.
    pub resets: u32,
    /// The same, over the connection's life. 10,000, as Sozu.
    pub lifetime_resets: u64,
    /// Resets that the peer makes us send. 500: no honest peer is wrong so often.
    pub local_resets: u32,
    /// CONTINUATION frames of a block. 20: a 64 KiB head needs four.
    pub continuations: u32,
    /// Bytes of a block as sent. Above the listener's limit requests are refused one by one; far above, the peer is.
    pub block_bytes: u32,
    /// PING in a window. 100.
    pub pings: u32,
    /// SETTINGS and GOAWAY in a window. 50.
    pub settings: u32,
    /// PRIORITY and unknown frames in a window, and for each stream. 100, as Envoy.
    pub priorities: u32,
    /// WINDOW_UPDATE in a window. 100.
    pub window_updates: u32,
    /// Empty DATA frames in a window. 100.
    pub empty_data: u32,
}

impl Budgets {
    /// The defaults, for heads of up to `header_bytes`.
    pub fn new(header_bytes: u32) -> Self {
        Self {
            resets: 100,
            lifetime_resets: 10_000,
            local_resets: 500,
            continuations: 20,
            block_bytes: header_bytes.saturating_mul(4).max(16_384),
            pings: 100,
            settings: 50,
            priorities: 100,
            window_updates: 100,
            empty_data: 100,
        }
    }
}

/// How fast a bucket refills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refill {
    /// Wholly, in a [`WINDOW`].
    Timed,
    /// With credit only.
    Earned,
}

/// A burst that refills, and credit that is spent first.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    size: u32,
    left: u32,
    credit: u32,
    most_credit: u32,
    refill: Refill,
    /// Until when time was turned into `left`.
    at: Nanos,
}

impl Bucket {
    fn new(size: u32, refill: Refill, most_credit: u32) -> Self {
        Self {
            size,
            left: size,
            credit: 0,
            most_credit,
            refill,
            at: 0,
        }
    }

    fn earn(&mut self, n: u32) {
        self.credit = self.credit.saturating_add(n).min(self.most_credit);
    }

    fn spend(&mut self, now: Nanos, flood: Flood) -> Result<(), Flood> {
        if self.credit > 0 {
            self.credit -= 1;
            return Ok(());
        }
        if self.left == 0 && self.refill == Refill::Timed {
            let elapsed = now.saturating_sub(self.at);
            let grown =
                (u128::from(elapsed) * u128::from(self.size) / u128::from(WINDOW)).min(u128::from(self.size));
            // Less than one is left to grow on.
            if grown > 0 {
                (self.left, self.at) = (grown as u32, now);
            }
        }
        self.left = self.left.checked_sub(1).ok_or(flood)?;
        if self.left + 1 == self.size {
            self.at = now;
        }
        Ok(())
    }
}

/// Frames by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames([u64; Kind::ALL.len()]);

impl Frames {
    fn add(&mut self, kind: Kind) {
        if let Some(count) = self.0.get_mut(kind.index()) {
            *count += 1;
        }
    }

    /// How many there were of a type.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(kind.index()).copied().unwrap_or_default()
    }
}

/// A header block that has not ended.
#[derive(Clone, Copy, Debug)]
struct Block {
    continuations: u32,
    bytes: u32,
}

/// Counts a connection's frames and bounds those of the peer.
#[derive(Debug)]
pub struct Meter {
    role: Role,
    budgets: Budgets,
    resets: Bucket,
    closed_resets: Bucket,
    local_resets: Bucket,
    pings: Bucket,
    settings: Bucket,
    priorities: Bucket,
    window_updates: Bucket,
    empty_data: Bucket,
    rapid: u64,
    answered: u64,
    block: Option<Block>,
    /// Streams that are not answered: when they came, by number.
    waiting: VecDeque<(u32, Nanos)>,
    /// The highest stream that was opened.
    last: u32,
    /// Streams that this side reset.
    reset: u32,
    /// Payload that was sent and earned nothing yet.
    unearned: u32,
    received: Frames,
    sent: Frames,
}

impl Meter {
    /// A meter for a new connection.
    pub fn new(role: Role, budgets: Budgets) -> Self {
        let timed = |size| Bucket::new(size, Refill::Timed, FRAME_CREDIT);
        Self {
            role,
            resets: Bucket::new(budgets.resets, Refill::Timed, RESET_CREDIT),
            closed_resets: timed(budgets.resets),
            local_resets: Bucket::new(budgets.local_resets, Refill::Earned, RESET_CREDIT),
            pings: timed(budgets.pings),
            settings: timed(budgets.settings),
            priorities: timed(budgets.priorities),
            window_updates: Bucket::new(budgets.window_updates, Refill::Timed, WINDOW_CREDIT),
            empty_data: timed(budgets.empty_data),
            rapid: 0,
            answered: 0,
            block: None,
            waiting: VecDeque::new(),
            last: 0,
            reset: 0,
            unearned: 0,
            received: Frames::default(),
            sent: Frames::default(),
            budgets,
        }
    }

    /// Frames that came.
    pub fn received(&self) -> &Frames {
        &self.received
    }

    /// Frames that went.
    pub fn sent(&self) -> &Frames {
        &self.sent
    }

    /// Whether the connection should be replaced: servers count resets as well, against rapid reset, though here each may
    /// be another caller's. At half of what they bear it takes no new streams, and those it has end in peace.
    pub fn is_worn(&self) -> bool {
        self.role == Role::Client && self.reset >= MOST_RESETS / 2
    }

    /// Streams that got an answer, or its beginning.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Counts a frame. An error means that the peer is to be told to calm down, and left.
    pub fn on_frame(&mut self, direction: Direction, frame: &Frame, now: Nanos) -> Result<(), Flood> {
        match direction {
            Direction::Received => self.on_received(frame, now),
            Direction::Sent => self.on_sent(frame, now),
        }
    }

    fn on_received(&mut self, frame: &Frame, now: Nanos) -> Result<(), Flood> {
        self.received.add(frame.kind);
        match frame.kind {
            Kind::Data if frame.data() > 0 => self.empty_data.earn(1),
            Kind::Data if frame.ends_stream() => {}
            Kind::Data => self.empty_data.spend(now, Flood::SmallData)?,
            Kind::Headers => {
                match self.role {
                    Role::Server => self.opened(frame.stream, now)?,
                    Role::Client => self.answer(frame.stream),
                }
                self.begin_block(frame)?;
            }
            Kind::PushPromise => self.begin_block(frame)?,
            Kind::Continuation => self.continue_block(frame)?,
            Kind::Reset => self.on_reset(frame.stream, now)?,
            // Also answers to pings that nobody sent.
            Kind::Ping => self.pings.spend(now, Flood::Pings)?,
            Kind::Settings | Kind::GoAway => self.settings.spend(now, Flood::Settings)?,
            Kind::Priority | Kind::Unknown => self.priorities.spend(now, Flood::Priorities)?,
            Kind::WindowUpdate => self.window_updates.spend(now, Flood::WindowUpdates)?,
        }
        Ok(())
    }

    fn on_sent(&mut self, frame: &Frame, now: Nanos) -> Result<(), Flood> {
        self.sent.add(frame.kind);
        match frame.kind {
            Kind::Data => {
                self.pings.earn(1);
                if frame.word == 0 {
                    self.window_updates.earn(2);
                    self.payload_sent(frame.length);
                }
                // The peer may have forgotten the stream, and says so each time.
                self.closed_resets.earn(1);
            }
            Kind::Headers => {
                self.closed_resets.earn(1);
                match self.role {
                    Role::Server => self.answer(frame.stream),
                    Role::Client => self.opened(frame.stream, now)?,
                }
            }
            Kind::Reset => {
                self.forget(frame.stream);
                self.reset = self.reset.saturating_add(1);
                if blames_peer(frame.word) {
                    self.local_resets.spend(now, Flood::LocalResets)?;
                } else {
                    // What was on its way when this was sent may have to be refused once more.
                    self.local_resets.earn(1);
                }
            }
            Kind::Ping if !frame.is_ack() => self.pings.earn(1),
            _ => {}
        }
        Ok(())
    }

    /// Payload that went in a frame that was counted already, or in one that is counted now.
    pub fn payload_sent(&mut self, bytes: u32) {
        let bytes = self.unearned.saturating_add(bytes);
        self.window_updates.earn((bytes / READ).saturating_mul(2));
        self.unearned = bytes % READ;
    }

    /// The reset that this side sends next is none that the peer's mistakes cause, whatever its code says.
    pub fn excuse_reset(&mut self) {
        self.local_resets.earn(1);
    }

    /// HEADERS of a stream that this side reset: late trailers, of which each stream has one.
    pub fn on_late_head(&mut self, now: Nanos) -> Result<(), Flood> {
        self.closed_resets.spend(now, Flood::Resets)
    }

    /// HEADERS from the side that opens streams: a new stream, or trailers of an old one.
    fn opened(&mut self, stream: u32, now: Nanos) -> Result<(), Flood> {
        if stream <= self.last {
            return Ok(());
        }
        if self.waiting.len() >= MOST_WAITING {
            return Err(Flood::Resets);
        }
        self.last = stream;
        self.waiting.push_back((stream, now));
        self.priorities.earn(self.budgets.priorities);
        self.window_updates.earn(2);
        self.closed_resets.earn(1);
        Ok(())
    }

    /// HEADERS from the side that answers.
    fn answer(&mut self, stream: u32) {
        if self.forget(stream).is_some() {
            self.answered += 1;
            self.resets.earn(1);
            self.local_resets.earn(1);
        }
    }

    /// A stream waits no more; gives when it came.
    fn forget(&mut self, stream: u32) -> Option<Nanos> {
        let at = self.waiting.binary_search_by_key(&stream, |(id, _)| *id).ok()?;
        self.waiting.remove(at).map(|(_, opened)| opened)
    }

    fn on_reset(&mut self, stream: u32, now: Nanos) -> Result<(), Flood> {
        match (self.forget(stream), self.role) {
            // A server that takes back what we asked for harms nobody else.
            (Some(_), Role::Client) => Ok(()),
            (Some(opened), Role::Server) if now.saturating_sub(opened) >= RAPID => Ok(()),
            (Some(_), Role::Server) => {
                self.rapid += 1;
                if self.rapid > self.budgets.lifetime_resets.saturating_add(self.answered) {
                    return Err(Flood::Resets);
                }
                self.resets.spend(now, Flood::Resets)
            }
            (None, _) => self.closed_resets.spend(now, Flood::Resets),
        }
    }

    fn begin_block(&mut self, frame: &Frame) -> Result<(), Flood> {
        if frame.length > self.budgets.block_bytes {
            return Err(Flood::HeaderBlock);
        }
        self.block = (!frame.ends_headers()).then_some(Block {
            continuations: 0,
            bytes: frame.length,
        });
        Ok(())
    }

    fn continue_block(&mut self, frame: &Frame) -> Result<(), Flood> {
        // Without a block it is an error of protocol, which the connection answers.
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        block.continuations += 1;
        block.bytes = block.bytes.saturating_add(frame.length);
        if block.continuations > self.budgets.continuations {
            return Err(Flood::Continuations);
        }
        if block.bytes > self.budgets.block_bytes {
            return Err(Flood::HeaderBlock);
        }
        if frame.ends_headers() {
            self.block = None;
        }
        Ok(())
    }
}

/// Whether a reset of ours says that the peer did wrong. NO_ERROR (0), INTERNAL_ERROR (2), CANCEL (8), CONNECT_ERROR (10)
/// and HTTP_1_1_REQUIRED (13) tell of our own doings (RFC 9113 section 7).
fn blames_peer(code: u32) -> bool {
    !matches!(
        Code(code),
        Code::NO_ERROR | Code::INTERNAL_ERROR | Code::CANCEL | Code::CONNECT_ERROR | Code::HTTP_1_1_REQUIRED
    )
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
