//! Two connections back to back, and connections against bytes.

mod exchanges;
mod frames;
mod random;

use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::meter::{Budgets, Role};
use crate::{Buffers, Code, Connection, Failure, Head, Key, Pool, Received, Settings};

struct Plain;

impl Buffers for Plain {
    fn take(&self) -> Vec<u8> {
        Vec::with_capacity(1024)
    }

    fn give(&self, _: Vec<u8>) {}
}

fn settings() -> Settings {
    Settings {
        streams: 100,
        stream_window: 65_535,
        connection_window: 1 << 20,
        header_bytes: 16_384,
        budgets: Budgets::new(16_384),
    }
}

fn connection(role: Role, settings: Settings) -> Connection {
    Connection::new(role, settings, Rc::new(Pool::new(Plain)))
}

/// A client and a server.
struct Pair {
    client: Connection,
    server: Connection,
}

impl Pair {
    fn new() -> Self {
        Self::with(settings(), settings())
    }

    fn with(client: Settings, server: Settings) -> Self {
        let mut pair = Self {
            client: connection(Role::Client, client),
            server: connection(Role::Server, server),
        };
        pair.talk();
        pair
    }

    /// Moves bytes until neither side has anything to say.
    fn talk(&mut self) {
        while carry(&mut self.client, &mut self.server, usize::MAX)
            + carry(&mut self.server, &mut self.client, usize::MAX)
            > 0
        {}
    }

    /// A request without a body, as it arrives.
    fn request(&mut self, ends: bool) -> (Key, Key, Box<Head>) {
        let key = self.client.open_stream(false).unwrap();
        self.client
            .head(key, ends, |out| {
                out.request(b"GET", b"http", b"a.test", b"/", false)
            })
            .unwrap();
        self.talk();
        let (there, head) = self.server.arrived().unwrap();
        (key, there, head)
    }

    /// Nothing is left of any stream.
    fn is_clean(&self) {
        for connection in [&self.client, &self.server] {
            assert_eq!(connection.open, 0);
            assert!(connection.streams.is_empty(), "{:?}", connection.streams);
            assert!(connection.numbers.is_empty());
            assert!(connection.arrived.is_empty());
            assert_eq!(connection.over, None);
        }
    }
}

/// Moves up to `most` bytes, and says how many were there to move. What is the beginning of a frame stays.
fn carry(from: &mut Connection, to: &mut Connection, most: usize) -> usize {
    let bytes = from.unsent();
    let bytes = bytes.get(..most).unwrap_or(bytes).to_vec();
    let used = to.receive(&bytes, 0);
    from.sent(used);
    used
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What can be taken from a stream now, and whether it ended.
fn take(connection: &mut Connection, key: Key) -> (Vec<u8>, Option<Result<(), Failure>>) {
    let mut all = Vec::new();
    loop {
        let mut piece = Vec::new();
        match connection.poll_data(&mut cx(), key, &mut piece) {
            Poll::Ready(Ok(Received::Data)) => {
                all.extend_from_slice(&piece);
                connection.taken(key, piece.len());
            }
            Poll::Ready(Ok(Received::End)) => return (all, Some(Ok(()))),
            Poll::Ready(Err(failure)) => return (all, Some(Err(failure))),
            Poll::Pending => return (all, None),
        }
    }
}

/// Sends as much as there is room for.
fn give(connection: &mut Connection, key: Key, payload: &[u8]) -> usize {
    match connection.poll_room(&mut cx(), key, payload.len()) {
        Poll::Ready(Ok(n)) => {
            connection.data(key, &payload[..n]);
            n
        }
        _ => 0,
    }
}

fn next_head(connection: &mut Connection, key: Key) -> Result<Box<Head>, Failure> {
    match connection.poll_head(&mut cx(), key) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("no head"),
    }
}

fn fields(head: &Head) -> String {
    String::from_utf8_lossy(
        &head
            .fields
            .iter()
            .flat_map(|field| field.line.of(head.bytes()))
            .copied()
            .collect::<Vec<_>>(),
    )
    .into_owned()
}

/// A frame's bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The frames in what is to be sent: kind, flags, stream and payload.
fn sent(connection: &mut Connection) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let bytes = connection.unsent().to_vec();
    connection.sent(bytes.len());
    let mut rest = bytes.strip_prefix(crate::frame::PREFACE).unwrap_or(&bytes);
    let mut frames = Vec::new();
    while let Some(frame) = crate::frame::Frame::parse(rest) {
        let end = 9 + frame.length as usize;
        frames.push((frame.kind as u8, frame.flags, frame.stream, rest[9..end].to_vec()));
        rest = &rest[end..];
    }
    assert!(rest.is_empty());
    frames
}

/// The code of the last RST_STREAM or GOAWAY that was sent, and its stream.
fn verdict(connection: &mut Connection) -> Option<(u32, Code)> {
    sent(connection)
        .into_iter()
        .rev()
        .find_map(|(kind, _, stream, payload)| {
            let at = match kind {
                3 => 0,
                7 => 4,
                _ => return None,
            };
            Some((
                stream,
                Code(u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())),
            ))
        })
}
