//! What does each frame of the peer do?

use crate::code::Code;
use crate::connection::{Block, Connection, Expected, FIRST_WINDOW, Fatal, Leaving};
use crate::frame::{self, Frame, Kind, PADDED, PREFACE, PRIORITY};
use crate::head::{Head, Part, is_good};
use crate::meter::{Flood, Nanos, Role};
use crate::stream::{Side, Stream};

/// A head this many times larger than allowed is no mistake: its sender is left (attacks.md 4).
const FAR_TOO_LARGE: usize = 4;

impl Connection {
    /// Takes what was read and gives how much of it was used up: what is left is the beginning of a frame. When the
    /// connection is over all is used up.
    pub fn receive(&mut self, bytes: &[u8], now: Nanos) -> usize {
        let mut rest = bytes;
        while self.over.is_none() {
            match self.step(rest, now) {
                Ok(0) => {
                    if !rest.is_empty() {
                        self.cut.get_or_insert(now);
                    }
                    return bytes.len() - rest.len();
                }
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    self.cut = None;
                }
                Err(fatal) => self.fail(fatal),
            }
        }
        bytes.len()
    }

    /// Takes on the next piece; 0 when there is none as a whole.
    fn step(&mut self, bytes: &[u8], now: Nanos) -> Result<usize, Fatal> {
        match self.expected {
            Expected::First | Expected::Frame => {}
            Expected::Preface => return self.preface(bytes),
            Expected::Data { .. } => return Ok(self.data_goes_on(bytes)),
        }
        let Some(mut frame) = Frame::parse(bytes) else {
            return Ok(0);
        };
        // RFC 9113 section 3.4.
        if self.expected == Expected::First && (frame.kind != Kind::Settings || frame.is_ack()) {
            return Err(Fatal::protocol("http2_preface"));
        }
        let length = frame.length as usize;
        if length > frame::MOST {
            return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size"));
        }
        if let Some(block) = &self.block
            && (frame.kind != Kind::Continuation || frame.stream != block.stream)
        {
            return Err(Fatal::protocol("http2_continuation"));
        }
        let payload = bytes.get(frame::HEAD..).unwrap_or_default();
        if frame.kind == Kind::Data {
            return self.on_data(&mut frame, payload, now);
        }
        let Some(payload) = payload.get(..length) else {
            return Ok(0);
        };
        self.on_received(&frame, now)?;
        self.expected = Expected::Frame;
        match frame.kind {
            Kind::Headers => self.on_headers(&frame, payload, now)?,
            Kind::Continuation => self.on_continuation(&frame, payload, now)?,
            Kind::Priority => self.on_priority(&frame, payload)?,
            Kind::Reset => self.on_reset(&frame, payload)?,
            Kind::Settings => self.on_settings(&frame, payload)?,
            // RFC 9113 section 8.4: it was told that there is no push, or is a client.
            Kind::PushPromise => return Err(Fatal::protocol("http2_push")),
            Kind::Ping => self.on_ping(&frame, payload)?,
            Kind::GoAway => self.on_go_away(&frame, payload)?,
            Kind::WindowUpdate => self.on_window_update(&frame, payload)?,
            Kind::Data | Kind::Unknown => {}
        }
        Ok(frame::HEAD + length)
    }

    fn preface(&mut self, bytes: &[u8]) -> Result<usize, Fatal> {
        if bytes.iter().zip(PREFACE).any(|(a, b)| a != b) {
            return Err(Fatal::protocol("http2_preface"));
        }
        if bytes.len() < PREFACE.len() {
            return Ok(0);
        }
        self.expected = Expected::First;
        Ok(PREFACE.len())
    }

    /// The head of a DATA frame; its payload is taken as it comes.
    fn on_data(&mut self, frame: &mut Frame, payload: &[u8], now: Nanos) -> Result<usize, Fatal> {
        let mut used = frame::HEAD;
        let mut padding = 0;
        if frame.has(PADDED) {
            if frame.length == 0 {
                return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size"));
            }
            let Some(pad) = payload.first() else { return Ok(0) };
            padding = u32::from(*pad);
            used += 1;
            if padding >= frame.length {
                return Err(Fatal::protocol("http2_padding"));
            }
            frame.word = padding;
        }
        if frame.stream == 0 || self.is_idle(frame.stream) {
            return Err(Fatal::protocol("http2_idle_stream"));
        }
        self.on_received(frame, now)?;
        self.receive_window -= i64::from(frame.length);
        if self.receive_window < 0 {
            return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "http2_flow_control"));
        }
        let data = frame.data();
        // What is no payload is given back at once.
        self.credit_connection(frame.length - data);
        self.expected = Expected::Data {
            stream: frame.stream,
            payload: data,
            padding,
            ends: frame.ends_stream(),
        };
        let was_reset = self.was_reset(frame.stream);
        match self.find(frame.stream) {
            Some((at, stream)) if stream.receive == Side::Open => {
                stream.receive_window -= i64::from(frame.length);
                let announced = stream.announced.map(|left| left.checked_sub(u64::from(data)));
                if stream.bodiless && data > 0 {
                    // RFC 9110 section 6.4.1: there is none to HEAD, nor with 204 and 304.
                    self.stream_error(at, Code::PROTOCOL_ERROR, "http2_body");
                } else if stream.receive_window < 0 {
                    self.stream_error(at, Code::FLOW_CONTROL_ERROR, "http2_flow_control");
                } else if !stream.in_body {
                    self.stream_error(at, Code::PROTOCOL_ERROR, "http2_data_before_head");
                } else if announced == Some(None)
                    || (frame.ends_stream() && matches!(announced, Some(Some(1..))) && !stream.bodiless)
                {
                    // RFC 9113 section 8.1.1.
                    self.stream_error(at, Code::PROTOCOL_ERROR, "http2_content_length");
                } else {
                    stream.announced = announced.flatten();
                    stream.credit += frame.length - data;
                }
            }
            Some((at, stream)) if stream.receive == Side::Ended => {
                self.stream_error(at, Code::STREAM_CLOSED, "http2_stream_closed");
            }
            // RFC 9113 section 5.1: whoever takes a stream back sends nothing more on it.
            Some((_, stream)) if stream.peer_reset => self.reset_number(frame.stream, Code::STREAM_CLOSED),
            Some(_) => {}
            // The same section: what was on its way when it was reset is passed over.
            None if !was_reset => self.reset_number(frame.stream, Code::STREAM_CLOSED),
            None => {}
        }
        // A frame without payload may end the stream.
        self.data_goes_on(&[]);
        Ok(used)
    }

    /// The rest of a DATA frame, as far as it is there.
    fn data_goes_on(&mut self, bytes: &[u8]) -> usize {
        let Expected::Data {
            stream: number,
            payload,
            padding,
            ends,
        } = self.expected
        else {
            return 0;
        };
        let data = bytes.get(..payload as usize).unwrap_or(bytes);
        let rest = bytes.len() - data.len();
        let pad = rest.min(padding as usize);
        let (payload, padding) = (payload - data.len() as u32, padding - pad as u32);
        let taken = data.len() as u32;
        let pool = std::rc::Rc::clone(&self.pool);
        match self.find(number) {
            Some((at, stream)) if stream.receive == Side::Open && !stream.released => {
                if !data.is_empty() {
                    if stream.payload.capacity() == 0 {
                        stream.payload = pool.payload();
                    }
                    stream.payload.extend_from_slice(data);
                    stream.wake_receiver();
                }
                if ends && payload == 0 {
                    stream.receive = Side::Ended;
                    stream.wake_receiver();
                    self.settle(at);
                }
            }
            found => {
                // Nobody takes it.
                if let Some((at, stream)) = found
                    && ends
                    && payload == 0
                    && stream.receive == Side::Open
                {
                    stream.receive = Side::Ended;
                    self.settle(at);
                }
                self.credit_connection(taken);
            }
        }
        self.expected = if payload == 0 && padding == 0 {
            Expected::Frame
        } else {
            Expected::Data {
                stream: number,
                payload,
                padding,
                ends,
            }
        };
        data.len() + pad
    }

    fn on_headers(&mut self, frame: &Frame, payload: &[u8], now: Nanos) -> Result<(), Fatal> {
        let mut fragment = payload;
        let size = || Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size");
        let (mut padding, mut depends_on_itself) = (0, false);
        if frame.has(PADDED) {
            let (pad, rest) = fragment.split_first().ok_or_else(size)?;
            (padding, fragment) = (usize::from(*pad), rest);
        }
        if frame.has(PRIORITY) {
            let (priority, rest) = fragment.split_first_chunk::<4>().ok_or_else(size)?;
            let (_, rest) = rest.split_first().ok_or_else(size)?;
            fragment = rest;
            // RFC 9113 section 5.3.2 has no use for it; RFC 7540 section 5.3.1 calls this an error of the stream.
            depends_on_itself = u32::from_be_bytes(*priority) & 0x7fff_ffff == frame.stream;
        }
        let kept = fragment
            .len()
            .checked_sub(padding)
            .ok_or_else(|| Fatal::protocol("http2_padding"))?;
        fragment = fragment.get(..kept).unwrap_or_default();
        let mut block = Block {
            stream: frame.stream,
            ends_stream: frame.ends_stream(),
            depends_on_itself,
            since: self.cut.unwrap_or(now),
            bytes: Vec::new(),
        };
        if frame.ends_headers() {
            return self.on_block(&block, fragment, now);
        }
        block.bytes.extend_from_slice(fragment);
        self.block = Some(Box::new(block));
        Ok(())
    }

    fn on_continuation(&mut self, frame: &Frame, payload: &[u8], now: Nanos) -> Result<(), Fatal> {
        let Some(mut block) = self.block.take() else {
            return Err(Fatal::protocol("http2_continuation"));
        };
        block.bytes.extend_from_slice(payload);
        if frame.ends_headers() {
            return self.on_block(&block, &block.bytes, now);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole block of fields. Whatever becomes of it, it is read: the compression needs all of them.
    fn on_block(&mut self, block: &Block, fields: &[u8], now: Nanos) -> Result<(), Fatal> {
        let most = self.settings.header_bytes as usize;
        let mut head = self.pool.head();
        self.decoder
            .decode(fields, is_good, |field| head.push(field, most))
            .map_err(|_| Fatal::new(Code::COMPRESSION_ERROR, "http2_compression"))?;
        if head.size > most.saturating_mul(FAR_TOO_LARGE) {
            return Err(Flood::HeaderBlock.into());
        }
        if block.depends_on_itself {
            head.malform("http2_priority");
        }
        let (number, ends) = (block.stream, block.ends_stream);
        if number % 2 == 0 {
            return Err(Fatal::protocol("http2_stream_number"));
        }
        let known = self.numbers.contains_key(&number);
        let (from, below) = self.skipped;
        match self.role {
            _ if known => self.on_more_head(number, ends, head),
            Role::Server if number > self.seen => self.on_request(number, ends, head),
            Role::Client if number >= self.next => return Err(Fatal::protocol("http2_idle_stream")),
            _ if self.was_reset(number) => {
                self.pool.give_head(head);
                self.meter.on_late_head(now)?;
            }
            // RFC 9113 section 5.1.1: numbers go up.
            Role::Server if (from..below).contains(&number) => {
                return Err(Fatal::protocol("http2_stream_number"));
            }
            // Section 5.1: a stream that ended in peace stays closed.
            Role::Server => return Err(Fatal::new(Code::STREAM_CLOSED, "http2_stream_closed")),
            Role::Client => self.reset_number(number, Code::STREAM_CLOSED),
        }
        Ok(())
    }

    /// A request of a client.
    fn on_request(&mut self, number: u32, ends: bool, mut head: Box<Head>) {
        if number > self.seen + 2 {
            self.skipped = (self.seen + 1, number);
        }
        self.seen = number;
        if self.leaving == Leaving::Last {
            // RFC 9113 section 6.8: it was told that this is not looked at. What follows on it is passed over.
            self.remember_reset(number);
            return self.pool.give_head(head);
        }
        self.last = number;
        let window = if self.settled {
            self.settings.stream_window
        } else {
            // It may not have read how small the window is.
            self.settings.stream_window.max(FIRST_WINDOW)
        };
        if self.open >= self.settings.streams {
            self.pool.give_head(head);
            self.refused = self.refused.saturating_add(1);
            return self.reset_number(number, Code::REFUSED_STREAM);
        }
        if head.problem(Part::Request).is_some() || (ends && head.content_length.is_some_and(|n| n > 0)) {
            self.pool.give_head(head);
            return self.reset_number(number, Code::PROTOCOL_ERROR);
        }
        if head.method() == b"CONNECT" {
            // RFC 9110 section 9.3.6: it has no meaning there.
            head.content_length = None;
        }
        let mut stream = Stream::new(number, i64::from(window), i64::from(self.peer.window));
        stream.in_body = true;
        stream.announced = head.content_length;
        stream.push_head(head);
        if ends {
            stream.receive = Side::Ended;
        }
        self.open += 1;
        let at = self.streams.insert(stream);
        self.numbers.insert(number, at);
        self.arrived.push_back(at);
    }

    /// A response, or what comes before or behind it, or trailers of a request.
    fn on_more_head(&mut self, number: u32, ends: bool, head: Box<Head>) {
        let bodiless = |status| matches!(status, 204 | 304);
        let is_client = self.role == Role::Client;
        let most = self.settings.header_bytes as usize * 2;
        let Some((at, stream)) = self.find(number) else {
            return;
        };
        let error = match stream.receive {
            Side::Open => None,
            Side::Ended => Some((Code::STREAM_CLOSED, "http2_stream_closed")),
            Side::Failed(_) => {
                let resets = stream.peer_reset;
                self.pool.give_head(head);
                if resets {
                    self.reset_number(number, Code::STREAM_CLOSED);
                }
                return;
            }
        };
        let malformed = |token| Some((Code::PROTOCOL_ERROR, token));
        let error = error.or_else(|| {
            if stream.in_body {
                // Trailers, whose size and form are the peer's to mind.
                return match head.problem(Part::Trailers) {
                    _ if !ends || head.over => malformed("http2_trailers"),
                    None if matches!(stream.announced, Some(1..)) && !stream.bodiless => {
                        malformed("http2_content_length")
                    }
                    problem => problem.and_then(malformed),
                };
            }
            let informational = (100..200).contains(&head.status);
            match head.problem(Part::Response) {
                Some(token) => malformed(token),
                None if informational && (ends || !stream.takes_head(&head, most)) => {
                    malformed("informational")
                }
                None if !informational
                    && ends
                    && head.content_length.is_some_and(|n| n > 0)
                    && !stream.bodiless
                    && !bodiless(head.status) =>
                {
                    malformed("http2_content_length")
                }
                None => None,
            }
        });
        if let Some((code, token)) = error {
            self.pool.give_head(head);
            return self.stream_error(at, code, token);
        }
        if stream.in_body {
            stream.trailers = Some(head);
        } else {
            if is_client && !(100..200).contains(&head.status) {
                stream.in_body = true;
                stream.bodiless |= bodiless(head.status);
                stream.announced = head.content_length;
            }
            stream.push_head(head);
        }
        if ends {
            stream.receive = Side::Ended;
        }
        stream.wake_receiver();
        self.settle(at);
    }
}
