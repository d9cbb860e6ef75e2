//! How do messages go over one stream of HTTP/2?
//!
//! The same at both sides: an [`Outgoing`] and an [`Incoming`] half. Both can be given up at any await and taken up again
//! (they are safe in `select!`): what was half read or half sent stays where it is.

use std::fmt;
use std::future::{pending, poll_fn};
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, StatusCode};
use mesh_xds::bounded;
use mesh_xds::grpc::{Deframer, frame};
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::link::Link;
use crate::status::{Code, Status};

/// How long the other side may take nothing while something waits for it.
pub const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// What may wait to be sent when one more message is pushed.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// Both halves of a stream.
#[derive(Debug)]
pub struct Duplex<Out, In> {
    /// To the other side.
    pub outgoing: Outgoing<Out>,
    /// From it.
    pub incoming: Incoming<In>,
}

impl<Out: Message, In: Message + Default> Duplex<Out, In> {
    /// Sends what waits, and takes what comes if the caller `hears`; `None` when all was sent. May be given up at any time.
    ///
    /// # Errors
    /// The stream ended, well or not: why.
    pub async fn step(&mut self, hears: bool) -> Result<Option<In>, Error> {
        tokio::select! {
            sent = self.outgoing.flush(), if self.outgoing.is_waiting() => match sent {
                Ok(()) => Ok(None),
                Err(error) => Err(self.incoming.why(error).await),
            },
            message = self.incoming.receive(), if hears => message?.ok_or(Error::Closed).map(Some),
            else => pending().await,
        }
    }

    /// Says that nothing more comes, and waits until the other side has heard it.
    ///
    /// # Errors
    /// The stream ended otherwise.
    pub async fn end(self) -> Result<(), Error> {
        let Self {
            outgoing,
            mut incoming,
        } = self;
        if let Err(error) = outgoing.end().await {
            return Err(incoming.why(error).await);
        }
        while incoming.receive().await?.is_some() {}
        Ok(())
    }
}

/// Messages to the other side.
pub struct Outgoing<M> {
    stream: SendStream<Bytes>,
    waiting: std::collections::VecDeque<Bytes>,
    /// Bytes of them.
    bytes: usize,
    /// When what waits has waited too long.
    deadline: Option<Instant>,
    link: Link,
    messages: PhantomData<fn(M)>,
}

impl<M: Message> Outgoing<M> {
    pub(crate) fn new(stream: SendStream<Bytes>, link: Link) -> Self {
        Self {
            stream,
            waiting: std::collections::VecDeque::new(),
            bytes: 0,
            deadline: None,
            link,
            messages: PhantomData,
        }
    }

    /// Sends a message. Given up half-way, the message is sent on by the next call of this or of [`Outgoing::flush`].
    ///
    /// # Errors
    /// The stream is no more, or the other side takes nothing for [`SEND_DEADLINE`].
    pub async fn send(&mut self, message: &M) -> Result<(), Error> {
        self.flush().await?;
        self.push(message)?;
        self.flush().await
    }

    /// Takes a message, to be sent by [`Outgoing::flush`].
    ///
    /// # Errors
    /// More waits than is sensible: look at [`Outgoing::is_waiting`] before.
    pub fn push(&mut self, message: &M) -> Result<(), Error> {
        if self.bytes > MAX_WAITING {
            return Err(Error::protocol("too much waits to be sent"));
        }
        let bytes = Bytes::from(frame(message));
        self.bytes += bytes.len();
        self.waiting.push_back(bytes);
        Ok(())
    }

    /// Whether something is to be flushed.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// As [`Outgoing::send`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        while let Some(bytes) = self.waiting.front_mut() {
            let deadline = *self
                .deadline
                .get_or_insert_with(|| Instant::now() + SEND_DEADLINE);
            self.stream.reserve_capacity(bytes.len());
            if self.stream.capacity() == 0 {
                let grown = poll_fn(|context| self.stream.poll_capacity(context));
                match timeout_at(deadline, grown).await {
                    Err(_) => return Err(Error::Deadline("to send a message")),
                    Ok(None) => return Err(Error::Closed),
                    Ok(Some(Err(error))) => return Err(self.link.explain(error).await),
                    Ok(Some(Ok(_))) => {}
                }
            }
            let part = bytes.split_to(bytes.len().min(self.stream.capacity()));
            self.bytes -= part.len();
            if !bytes.has_remaining() {
                self.waiting.pop_front();
            }
            if !part.is_empty() {
                self.deadline = None;
                if let Err(error) = self.stream.send_data(part, false) {
                    return Err(self.link.explain(error).await);
                }
            }
        }
        Ok(())
    }

    /// Says that nothing more comes. The other half stays open.
    ///
    /// # Errors
    /// As [`Outgoing::send`].
    pub async fn end(mut self) -> Result<(), Error> {
        self.flush().await?;
        match self.stream.send_data(Bytes::new(), true) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.link.explain(error).await),
        }
    }

    /// The server's way to end a stream.
    pub(crate) fn finish(&mut self, outcome: &Result<(), Status>) {
        // The caller may be gone: then nobody is to be told.
        let _ = self.stream.send_trailers(Status::trailers(outcome));
    }
}

