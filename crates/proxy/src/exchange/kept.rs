//! How can a request be sent again whose body has begun to leave?
//!
//! An HTTP/2 server may say of a request that it never looked at it, when a small body is long gone with the head; and any
//! server may close a connection just when it is used again. So the beginning of a body is kept until its server answers,
//! where the one or the other would send the request again. The next try sends that first, and what follows from where it
//! comes from.
//!
//! Invariants: of what was taken from the client all is kept, or the request is not sent again; at most [`MOST`] bytes are
//! kept, and none of what is never sent again.

use std::task::{Context, Poll};

use mesh_http2::Pool;

use super::message::{Fault, Length, Payload, Source, Trailers};

/// The longest body that is kept: more than most calls and forms have, and small beside what else a request holds.
pub(super) const MOST: usize = 4 * 1024;

/// What is kept of a request's body.
pub(super) struct Kept<'a> {
    pool: &'a Pool,
    bytes: Vec<u8>,
    /// How much of it went out again.
    sent: usize,
    /// It goes out again.
    again: bool,
    /// Something was taken that is not kept, or nothing needs to be any more.
    lost: bool,
    /// A server may have looked at a try of the request.
    seen: bool,
    /// How long the body is, as its head said.
    length: Length,
}

impl<'a> Kept<'a> {
    /// Nothing was taken yet. Memory comes from `pool`.
    pub(super) fn new(pool: &'a Pool) -> Self {
        Self {
            pool,
            bytes: Vec::new(),
            sent: 0,
            again: false,
            lost: false,
            seen: false,
            length: Length::None,
        }
    }

    /// A try begins: what is kept goes out first. Gives how long the body is.
    pub(super) fn begin<D: Source>(&mut self, down: &D) -> Length {
        if self.bytes.is_empty() {
            self.length = down.length();
        }
        self.sent = 0;
        self.again = !self.bytes.is_empty();
        self.length
    }

    /// Whether the body can be sent again from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        !self.lost
    }

    /// A try has ended of which nobody knows whether a server has looked at it.
    pub(super) fn note_seen(&mut self) {
        self.seen = true;
    }

    /// Whether a server may have looked at the tries so far that were not said to be refused.
    pub(super) fn is_seen(&self) -> bool {
        self.seen
    }

    /// The request will not be sent again.
    pub(super) fn forget(&mut self) {
        self.lost = true;
        if !self.again && self.bytes.capacity() > 0 {
            self.pool.give_payload(std::mem::take(&mut self.bytes));
        }
    }

    /// The body as it goes out, kept by the way where `keeps`.
    pub(super) fn with<'k, D: Source>(&'k mut self, down: &'k mut D, keeps: bool) -> Keeping<'k, 'a, D> {
        Keeping {
            kept: self,
            down,
            keeps,
        }
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8], keeps: bool) {
        if self.lost || bytes.is_empty() {
            return;
        }
        if !keeps || self.bytes.len() + bytes.len() > MOST {
            return self.forget();
        }
        if self.bytes.capacity() == 0 {
            self.bytes = self.pool.payload();
        }
        self.bytes.extend_from_slice(bytes);
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.again = false;
        self.forget();
    }
}

/// A request's body on its way to a server.
pub(super) struct Keeping<'k, 'a, D> {
    kept: &'k mut Kept<'a>,
    down: &'k mut D,
    keeps: bool,
}

