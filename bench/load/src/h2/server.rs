//! How does the origin answer HTTP/2? GETs with as many bytes as the path says, gRPC calls with their own message.

use std::collections::{HashMap, VecDeque};

use super::connection::{Connection, End, Event, FRAME_LIMIT, PREFACE};
use super::hpack::{Decoder, Store, write_field};
use crate::wire::{Output, length_of};

/// A request whose body is still coming.
struct Request {
    length: u64,
    message: Option<Vec<u8>>,
}

/// An answer that has left in part, or not at all: the windows are closed.
struct Answer {
    stream: u32,
    window: i64,
    left: u64,
    /// What is echoed; a GET's body is filled in as it leaves.
    message: Option<Vec<u8>>,
}

pub(crate) struct Server {
    connection: Connection,
    decoder: Decoder,
    requests: HashMap<u32, Request>,
    /// Window updates for streams that are not answered yet.
    early: HashMap<u32, i64>,
    waiting: VecDeque<Answer>,
    preface: bool,
}

impl Server {
    pub(crate) fn new(out: &mut Output) -> Self {
        Self {
            connection: Connection::open(&mut out.bytes),
            decoder: Decoder::new(),
            requests: HashMap::new(),
            early: HashMap::new(),
            waiting: VecDeque::new(),
            preface: false,
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Output) -> Result<usize, String> {
        let mut used = 0;
        if !self.preface {
            if bytes.len() < PREFACE.len() {
                return Ok(0);
            }
            self.preface = true;
            used = PREFACE.len();
        }
        let out = &mut out.bytes;
        while let Some((event, size)) = self.connection.read(bytes.get(used..).unwrap_or_default(), out)? {
            used += size;
            match event {
                Event::Headers { stream, block, end } => self.headers(stream, &block, end, out)?,
                Event::Data { stream, data, end } => {
                    if let Some(message) = self
                        .requests
                        .get_mut(&stream)
                        .and_then(|request| request.message.as_mut())
                    {
                        message.extend_from_slice(data);
                    }
                    if end == End::Last {
                        self.answer(stream, out);
                    }
                }
                Event::Reset { stream, .. } => {
                    self.requests.remove(&stream);
                    self.early.remove(&stream);
                    self.waiting.retain(|answer| answer.stream != stream);
                }
                Event::StreamWindow { stream, increment } => {
                    match self.waiting.iter_mut().find(|answer| answer.stream == stream) {
                        Some(answer) => answer.window += increment,
                        None if self.requests.contains_key(&stream) => {
                            *self.early.entry(stream).or_default() += increment;
                        }
                        None => {}
                    }
                    self.send_waiting(out);
                }
                Event::Upkeep => self.send_waiting(out),
            }
        }
        Ok(used)
    }

    fn headers(&mut self, stream: u32, block: &[u8], end: End, out: &mut Vec<u8>) -> Result<(), String> {
        let (mut length, mut is_grpc) = (0, false);
        self.decoder.decode(block, |name, value| match name {
            b":path" => length = length_of(&String::from_utf8_lossy(value)),
            b"content-type" => is_grpc = value.starts_with(b"application/grpc"),
            _ => {}
        })?;
        // Trailers of a request say nothing new.
        self.requests.entry(stream).or_insert_with(|| Request {
            length,
            message: is_grpc.then(Vec::new),
        });
        if end == End::Last {
            self.answer(stream, out);
        }
        Ok(())
    }

    fn answer(&mut self, stream: u32, out: &mut Vec<u8>) {
        let Some(Request { length, message }) = self.requests.remove(&stream) else {
            return;
        };
        let left = message.as_ref().map_or(length, |message| message.len() as u64);
        let mut block = Vec::with_capacity(64);
        write_field(&mut block, ":status", "200", Store::Nothing);
        if message.is_some() {
            write_field(&mut block, "content-type", "application/grpc", Store::Nothing);
        } else {
            write_field(
                &mut block,
                "content-type",
                "application/octet-stream",
                Store::Nothing,
            );
            write_field(&mut block, "content-length", &left.to_string(), Store::Nothing);
        }
        let end = if left == 0 && message.is_none() {
            End::Last
        } else {
            End::More
        };
        Connection::write_headers(out, stream, &block, end);
        let window = self.connection.stream_window + self.early.remove(&stream).unwrap_or(0);
        if end == End::More {
            self.waiting.push_back(Answer {
                stream,
                window,
                left,
                message,
            });
            self.send_waiting(out);
        }
    }

    /// Sends what the windows allow, oldest answer first.
    fn send_waiting(&mut self, out: &mut Vec<u8>) {
        let connection = &mut self.connection;
        self.waiting.retain_mut(|answer| {
            while answer.left > 0 {
                let room = answer
                    .window
                    .min(connection.send_window)
                    .clamp(0, FRAME_LIMIT as i64) as u64;
                let size = room.min(answer.left) as usize;
                if size == 0 {
                    return true;
                }
                answer.left -= size as u64;
                answer.window -= size as i64;
                let end = if answer.left == 0 && answer.message.is_none() {
                    End::Last
                } else {
                    End::More
                };
                connection.start_data(out, answer.stream, size, end);
                match &mut answer.message {
                    Some(message) => out.extend(message.drain(..size)),
                    None => out.resize(out.len() + size, b'm'),
                }
            }
            if answer.message.is_some() {
                let mut trailers = Vec::with_capacity(16);
                write_field(&mut trailers, "grpc-status", "0", Store::Nothing);
                Connection::write_headers(out, answer.stream, &trailers, End::Last);
            }
            false
        });
    }
}
