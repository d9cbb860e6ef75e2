//! How is a caller of the admin server read and answered?
//!
//! One request after the other, each whole before it is answered. Every wait has a deadline, everything that is kept a
//! bound; whoever exceeds one is told so and loses the connection.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::time::Duration;

use mesh_http1::{
    BodyDecoder, BodyKind, HeadError, HeadWriter, Limits, Method, Parsed, Persistence, RequestHead, Target,
    Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::guard::Caller;
use super::pages::{Request, Response, answer, is_long};
use super::{Seat, Site};
use crate::io::socket::{Socket, poll_discard};

/// For a request, from its first byte to its last; for the first one, from the connection's beginning.
const REQUEST: Duration = Duration::from_secs(10);
/// Between requests: scrapers come every 15 to 60 seconds.
const IDLE: Duration = Duration::from_secs(120);
/// For a response to be taken.
const RESPONSE: Duration = Duration::from_secs(30);
/// For a place among those whose long texts are rendered.
const RENDER: Duration = Duration::from_secs(10);
/// For a client to read the last response before the connection is gone, and bytes of it that are thrown away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// What heads may be: no cookies come here.
const LIMITS: Limits = Limits {
    head_bytes: 16 * 1024,
    fields: 64,
    chunk_extension_bytes: 256,
    body_extension_bytes: 1024,
    trailer_bytes: 1024,
};
/// Bytes of a request's body: the longest that means something is `debug`.
const BODY_BYTES: usize = 1024;
/// Responses up to this size leave in one write with their heads.
const SMALL_BYTES: usize = 16 * 1024;

/// Why there is nothing to answer, or nothing good.
enum Refused {
    /// The client is gone, or never said anything.
    Silently,
    /// It is told this, and the connection ends.
    With(u16, &'static str),
}

/// One caller's connection.
struct Connection {
    socket: Socket,
    /// What was read and is not done with.
    bytes: Vec<u8>,
    head: RequestHead,
}

/// Serves a caller until the connection ends.
pub(super) async fn serve(site: Rc<Site>, seat: Seat, socket: Socket, caller: Caller) {
    let mut connection = Connection {
        socket,
        bytes: Vec::new(),
        head: RequestHead::new(),
    };
    let mut patience = REQUEST;
    loop {
        match connection.exchange(&site, &seat, caller, patience).await {
            Ok(true) => patience = IDLE,
            Ok(false) => return connection.linger().await,
            Err(Refused::Silently) => return,
            Err(Refused::With(status, why)) => {
                let response = Response::text(status, why);
                if connection.send(&response, Method::Get, true).await {
                    connection.linger().await;
                }
                return;
            }
        }
    }
}

impl Connection {
    /// One request and its response. Whether another may follow.
    async fn exchange(
        &mut self,
        site: &Site,
        seat: &Seat,
        caller: Caller,
        patience: Duration,
    ) -> Result<bool, Refused> {
        let deadline = self.read_head(patience).await?;
        seat.active();
        let (body, end) = self.read_body(deadline).await?;
        let head_bytes = self.bytes.get(..self.head.head_len).unwrap_or_default();
        let place = if is_long(&self.head, head_bytes) {
            match timeout(RENDER, site.renders.acquire()).await {
                Ok(Ok(place)) => Some(place),
                _ => return Err(Refused::With(503, "others are being answered: try again")),
            }
        } else {
            None
        };
        let request = Request {
            caller,
            head: &self.head,
            bytes: head_bytes,
            body: &body,
        };
        let response = answer(site, &request);
        let method = self.head.method;
        // What follows a request that was meant for a proxy is meant for somebody else.
        let misled = !matches!(self.head.target, Target::Origin { .. });
        let close = misled || self.head.persistence == Persistence::Close;
        self.bytes.drain(..end);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        let sent = self.send(&response, method, close).await;
        drop(place);
        if sent { Ok(!close) } else { Err(Refused::Silently) }
    }

    /// Reads a head; gives the time by which the rest of the request must be there.
    async fn read_head(&mut self, patience: Duration) -> Result<Instant, Refused> {
        let mut begun = !self.bytes.is_empty();
        let mut deadline = Instant::now() + if begun { REQUEST } else { patience };
        loop {
            if begun {
                match self.head.parse(&self.bytes, &LIMITS) {
                    Ok(Parsed::Complete) => return Ok(deadline),
                    Ok(Parsed::Partial) => {}
                    Err(error) => return Err(Refused::With(status(error), error.as_str())),
                }
            }
            match self.read(deadline).await {
                Read::Some if !begun => {
                    begun = true;
                    deadline = Instant::now() + REQUEST;
                }
                Read::Some => {}
                Read::Late if begun => return Err(Refused::With(408, "the request took too long")),
                Read::End | Read::Late => return Err(Refused::Silently),
            }
        }
    }

    /// Reads a body; gives it with the place behind it.
    async fn read_body(&mut self, deadline: Instant) -> Result<(Vec<u8>, usize), Refused> {
        const TOO_LONG: Refused = Refused::With(413, "the body is too long");
        let mut at = self.head.head_len;
        match self.head.body {
            BodyKind::None => return Ok((Vec::new(), at)),
            BodyKind::Fixed(length) if length > BODY_BYTES as u64 => return Err(TOO_LONG),
            _ => {}
        }
        if self.head.expect_continue && self.bytes.len() == at {
            let wrote = self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            within(deadline, wrote).await.ok_or(Refused::Silently)?;
        }
        let mut decoder = BodyDecoder::new(self.head.body, &LIMITS);
        let mut body = Vec::new();
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let decoded = decoder
                .decode(rest)
                .map_err(|error| Refused::With(400, error.as_str()))?;
            body.extend_from_slice(rest.get(decoded.data).unwrap_or_default());
            at += decoded.consumed;
            if decoded.done {
                return Ok((body, at));
            }
            // Chunks may be tiny: what they are wrapped in counts as well.
            if body.len() > BODY_BYTES || at > LIMITS.head_bytes + 2 * BODY_BYTES {
                return Err(TOO_LONG);
            }
            if at == self.bytes.len() {
                match self.read(deadline).await {
                    Read::Some => {}
                    Read::End => return Err(Refused::Silently),
                    Read::Late => return Err(Refused::With(408, "the request took too long")),
                }
            }
        }
    }

    async fn read(&mut self, deadline: Instant) -> Read {
        match timeout_at(deadline, self.socket.read_buf(&mut self.bytes)).await {
            Ok(Ok(0) | Err(_)) => Read::End,
            Ok(Ok(_)) => Read::Some,
            Err(_) => Read::Late,
        }
    }

    /// Sends a response; false when the client does not take it.
    async fn send(&mut self, response: &Response, method: Method, close: bool) -> bool {
        let mut out = Vec::with_capacity(256);
        let mut head = HeadWriter::new(&mut out);
        head.status_line(response.status, b"");
        head.field(b"Content-Type", response.content_type.as_bytes());
        head.content_length(response.body.len() as u64);
        head.field(b"Cache-Control", b"no-store");
        head.field(b"X-Content-Type-Options", b"nosniff");
        if let Some(allow) = response.allow {
            head.field(b"Allow", allow.as_bytes());
        }
        if close {
            head.field(b"Connection", b"close");
        } else if self.head.version == Version::Http10 {
            head.field(b"Connection", b"keep-alive");
        }
        head.end();
        let body = match method {
            Method::Head => &b""[..],
            _ => response.body.as_bytes(),
        };
        let deadline = Instant::now() + RESPONSE;
        if body.len() <= SMALL_BYTES {
            out.extend_from_slice(body);
            return within(deadline, self.socket.write_all(&out)).await.is_some();
        }
        within(deadline, self.socket.write_all(&out)).await.is_some()
            && within(deadline, self.socket.write_all(body)).await.is_some()
    }

    /// Ends the connection so that the client sees its last response.
    async fn linger(mut self) {
        let deadline = Instant::now() + LINGER;
        if within(deadline, self.socket.shutdown()).await.is_some() {
            let mut scratch = [0; 1024];
            let mut budget = LINGER_BYTES;
            let discard = poll_fn(|cx| poll_discard(&mut self.socket, cx, &mut scratch, &mut budget));
            let _ = timeout_at(deadline, discard).await;
        }
    }
}

enum Read {
    Some,
    End,
    Late,
}

/// What a piece of I/O gives, if it succeeds in time.
async fn within<T>(deadline: Instant, io: impl Future<Output = std::io::Result<T>>) -> Option<T> {
    timeout_at(deadline, io).await.ok()?.ok()
}

fn status(error: HeadError) -> u16 {
    match error {
        HeadError::TooLarge | HeadError::TooManyFields => 431,
        HeadError::ExpectationFailed => 417,
        _ => 400,
    }
}
