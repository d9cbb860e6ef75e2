//! Where does one HTTP/2 frame end and the next begin?
//!
//! [`Follower`] walks along one direction of a connection and reports each frame's head. It looks at nine bytes of each
//! frame and, where that is needed to judge the frame, at the first bytes of its payload; it copies none of the rest.
//! Bytes may come in any pieces.
//!
//! Invariants: the same bytes give the same heads, however they are cut; a head is reported before any byte that lies
//! behind what it was read from.

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head (RFC 9113 section 4.1).
const HEAD: u8 = 9;
/// `END_STREAM` of DATA and HEADERS.
const END_STREAM: u8 = 0x1;
/// `ACK` of SETTINGS and PING.
const ACK: u8 = 0x1;
/// `END_HEADERS` of HEADERS, PUSH_PROMISE and CONTINUATION.
const END_HEADERS: u8 = 0x4;
/// `PADDED` of DATA, HEADERS and PUSH_PROMISE.
const PADDED: u8 = 0x8;

/// The types of frames (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// DATA.
    Data,
    /// HEADERS.
    Headers,
    /// PRIORITY.
    Priority,
    /// RST_STREAM.
    Reset,
    /// SETTINGS.
    Settings,
    /// PUSH_PROMISE.
    PushPromise,
    /// PING.
    Ping,
    /// GOAWAY.
    GoAway,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// CONTINUATION.
    Continuation,
    /// A type that RFC 9113 does not define; such frames are ignored (section 5.5).
    Unknown,
}

impl Kind {
    /// Every type, in the order of [`Kind::index`].
    pub const ALL: [Self; 11] = [
        Self::Data,
        Self::Headers,
        Self::Priority,
        Self::Reset,
        Self::Settings,
        Self::PushPromise,
        Self::Ping,
        Self::GoAway,
        Self::WindowUpdate,
        Self::Continuation,
        Self::Unknown,
    ];

    fn of(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Unknown)
    }

    /// A dense number, for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// How many bytes of payload are needed to judge a frame: the error code, or the length of its padding.
    fn prelude(self, flags: u8) -> u8 {
        match self {
            Self::Reset => 4,
            Self::Data if flags & PADDED != 0 => 1,
            _ => 0,
        }
    }
}

/// A frame's head, and the little of its payload that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The type.
    pub kind: Kind,
    /// The flags.
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
    /// Bytes of payload, padding included.
    pub length: u32,
    /// RST_STREAM: the error code. Padded DATA: how long the padding is. Otherwise 0.
    pub word: u32,
}

impl Head {
    /// Whether the sender ends its side of the stream.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.flags & END_STREAM != 0
    }

    /// Whether a header block ends with this frame.
    pub fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// Whether this SETTINGS or PING answers one of the other side.
    pub fn is_ack(&self) -> bool {
        matches!(self.kind, Kind::Settings | Kind::Ping) && self.flags & ACK != 0
    }

    /// Bytes of DATA without padding.
    pub fn data(&self) -> u32 {
        if self.flags & PADDED != 0 {
            self.length.saturating_sub(1 + self.word)
        } else {
            self.length
        }
    }
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub struct Follower {
    /// Bytes to pass over: the preface, or the rest of a payload.
    skip: u32,
    /// The head that is being read, with the payload's first bytes behind it.
    bytes: [u8; 13],
    have: u8,
    need: u8,
}

impl Follower {
    /// For bytes that begin with the client's preface.
    pub fn of_client() -> Self {
        Self {
            skip: PREFACE.len() as u32,
            ..Self::of_server()
        }
    }

    /// For bytes that begin with a frame.
    pub fn of_server() -> Self {
        Self {
            skip: 0,
            bytes: [0; 13],
            have: 0,
            need: HEAD,
        }
    }

