//! What is the same for both ends of a connection? Frames in and out, settings, pings, flow control.
//!
//! Invariants: every event is a whole frame or a whole header block; settings and pings are answered here; no DATA is
//! written beyond the peer's windows.

use std::borrow::Cow;

/// What a client sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEAD: usize = 9;
/// The largest frame payload that either end sends: the protocol's default, which nobody may go below.
pub(crate) const FRAME_LIMIT: usize = 16_384;
/// The window given to every stream: above any body of the benchmark.
const STREAM_WINDOW: u32 = 4 << 20;
/// The window kept open for the connection. Half of it is used up before it is filled again.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Streams that the origin takes on one connection, as servers commonly do.
const STREAMS: u32 = 128;
const DEFAULT_WINDOW: i64 = 65_535;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const ACK: u8 = 0x1;
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// Whether a frame is its stream's last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Last,
    More,
}

impl End {
    fn of(flags: u8) -> Self {
        if flags & flag::END_STREAM != 0 {
            Self::Last
        } else {
            Self::More
        }
    }

    fn flags(self) -> u8 {
        if self == Self::Last { flag::END_STREAM } else { 0 }
    }
}

/// What the machine above has to know.
pub(crate) enum Event<'a> {
    Headers {
        stream: u32,
        block: Cow<'a, [u8]>,
        end: End,
    },
    Data {
        stream: u32,
        data: &'a [u8],
        end: End,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    StreamWindow {
        stream: u32,
        increment: i64,
    },
    /// Settings, windows, pings: new room to send, perhaps.
    Upkeep,
}

pub(crate) struct Connection {
    /// Bytes that may still be sent on the connection.
    pub(crate) send_window: i64,
    /// Bytes that may be sent on a new stream.
    pub(crate) stream_window: i64,
    pub(crate) max_streams: u32,
    /// The size of the peer's header table.
    pub(crate) table_size: u32,
    pub(crate) settings_seen: bool,
    consumed: u32,
    unfinished: Option<(u32, End, Vec<u8>)>,
}

