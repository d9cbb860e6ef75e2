//! Is the answer to this GET a 200 with exactly the bytes that were asked for?

use std::rc::Rc;
use std::time::Instant;

use super::{FIELDS, content_length};
use crate::run::Run;
use crate::wire::{Machine, Output, length_of};

/// A request, ready to send, and the body length of its answer.
pub(crate) struct Target {
    head: Vec<u8>,
    length: u64,
}

impl Target {
    pub(crate) fn get(path: &str, host: &str) -> Self {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: mesh-load\r\naccept: */*\r\n\r\n");
        Self {
            head: head.into_bytes(),
            length: length_of(path),
        }
    }
}

/// What a connection does once a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    KeepAlive,
    OneRequest,
}

enum State {
    Idle,
    Head {
        start: Instant,
        length: u64,
    },
    Body {
        start: Instant,
        length: u64,
        left: u64,
    },
    /// The connection's only request is answered.
    Spent,
}

pub(crate) struct Client {
    targets: Rc<[Target]>,
    next: usize,
    reuse: Reuse,
    state: State,
}

impl Client {
    /// `offset` spreads the connections over the targets.
    pub(crate) fn new(targets: Rc<[Target]>, offset: usize, reuse: Reuse) -> Self {
        Self {
            targets,
            next: offset,
            reuse,
            state: State::Idle,
        }
    }

    pub(crate) fn is_spent(&self) -> bool {
        matches!(self.state, State::Spent)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        matches!(self.state, State::Head { .. } | State::Body { .. }).into()
    }

    pub(crate) fn fill(&mut self, out: &mut Output, run: &mut Run) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        let Some(target) = self.targets.get(self.next % self.targets.len()) else {
            return;
        };
        let Some(start) = run.next() else { return };
        // A stride that no round count divides: neighbours in time are strangers in the table.
        self.next = self.next.wrapping_add(7919);
        out.bytes.extend_from_slice(&target.head);
        self.state = State::Head {
            start,
            length: target.length,
        };
    }

    fn finish(&mut self, start: Instant, length: u64, run: &mut Run) {
        run.done(start, length);
        self.state = match self.reuse {
            Reuse::KeepAlive => State::Idle,
            Reuse::OneRequest => State::Spent,
        };
    }
}

impl Machine for Client {
    type Shared = Run;

    fn feed(&mut self, bytes: &[u8], out: &mut Output, run: &mut Run) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            match self.state {
                State::Idle | State::Spent if rest.is_empty() => return Ok(used),
                State::Idle | State::Spent => return Err("bytes nobody asked for".to_owned()),
                State::Head { start, length } => {
                    let mut headers = [httparse::EMPTY_HEADER; FIELDS];
                    let mut head = httparse::Response::new(&mut headers);
                    let size = match head.parse(rest) {
                        Ok(httparse::Status::Complete(size)) => size,
                        Ok(httparse::Status::Partial) => return Ok(used),
                        Err(error) => return Err(format!("bad response head: {error}")),
                    };
                    if head.code != Some(200) {
                        return Err(format!("status {:?}, expected 200", head.code));
                    }
                    let announced = content_length(head.headers);
                    if announced != Some(length) {
                        return Err(format!("content-length {announced:?}, expected {length}"));
                    }
                    used += size;
                    self.state = State::Body {
                        start,
                        length,
                        left: length,
                    };
                }
                State::Body { start, length, left } => {
                    let take = left.min(rest.len() as u64);
                    used += take as usize;
                    if take < left {
                        self.state = State::Body {
                            start,
                            length,
                            left: left - take,
                        };
                        return Ok(used);
                    }
                    self.finish(start, length, run);
                    self.fill(out, run);
                }
            }
        }
    }

    fn opaque(&self) -> u64 {
        match self.state {
            State::Body { left, .. } => left,
            _ => 0,
        }
    }

    fn skipped(&mut self, count: u64, out: &mut Output, run: &mut Run) -> Result<(), String> {
        let State::Body { start, length, left } = self.state else {
            return Err("skipped bytes outside a body".to_owned());
        };
        if count < left {
            self.state = State::Body {
                start,
                length,
                left: left - count,
            };
        } else {
            self.finish(start, length, run);
            self.fill(out, run);
        }
        Ok(())
    }

    fn closed(&mut self) -> Result<(), String> {
        match self.state {
            State::Spent => Ok(()),
            _ => Err("connection closed by the proxy".to_owned()),
        }
    }
}
