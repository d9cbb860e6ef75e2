//! A stream with the bytes that were read too early and those that wait to be written.
//!
//! A wire holds a read buffer only while it has unread bytes or a read is being tried, and a write buffer only while
//! there is something in it. Both come from the thread's pool and go back to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::Stream;
use crate::buffer::{Buffers, LARGE, SMALL};

/// Payload up to this size is copied behind what waits to be written, so that both leave in one write; above it the
/// copy costs more than the second slice of a vectored write.
const COPY_BELOW: usize = 4 * 1024;

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// This many bytes more.
    Bytes(usize),
    /// The peer sends nothing more.
    End,
    /// The buffer is full with unread bytes.
    Full,
}

/// How big a read may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSize {
    /// A head or a small body.
    Small,
    /// Grows to [`LARGE`] when reads fill the buffer.
    Adaptive,
}

/// A wire's buffers, given back when it goes.
struct Held {
    buffers: Rc<Buffers>,
    read: Vec<u8>,
    write: Vec<u8>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.read.is_empty() {
            self.buffers.put(std::mem::take(&mut self.read));
        }
        if self.write.capacity() > 0 {
            self.buffers.put_write(std::mem::take(&mut self.write));
        }
    }
}

/// A stream and its buffers.
pub struct Wire<S> {
    /// The stream.
    pub io: S,
    held: Held,
    start: usize,
    end: usize,
    written: usize,
    /// The last read filled its buffer: bulk is coming.
    filled_up: bool,
    /// Bytes read so far.
    pub bytes_read: u64,
    /// Bytes written so far.
    pub bytes_written: u64,
}

impl<S: Stream> Wire<S> {
    /// A wire without buffers.
    pub fn new(io: S, buffers: Rc<Buffers>) -> Self {
        Self {
            io,
            held: Held {
                buffers,
                read: Vec::new(),
                write: Vec::new(),
            },
            start: 0,
            end: 0,
            written: 0,
            filled_up: false,
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// The stream, without its buffers.
    pub fn into_io(self) -> S {
        self.io
    }

    /// Bytes that were read and not consumed.
    pub fn unread(&self) -> &[u8] {
        self.held.read.get(self.start..self.end).unwrap_or_default()
    }

    /// Marks bytes as used up.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the read buffer away with the unread bytes in it, at the front (see [`Wire::unread`]).
    pub fn take_unread(&mut self) -> Vec<u8> {
        let bytes = self.unread().to_vec();
        self.consume(bytes.len());
        self.release();
        bytes
    }

    /// Gives the read buffer with `start..end` in it to the caller, who returns it with [`Buffers::put`].
    /// Used to keep a request's head while its body passes.
    pub fn detach(&mut self, head: usize) -> (Vec<u8>, usize) {
        let start = self.start;
        let rest_start = (start + head).min(self.end);
        let rest = self.end - rest_start;
        let fresh = if rest == 0 {
            Vec::new()
        } else {
            let mut fresh = self.held.buffers.small();
            if fresh.len() < rest {
                fresh.resize(rest, 0);
            }
            if let (Some(to), Some(from)) = (fresh.get_mut(..rest), self.held.read.get(rest_start..self.end))
            {
                to.copy_from_slice(from);
            }
            fresh
        };
        (self.start, self.end) = (0, rest);
        (std::mem::replace(&mut self.held.read, fresh), start)
    }

    /// Gives back the read buffer when nothing is in it.
    pub fn release(&mut self) {
        if self.start == self.end && !self.held.read.is_empty() {
            self.held.buffers.put(std::mem::take(&mut self.held.read));
            (self.start, self.end) = (0, 0);
        }
    }

    /// Says that nothing more will be written.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Whether the last read filled its buffer, and nothing of it is left.
    pub fn is_bulk(&self) -> bool {
        self.filled_up && self.start == self.end
    }

    /// Notes bytes that were read past this.
    pub fn passed_by(&mut self, n: usize, bulk: bool) {
        self.filled_up = bulk;
        self.bytes_read += n as u64;
    }

    /// Waits for bytes without a buffer. Ready at once when there are unread ones.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.start < self.end {
            return Poll::Ready(Ok(()));
        }
        self.release();
        self.io.poll_readable(cx)
    }

