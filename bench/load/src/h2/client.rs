//! Is every answer on every stream a 200 with the right length, and for gRPC a status of 0 behind it?

use std::collections::HashMap;
use std::time::Instant;

use super::connection::{Connection, End, Event, FRAME_LIMIT, PREFACE};
use super::hpack::{self, Decoder, Store, TABLE_SIZE};
use crate::run::Run;
use crate::wire::{Machine, Output, length_of};

/// The largest gRPC message: with its prefix it leaves in one frame.
pub(crate) const MESSAGE_LIMIT: u32 = FRAME_LIMIT as u32 - 5;

/// The one request that a load repeats.
#[derive(Clone)]
pub(crate) struct Call {
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    expected: u64,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Grpc,
}

impl Call {
    pub(crate) fn get(scheme: &str, path: &str, host: &str) -> Self {
        let fields = [
            (":method", "GET"),
            (":scheme", scheme),
            (":path", path),
            (":authority", host),
            ("user-agent", "mesh-load"),
            ("accept", "*/*"),
        ];
        Self::new(&fields, Vec::new(), length_of(path), Kind::Get)
    }

    /// A unary call whose message of `size` bytes the origin sends back.
    pub(crate) fn grpc(scheme: &str, host: &str, size: u32) -> Self {
        let fields = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", "/bench.Echo/Unary"),
            (":authority", host),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "mesh-load"),
        ];
        let mut body = vec![0];
        body.extend_from_slice(&size.to_be_bytes());
        body.resize(body.len() + size as usize, b'm');
        let expected = body.len() as u64;
        Self::new(&fields, body, expected, Kind::Grpc)
    }

    fn new(fields: &[(&str, &str)], body: Vec<u8>, expected: u64, kind: Kind) -> Self {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self {
            fields,
            body,
            expected,
            kind,
        }
    }
}

struct Stream {
    start: Instant,
    received: u64,
    ok: bool,
}

/// The header blocks, known once the peer has said how large its table is.
struct Blocks {
    first: Option<Vec<u8>>,
    later: Vec<u8>,
}

pub(crate) struct Client {
    call: Call,
    streams_wanted: u32,
    connection: Option<Connection>,
    blocks: Option<Blocks>,
    decoder: Decoder,
    streams: HashMap<u32, Stream>,
    next_stream: u32,
}

impl Client {
    pub(crate) fn new(call: Call, streams_wanted: u32) -> Self {
        Self {
            call,
            streams_wanted,
            connection: None,
            blocks: None,
            decoder: Decoder::new(),
            streams: HashMap::new(),
            next_stream: 1,
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.streams.len() as u64
    }

    /// Opens the connection, and once the peer's settings are there keeps all streams busy.
    pub(crate) fn fill(&mut self, out: &mut Output, run: &mut Run) {
        let out = &mut out.bytes;
        let connection = self.connection.get_or_insert_with(|| {
            out.extend_from_slice(PREFACE);
            Connection::open(out)
        });
        if !connection.settings_seen {
            return;
        }
        let call = &self.call;
        let blocks = self.blocks.get_or_insert_with(|| {
            let fields: Vec<_> = call
                .fields
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            let store = if connection.table_size as usize >= TABLE_SIZE {
                Store::Insert
            } else {
                Store::Nothing
            };
            let (first, later) = hpack::request_blocks(&fields, store);
            Blocks {
                first: Some(first),
                later,
            }
        });
        let limit = self.streams_wanted.min(connection.max_streams) as usize;
        let size = call.body.len() as i64;
        while self.streams.len() < limit
            && size <= connection.stream_window
            && size <= connection.send_window
            && let Some(start) = run.next()
        {
            let stream = self.next_stream;
            self.next_stream += 2;
            let first = blocks.first.take();
            let block = first.as_deref().unwrap_or(&blocks.later);
            let end = if call.body.is_empty() {
                End::Last
            } else {
                End::More
            };
            Connection::write_headers(out, stream, block, end);
            if end == End::More {
                connection.start_data(out, stream, call.body.len(), End::Last);
                out.extend_from_slice(&call.body);
            }
            self.streams.insert(
                stream,
                Stream {
                    start,
                    received: 0,
                    ok: false,
                },
            );
        }
    }

    fn headers(&mut self, id: u32, block: &[u8], end: End, run: &mut Run) -> Result<(), String> {
        let stream = self.streams.get_mut(&id).ok_or("HEADERS on an unknown stream")?;
        // Of a gRPC answer the status in the trailers counts, of any other the status at the front.
        let wanted: (&[u8], &[u8]) = match (self.call.kind, end) {
            (Kind::Grpc, End::Last) => (b"grpc-status", b"0"),
            _ => (b":status", b"200"),
        };
        let mut found = None;
        self.decoder.decode(block, |name, value| {
            if name == wanted.0 && value != wanted.1 {
                found = Some(String::from_utf8_lossy(value).into_owned());
            } else if name == wanted.0 {
                stream.ok = true;
            }
        })?;
        match found {
            Some(other) => Err(format!("{} {other}", String::from_utf8_lossy(wanted.0))),
            None if end == End::Last => self.finish(id, run),
            None => Ok(()),
        }
    }

    fn data(&mut self, id: u32, data: &[u8], end: End, run: &mut Run) -> Result<(), String> {
        let stream = self.streams.get_mut(&id).ok_or("DATA on an unknown stream")?;
        stream.received += data.len() as u64;
        match (end, self.call.kind) {
            (End::More, _) => Ok(()),
            (End::Last, Kind::Get) => self.finish(id, run),
            (End::Last, Kind::Grpc) => Err("gRPC answer without trailers".to_owned()),
        }
    }

    fn finish(&mut self, id: u32, run: &mut Run) -> Result<(), String> {
        let stream = self.streams.remove(&id).ok_or("end of an unknown stream")?;
        if !stream.ok {
            return Err("an answer without a status".to_owned());
        }
        if stream.received != self.call.expected {
            return Err(format!(
                "a body of {} bytes, expected {}",
                stream.received, self.call.expected
            ));
        }
        run.done(stream.start, stream.received);
        Ok(())
    }
}

impl Machine for Client {
    type Shared = Run;

    fn feed(&mut self, bytes: &[u8], out: &mut Output, run: &mut Run) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let connection = self.connection.as_mut().ok_or("bytes before the preface")?;
            let rest = bytes.get(used..).unwrap_or_default();
            let Some((event, size)) = connection.read(rest, &mut out.bytes)? else {
                break;
            };
            used += size;
            match event {
                Event::Headers { stream, block, end } => self.headers(stream, &block, end, run)?,
                Event::Data { stream, data, end } => self.data(stream, data, end, run)?,
                Event::Reset { stream, code } => {
                    return Err(format!("stream {stream} reset with code {code}"));
                }
                Event::StreamWindow { .. } | Event::Upkeep => {}
            }
        }
        self.fill(out, run);
        Ok(used)
    }

    fn closed(&mut self) -> Result<(), String> {
        Err("connection closed by the proxy".to_owned())
    }
}