/// What a message of a stream is judged by beside its length.
pub(crate) type Check<M> = fn(&M) -> Result<(), &'static str>;

/// Where the other side's messages are.
enum Body {
    /// Not yet answered. A server may wait with its head for its first message.
    Head(ResponseFuture),
    Open(RecvStream),
    Ended(Result<(), Error>),
}

/// Messages from the other side.
pub struct Incoming<M> {
    body: Body,
    deframer: Deframer,
    /// How many numbers may be in a message.
    numbers: usize,
    check: Check<M>,
    link: Link,
    /// Whether it must end with a status: a server's side.
    ends_with_status: bool,
    messages: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Incoming<M> {
    /// A server's messages.
    pub(crate) fn answer(response: ResponseFuture, link: Link) -> Self {
        Self {
            body: Body::Head(response),
            deframer: Deframer::default(),
            numbers: bounded::MAX_NUMBERS,
            check: |_| Ok(()),
            link,
            ends_with_status: true,
            messages: PhantomData,
        }
    }

    /// A caller's messages.
    pub(crate) fn request(body: RecvStream, check: Check<M>) -> Self {
        Self {
            body: Body::Open(body),
            deframer: Deframer::with_limit(crate::MAX_REQUEST_BYTES),
            numbers: crate::MAX_REQUEST_NUMBERS,
            check,
            link: Link::default(),
            ends_with_status: false,
            messages: PhantomData,
        }
    }

    /// The next message; `None` when the other side has ended the stream well. It waits for as long as the connection
    /// lives.
    ///
    /// # Errors
    /// The stream ended otherwise. Asked again, it says the same.
    pub async fn receive(&mut self) -> Result<Option<M>, Error> {
        loop {
            match self.next_whole() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(error) => self.body = Body::Ended(Err(error)),
            }
            let step = match &mut self.body {
                Body::Ended(outcome) => return outcome.clone().map(|()| None),
                Body::Head(response) => match response.await {
                    Ok(response) => opened(response),
                    Err(error) => Body::Ended(Err(self.link.explain(error).await)),
                },
                Body::Open(body) => match body.data().await {
                    Some(Ok(bytes)) => {
                        // What is released was just received.
                        let _ = body.flow_control().release_capacity(bytes.len());
                        self.deframer.push(&bytes);
                        continue;
                    }
                    Some(Err(error)) => Body::Ended(Err(self.link.explain(error).await)),
                    None => match body.trailers().await {
                        Ok(trailers) => self.ended(trailers),
                        Err(error) => Body::Ended(Err(self.link.explain(error).await)),
                    },
                },
            };
            self.body = step;
        }
    }

    /// Why nothing can be sent on this stream: who refuses a call early closes it, and says why in the answer.
    async fn why(&mut self, error: Error) -> Error {
        if !matches!(error, Error::Closed) {
            return error;
        }
        loop {
            match self.receive().await {
                Ok(Some(_)) => {}
                Ok(None) => return error,
                Err(said) => return said,
            }
        }
    }

    fn next_whole(&mut self) -> Result<Option<M>, Error> {
        if matches!(self.body, Body::Ended(Err(_))) {
            return Ok(None);
        }
        let read = self.deframer.next_message();
        let Some(bytes) = read.map_err(|error| Error::protocol(error.to_string()))? else {
            return Ok(None);
        };
        let message = bounded::decode::<M>(bytes, self.numbers);
        let message = message.map_err(|refused| Error::protocol(format!("a message that {refused}")))?;
        (self.check)(&message).map_err(Error::protocol)?;
        Ok(Some(message))
    }

    fn ended(&self, trailers: Option<HeaderMap>) -> Body {
        let status = trailers.as_ref().and_then(Status::read);
        Body::Ended(match status {
            Some(status) if status.code != Code::Ok => Err(Error::Status(status)),
            Some(_) => Ok(()),
            None if self.ends_with_status => Err(Error::Closed),
            None if self.deframer.is_within_message() => Err(Error::protocol("a message without its end")),
            None => Ok(()),
        })
    }
}

/// What a server's head says.
fn opened(response: http::Response<RecvStream>) -> Body {
    let head = response.headers();
    if response.status() != StatusCode::OK {
        let text = format!("answered with HTTP status {}", response.status().as_u16());
        return Body::Ended(Err(Error::protocol(text)));
    }
    // A refusal without messages stands in the head.
    match Status::read(head) {
        Some(status) if status.code != Code::Ok => Body::Ended(Err(Error::Status(status))),
        Some(_) => Body::Ended(Ok(())),
        None if is_grpc(head) => Body::Open(response.into_body()),
        None => Body::Ended(Err(Error::protocol("answered with something other than gRPC"))),
    }
}

/// Whether a head announces messages of gRPC.
pub(crate) fn is_grpc(head: &HeaderMap) -> bool {
    let kind = head.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(crate::CONTENT_TYPE.as_bytes()))
}

impl<M> fmt::Debug for Outgoing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outgoing")
    }
}

impl<M> fmt::Debug for Incoming<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming")
    }
}