    /// Looks at the next bytes and reports the frames that begin in them. Stops at the first error.
    pub fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        mut report: impl FnMut(&Head) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let skip = bytes.len().min(self.skip as usize);
            self.skip -= skip as u32;
            bytes = bytes.get(skip..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            let wanted = usize::from(self.need - self.have).min(bytes.len());
            let (taken, rest) = bytes.split_at(wanted);
            for (to, from) in self.bytes.iter_mut().skip(usize::from(self.have)).zip(taken) {
                *to = *from;
            }
            self.have += wanted as u8;
            bytes = rest;
            if self.have < self.need {
                return Ok(());
            }
            if let Some(head) = self.complete() {
                report(&head)?;
            }
        }
    }

    /// A head is there: reports it, unless some of the payload is needed first.
    fn complete(&mut self) -> Option<Head> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3, p0, p1, p2, p3] = self.bytes;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let kind = Kind::of(kind);
        let prelude = kind.prelude(flags);
        if self.need == HEAD && prelude > 0 && length >= u32::from(prelude) {
            self.need = HEAD + prelude;
            return None;
        }
        let word = match self.need - HEAD {
            0 => 0,
            1 => u32::from(p0),
            _ => u32::from_be_bytes([p0, p1, p2, p3]),
        };
        self.skip = length.saturating_sub(u32::from(self.need - HEAD));
        (self.have, self.need) = (0, HEAD);
        // The first bit of the stream's number is reserved (RFC 9113 section 4.1).
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        Some(Head {
            kind,
            flags,
            stream,
            length,
            word,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame's bytes.
    pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn heads(follower: &mut Follower, pieces: &[&[u8]]) -> Vec<Head> {
        let mut seen = Vec::new();
        for piece in pieces {
            follower
                .feed(piece, |head| {
                    seen.push(*head);
                    Ok::<(), ()>(())
                })
                .unwrap();
        }
        seen
    }

    fn conversation() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[0; 12]));
        bytes.extend(frame(1, 0x4, 1, b"abcdef"));
        bytes.extend(frame(0, 0x8, 1, &[3, b'x', 0, 0, 0]));
        bytes.extend(frame(0, 0x1, 1, b""));
        bytes.extend(frame(3, 0, 0x8000_0001, &8u32.to_be_bytes()));
        bytes.extend(frame(3, 0, 3, &[1]));
        bytes.extend(frame(8, 0, 0, &[0, 0, 1, 0]));
        bytes.extend(frame(99, 0, 0, b"anything"));
        bytes
    }

    #[test]
    fn heads_are_read_with_what_their_payload_says() {
        let heads = heads(&mut Follower::of_client(), &[&conversation()]);
        let short: Vec<_> = heads
            .iter()
            .map(|h| (h.kind, h.stream, h.length, h.word))
            .collect();
        assert_eq!(
            short,
            [
                (Kind::Settings, 0, 12, 0),
                (Kind::Headers, 1, 6, 0),
                (Kind::Data, 1, 5, 3),
                (Kind::Data, 1, 0, 0),
                (Kind::Reset, 1, 4, 8),
                (Kind::Reset, 3, 1, 0),
                (Kind::WindowUpdate, 0, 4, 0),
                (Kind::Unknown, 0, 8, 0),
            ]
        );
        assert_eq!(
            (heads[2].data(), heads[3].ends_stream(), heads[1].ends_headers()),
            (1, true, true)
        );
    }

    #[test]
    fn a_cut_anywhere_changes_nothing() {
        let bytes = conversation();
        let whole = heads(&mut Follower::of_client(), &[&bytes]);
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(heads(&mut Follower::of_client(), &[a, b]), whole, "cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(heads(&mut Follower::of_client(), &single), whole);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_heads(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(1usize..40, 0..40),
        ) {
            let whole = heads(&mut Follower::of_server(), &[&bytes]);
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(heads(&mut Follower::of_server(), &pieces), whole);
        }

        #[test]
        fn frames_are_found_behind_each_other(
            frames in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
            piece in 1usize..30,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(k, f, s, p)| frame(*k, *f, *s, p)).collect();
            let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
            let seen = heads(&mut Follower::of_server(), &pieces);
            // A frame whose payload tells more is reported when that is there, and all of them are whole.
            prop_assert_eq!(seen.len(), frames.len());
            for (head, (kind, flags, stream, payload)) in seen.iter().zip(&frames) {
                prop_assert_eq!(head.kind, Kind::of(*kind));
                prop_assert_eq!(head.flags, *flags);
                prop_assert_eq!(head.stream, stream & 0x7fff_ffff);
                prop_assert_eq!(head.length as usize, payload.len());
            }
        }
    }
}