impl Connection {
    /// Announces our settings and windows.
    pub(crate) fn open(out: &mut Vec<u8>) -> Self {
        frame_head(out, 18, kind::SETTINGS, 0, 0);
        for (setting, value) in [(2_u16, 0_u32), (3, STREAMS), (4, STREAM_WINDOW)] {
            out.extend_from_slice(&setting.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        window_update(out, CONNECTION_WINDOW - DEFAULT_WINDOW as u32);
        Self {
            send_window: DEFAULT_WINDOW,
            stream_window: DEFAULT_WINDOW,
            max_streams: u32::MAX,
            table_size: 4096,
            settings_seen: false,
            consumed: 0,
            unfinished: None,
        }
    }

    /// Takes the next frame: what it means and how long it was. `None` until it is there in full.
    pub(crate) fn read<'a>(
        &mut self,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(Event<'a>, usize)>, String> {
        let Some(head) = bytes.first_chunk::<FRAME_HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (frame, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        if length > FRAME_LIMIT {
            return Err(format!("frame of {length} bytes"));
        }
        let Some(payload) = bytes.get(FRAME_HEAD..FRAME_HEAD + length) else {
            return Ok(None);
        };
        let event = match frame {
            kind::DATA => {
                self.consume(length as u32, out);
                Event::Data {
                    stream,
                    data: unpadded(payload, flags)?,
                    end: End::of(flags),
                }
            }
            kind::HEADERS => {
                let mut block = unpadded(payload, flags)?;
                if flags & flag::PRIORITY != 0 {
                    block = block.get(5..).ok_or("short priority")?;
                }
                self.headers(stream, block, flags)
            }
            kind::CONTINUATION => self.continuation(stream, payload, flags)?,
            kind::RST_STREAM => Event::Reset {
                stream,
                code: number(payload)?,
            },
            kind::SETTINGS => {
                if flags & flag::ACK == 0 {
                    self.settings(payload)?;
                    frame_head(out, 0, kind::SETTINGS, flag::ACK, 0);
                }
                Event::Upkeep
            }
            kind::PING => {
                if flags & flag::ACK == 0 {
                    frame_head(out, payload.len(), kind::PING, flag::ACK, 0);
                    out.extend_from_slice(payload);
                }
                Event::Upkeep
            }
            kind::GOAWAY => {
                let code = number(payload.get(4..).unwrap_or_default())?;
                return Err(format!("GOAWAY with code {code}"));
            }
            kind::WINDOW_UPDATE => {
                let increment = i64::from(number(payload)? & 0x7fff_ffff);
                if stream == 0 {
                    self.send_window += increment;
                    Event::Upkeep
                } else {
                    Event::StreamWindow { stream, increment }
                }
            }
            _ => Event::Upkeep,
        };
        Ok(Some((event, FRAME_HEAD + length)))
    }

    fn headers<'a>(&mut self, stream: u32, block: &'a [u8], flags: u8) -> Event<'a> {
        if flags & flag::END_HEADERS != 0 {
            return Event::Headers {
                stream,
                block: Cow::Borrowed(block),
                end: End::of(flags),
            };
        }
        self.unfinished = Some((stream, End::of(flags), block.to_vec()));
        Event::Upkeep
    }

    fn continuation(&mut self, stream: u32, part: &[u8], flags: u8) -> Result<Event<'static>, String> {
        let (owner, end, mut block) = self.unfinished.take().ok_or("CONTINUATION without HEADERS")?;
        if owner != stream {
            return Err("CONTINUATION of another stream".to_owned());
        }
        block.extend_from_slice(part);
        if flags & flag::END_HEADERS != 0 {
            return Ok(Event::Headers {
                stream,
                block: Cow::Owned(block),
                end,
            });
        }
        self.unfinished = Some((stream, end, block));
        Ok(Event::Upkeep)
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), String> {
        self.settings_seen = true;
        for setting in payload.chunks(6) {
            let (Some(id), Some(value)) = (setting.first_chunk::<2>(), setting.get(2..)) else {
                return Err("short setting".to_owned());
            };
            let value = number(value)?;
            match u16::from_be_bytes(*id) {
                1 => self.table_size = value,
                3 => self.max_streams = value,
                4 => self.stream_window = value.into(),
                _ => {}
            }
        }
        Ok(())
    }

    fn consume(&mut self, bytes: u32, out: &mut Vec<u8>) {
        self.consumed += bytes;
        if self.consumed > CONNECTION_WINDOW / 2 {
            window_update(out, self.consumed);
            self.consumed = 0;
        }
    }

    /// Writes a whole header block; those of the benchmark fit into one frame.
    pub(crate) fn write_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end: End) {
        frame_head(
            out,
            block.len(),
            kind::HEADERS,
            flag::END_HEADERS | end.flags(),
            stream,
        );
        out.extend_from_slice(block);
    }

    /// Starts a DATA frame of `length` bytes, which the caller appends and has made room for in the windows.
    pub(crate) fn start_data(&mut self, out: &mut Vec<u8>, stream: u32, length: usize, end: End) {
        self.send_window -= length as i64;
        frame_head(out, length, kind::DATA, end.flags(), stream);
    }
}

fn frame_head(out: &mut Vec<u8>, length: usize, frame: u8, flags: u8, stream: u32) {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[high, middle, low, frame, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, increment: u32) {
    frame_head(out, 4, kind::WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&increment.to_be_bytes());
}

fn number(payload: &[u8]) -> Result<u32, String> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or_else(|| "short frame".to_owned())
}

fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], String> {
    if flags & flag::PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or("short padding")?;
    let length = rest
        .len()
        .checked_sub((*padding).into())
        .ok_or("padding beyond the frame")?;
    Ok(rest.get(..length).unwrap_or_default())
}