impl<D: Source> Source for Keeping<'_, '_, D> {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        if self.kept.again {
            if !self.kept.left().is_empty() {
                return Poll::Ready(Ok(Payload::Data));
            }
            self.kept.again = false;
            if self.kept.lost {
                self.kept.forget();
            }
        }
        self.down.poll_payload(cx)
    }

    fn payload(&self) -> &[u8] {
        match self.kept.again {
            true => self.kept.left(),
            false => self.down.payload(),
        }
    }

    fn advance(&mut self, n: usize) {
        if self.kept.again {
            self.kept.sent += n;
            return;
        }
        let payload = self.down.payload();
        self.kept.push(payload.get(..n).unwrap_or(payload), self.keeps);
        self.down.advance(n);
    }

    fn take_trailers(&mut self) -> Trailers {
        let trailers = self.down.take_trailers();
        // They are there but once behind a body.
        if !trailers.is_empty() && !self.kept.bytes.is_empty() {
            self.kept.forget();
        }
        trailers
    }

    fn length(&self) -> Length {
        self.kept.length
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::buffer::Buffers;
    use crate::http2::socket::WriteBuffers;

    /// A body that comes in pieces.
    struct Body {
        pieces: Vec<&'static [u8]>,
        trailers: &'static [u8],
    }

    impl Source for Body {
        fn poll_payload(&mut self, _: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
            self.pieces.retain(|piece| !piece.is_empty());
            Poll::Ready(Ok(match self.pieces.is_empty() {
                true => Payload::End,
                false => Payload::Data,
            }))
        }

        fn payload(&self) -> &[u8] {
            self.pieces.first().copied().unwrap_or_default()
        }

        fn advance(&mut self, n: usize) {
            if let Some(piece) = self.pieces.first_mut() {
                *piece = &piece[n..];
            }
        }

        fn take_trailers(&mut self) -> Trailers {
            Trailers::Lines(std::mem::take(&mut self.trailers).into())
        }

        /// As of an HTTP/2 stream: whether more is to come.
        fn length(&self) -> Length {
            match self.pieces.is_empty() {
                true => Length::None,
                false => Length::Unknown,
            }
        }
    }

    /// Takes up to `most` bytes, `step` at once; gives them, and whether the end came.
    fn take(kept: &mut Kept<'_>, down: &mut Body, keeps: bool, most: usize, step: usize) -> (Vec<u8>, bool) {
        let mut body = kept.with(down, keeps);
        let mut taken = Vec::new();
        while taken.len() < most {
            match body.poll_payload(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(Payload::Data)) => {
                    let n = body.payload().len().min(step).min(most - taken.len());
                    taken.extend_from_slice(&body.payload()[..n]);
                    body.advance(n);
                }
                Poll::Ready(Ok(Payload::End)) => {
                    body.take_trailers();
                    return (taken, true);
                }
                other => panic!("{other:?}"),
            }
        }
        (taken, false)
    }

    #[test]
    fn a_body_goes_out_again_from_its_beginning() {
        let pool = Pool::new(WriteBuffers(Buffers::new()));
        for first in 0..=9 {
            for second in 0..=9 {
                for step in [1, 2, 9] {
                    let mut down = Body {
                        pieces: vec![b"abcde", b"fghi"],
                        trailers: b"",
                    };
                    let mut kept = Kept::new(&pool);
                    for most in [first, second] {
                        assert_eq!(kept.begin(&down), Length::Unknown);
                        assert_eq!(
                            take(&mut kept, &mut down, true, most, step).0,
                            b"abcdefghi"[..most]
                        );
                        assert!(kept.is_whole());
                    }
                    assert_eq!(kept.begin(&down), Length::Unknown);
                    let whole = take(&mut kept, &mut down, true, 99, step);
                    assert_eq!(whole, (b"abcdefghi".to_vec(), true));
                    assert!(kept.is_whole());
                }
            }
        }
    }

    #[test]
    fn what_is_not_kept_whole_is_not_sent_again() {
        let pool = Pool::new(WriteBuffers(Buffers::new()));
        let most: &[u8] = &[b'x'; MOST];
        for (pieces, trailers, keeps, whole) in [
            (vec![most], &b""[..], true, true),
            (vec![most, b"x"], b"", true, false),
            (vec![b"x", most], b"", true, false),
            (vec![most], b"", false, false),
            (vec![], b"", false, true),
            (vec![most], b"a: b\n", true, false),
            (vec![], b"a: b\n", true, true),
        ] {
            let mut down = Body { pieces, trailers };
            let mut kept = Kept::new(&pool);
            kept.begin(&down);
            assert!(take(&mut kept, &mut down, keeps, usize::MAX, 1000).1);
            assert_eq!(kept.is_whole(), whole);
            assert!(whole || kept.bytes.capacity() == 0);
        }
    }

    #[test]
    fn an_answer_amid_what_goes_out_again_cuts_nothing() {
        let pool = Pool::new(WriteBuffers(Buffers::new()));
        let mut down = Body {
            pieces: vec![b"abcd"],
            trailers: b"",
        };
        let mut kept = Kept::new(&pool);
        kept.begin(&down);
        take(&mut kept, &mut down, true, 3, 9);
        kept.begin(&down);
        assert_eq!(take(&mut kept, &mut down, true, 1, 9).0, b"a");
        kept.forget();
        assert_eq!(take(&mut kept, &mut down, true, 99, 9), (b"bcd".to_vec(), true));
        assert!(!kept.is_whole() && kept.bytes.capacity() == 0);
    }
}
