//! What is known of one stream?

use std::collections::VecDeque;
use std::task::Waker;

use crate::code::Code;
use crate::head::Head;

/// Why a stream goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer took it back, with this code.
    Reset(Code),
    /// The peer never looked at it and says so (GOAWAY, or a reset with REFUSED_STREAM): it may be sent again.
    Refused,
    /// The peer broke the rules on it; one of our tokens.
    Protocol(&'static str),
    /// The connection is gone.
    Gone,
}

/// Heads that may wait before a response.
const MOST_HEADS: usize = 20;

/// How far one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Open,
    Ended,
    Failed(Failure),
}

/// A stream. It is kept while the protocol or a user needs it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) send: Side,
    pub(crate) receive: Side,
    /// The first head that came and was not taken, and those behind it: what most streams need is no list.
    head: Option<Box<Head>>,
    more_heads: VecDeque<Box<Head>>,
    /// Bytes of heads that wait.
    head_bytes: usize,
    /// The final head came; what follows is a body.
    pub(crate) in_body: bool,
    pub(crate) trailers: Option<Box<Head>>,
    /// Payload that came and was not taken.
    pub(crate) payload: Vec<u8>,
    /// Payload that is still announced by `content-length`.
    pub(crate) announced: Option<u64>,
    /// The response to HEAD: a length is announced of a body that does not come.
    pub(crate) bodiless: bool,
    /// What the peer may send.
    pub(crate) receive_window: i64,
    /// What was taken and is not yet given back to the peer's window.
    pub(crate) credit: u32,
    /// What may be sent.
    pub(crate) send_window: i64,
    /// Where in all that was ever written its last frame begins.
    pub(crate) last_frame: Option<u64>,
    pub(crate) receive_waker: Option<Waker>,
    pub(crate) send_waker: Option<Waker>,
    /// It waits for room, and is listed there.
    pub(crate) blocked: bool,
    /// The peer took it back.
    pub(crate) peer_reset: bool,
    /// Its user is gone.
    pub(crate) released: bool,
    /// It counts among those that are open.
    pub(crate) counted: bool,
}

impl Stream {
    pub(crate) fn new(id: u32, receive_window: i64, send_window: i64) -> Self {
        Self {
            id,
            send: Side::Open,
            receive: Side::Open,
            head: None,
            more_heads: VecDeque::new(),
            head_bytes: 0,
            in_body: false,
            trailers: None,
            payload: Vec::new(),
            announced: None,
            bodiless: false,
            receive_window,
            credit: 0,
            send_window,
            last_frame: None,
            receive_waker: None,
            send_waker: None,
            blocked: false,
            peer_reset: false,
            released: false,
            counted: true,
        }
    }

    /// Puts a head behind those that wait.
    pub(crate) fn push_head(&mut self, head: Box<Head>) {
        self.head_bytes += head.size;
        match &self.head {
            None => self.head = Some(head),
            Some(_) => self.more_heads.push_back(head),
        }
    }

    /// Takes the first head that waits.
    pub(crate) fn pop_head(&mut self) -> Option<Box<Head>> {
        let head = self.head.take()?;
        self.head = self.more_heads.pop_front();
        self.head_bytes = self.head_bytes.saturating_sub(head.size);
        Some(head)
    }

    /// Whether one more head may wait, of `most` bytes altogether: more is an attack (attacks.md 21).
    pub(crate) fn takes_head(&self, head: &Head, most: usize) -> bool {
        self.more_heads.len() < MOST_HEADS && self.head_bytes + head.size <= most
    }

    /// Whether both directions are over.
    pub(crate) fn is_closed(&self) -> bool {
        self.send != Side::Open && self.receive != Side::Open
    }

    /// Nothing goes on. What came before is still there to be taken.
    pub(crate) fn fail(&mut self, failure: Failure) {
        for side in [&mut self.send, &mut self.receive] {
            if *side == Side::Open {
                *side = Side::Failed(failure);
            }
        }
        self.wake();
    }

    /// Wakes whoever waits for it.
    pub(crate) fn wake(&mut self) {
        self.wake_receiver();
        self.wake_sender();
    }

    pub(crate) fn wake_receiver(&mut self) {
        if let Some(waker) = self.receive_waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_sender(&mut self) {
        if let Some(waker) = self.send_waker.take() {
            waker.wake();
        }
    }
}

/// Notes whom to wake, without a clone where it is the same.
pub(crate) fn note(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(noted) if noted.will_wake(waker) => {}
        place => *place = Some(waker.clone()),
    }
}
