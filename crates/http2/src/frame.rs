//! What is a frame?

/// The client's preface (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head (RFC 9113 section 4.1).
pub const HEAD: usize = 9;
/// Bytes of a frame's payload that are taken: the least, and what everybody sends (RFC 9113 section 4.2).
pub const MOST: usize = 16_384;

/// `END_STREAM` of DATA and HEADERS.
pub const END_STREAM: u8 = 0x1;
/// `ACK` of SETTINGS and PING.
pub const ACK: u8 = 0x1;
/// `END_HEADERS` of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 0x4;
/// `PADDED` of DATA and HEADERS.
pub const PADDED: u8 = 0x8;
/// `PRIORITY` of HEADERS.
pub const PRIORITY: u8 = 0x20;

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
}

/// A frame's head, and the little of its payload that a [meter](crate::meter) looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type.
    pub kind: Kind,
    /// The flags.
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
    /// Bytes of payload, padding included.
    pub length: u32,
    /// RST_STREAM: the error code. Padded DATA that came: how long the padding is. DATA that goes: 1 when it is few bytes
    /// that fill a window. Otherwise 0.
    pub word: u32,
}

impl Frame {
    /// Reads a head. `None` when there are not enough bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEAD>()?;
        Some(Self {
            kind: Kind::of(kind),
            flags,
            // The first bit is reserved (RFC 9113 section 4.1).
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
            length: u32::from_be_bytes([0, l0, l1, l2]),
            word: 0,
        })
    }

    /// Writes the head.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[l0, l1, l2, self.kind as u8, self.flags, s0, s1, s2, s3]);
    }

    /// Whether it has a flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the sender ends its side of the stream.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.has(END_STREAM)
    }

    /// Whether a header block ends with this frame.
    pub fn ends_headers(&self) -> bool {
        self.has(END_HEADERS)
    }

    /// Whether this SETTINGS or PING answers one of the other side.
    pub fn is_ack(&self) -> bool {
        matches!(self.kind, Kind::Settings | Kind::Ping) && self.has(ACK)
    }

    /// Bytes of DATA without padding.
    pub fn data(&self) -> u32 {
        if self.has(PADDED) {
            self.length.saturating_sub(1 + self.word)
        } else {
            self.length
        }
    }
}