    /// Reads once behind the unread bytes. The read is larger than what usually comes, so that a short read tells the
    /// runtime that there is no more, and no read ends in EAGAIN.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, size: ReadSize) -> Poll<io::Result<Filled>> {
        self.make_room(size);
        let Some(space) = self
            .held
            .read
            .get_mut(self.end..)
            .filter(|space| !space.is_empty())
        else {
            return Poll::Ready(Ok(Filled::Full));
        };
        let mut buf = ReadBuf::new(space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {
                let n = buf.filled().len();
                self.filled_up = buf.remaining() == 0;
                self.end += n;
                self.bytes_read += n as u64;
                if n == 0 {
                    self.release();
                    return Poll::Ready(Ok(Filled::End));
                }
                Poll::Ready(Ok(Filled::Bytes(n)))
            }
            Poll::Ready(Err(error)) => {
                self.release();
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                self.release();
                Poll::Pending
            }
        }
    }

    fn make_room(&mut self, size: ReadSize) {
        let unread = self.end - self.start;
        if self.held.read.is_empty() {
            self.held.read = if size == ReadSize::Adaptive && self.filled_up {
                self.held.buffers.large()
            } else {
                self.held.buffers.small()
            };
            (self.start, self.end) = (0, 0);
        } else if unread == 0 && size == ReadSize::Adaptive && self.filled_up && self.held.read.len() < LARGE
        {
            self.held
                .buffers
                .put(std::mem::replace(&mut self.held.read, self.held.buffers.large()));
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.end == self.held.read.len() {
            self.held.read.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, unread);
        }
    }

    /// Lets the read buffer grow to hold a head of up to `limit` bytes. False when it already does.
    pub fn grow(&mut self, limit: usize) -> bool {
        let unread = self.end - self.start;
        if self.held.read.len() >= limit.max(SMALL) {
            return false;
        }
        let length = (self.held.read.len() * 2).clamp(SMALL, limit.max(SMALL) + 1);
        let mut grown = vec![0; length];
        if let Some(space) = grown.get_mut(..unread) {
            space.copy_from_slice(self.unread());
        }
        self.held
            .buffers
            .put(std::mem::replace(&mut self.held.read, grown));
        (self.start, self.end) = (0, unread);
        true
    }

    /// The bytes that wait to be written, to append to.
    pub fn out(&mut self) -> &mut Vec<u8> {
        if self.held.write.capacity() == 0 {
            self.held.write = self.held.buffers.write();
        }
        &mut self.held.write
    }

    /// How many bytes wait to be written.
    pub fn pending(&self) -> usize {
        self.held.write.len() - self.written
    }

    /// Writes all that waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending() > 0 {
            let rest = self.held.write.get(self.written..).unwrap_or_default();
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
            self.bytes_written += n as u64;
        }
        self.release_write();
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn release_write(&mut self) {
        if self.held.write.capacity() > 0 {
            self.held.buffers.put_write(std::mem::take(&mut self.held.write));
        }
        self.written = 0;
    }

    /// Takes payload: small pieces are put behind what waits (and leave with the next flush), large ones are written at
    /// once, together with what waits. Gives how many bytes of `payload` were taken.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<usize>> {
        if payload.len() <= COPY_BELOW || self.pending() + payload.len() <= COPY_BELOW * 4 {
            if self.pending() > SMALL {
                ready!(self.poll_flush(cx))?;
            }
            self.out().extend_from_slice(payload);
            return Poll::Ready(Ok(payload.len()));
        }
        if self.pending() == 0 {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, payload))?;
            self.bytes_written += n as u64;
            return Poll::Ready(if n == 0 {
                Err(io::ErrorKind::WriteZero.into())
            } else {
                Ok(n)
            });
        }
        let rest = self.held.write.get(self.written..).unwrap_or_default();
        let slices = [IoSlice::new(rest), IoSlice::new(payload)];
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.bytes_written += n as u64;
        let of_pending = n.min(rest.len());
        self.written += of_pending;
        if self.pending() == 0 {
            self.release_write();
        }
        Poll::Ready(Ok(n - of_pending))
    }
}
