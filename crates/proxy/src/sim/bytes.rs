//! The scripts' side of a stream: plain reads and writes, and bytes that are known by a number.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::network::SimStream;
use crate::balance::Rng;

/// The bytes that belong to a number.
pub(super) fn content(number: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::from_seed(number);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A stream with what was read of it and not used.
pub(super) struct Talk {
    pub(super) stream: SimStream,
    pub(super) unread: Vec<u8>,
}

impl Talk {
    pub(super) fn new(stream: SimStream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Reads once; 0 at the end.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        let mut space = vec![0; 64 * 1024];
        let mut buf = ReadBuf::new(&mut space);
        poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buf)).await?;
        let n = buf.filled().len();
        self.unread.extend_from_slice(buf.filled());
        Ok(n)
    }

    /// Reads at least once, and until `length` bytes are there.
    pub(super) async fn need(&mut self, length: usize) -> io::Result<()> {
        while self.unread.len() < length {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Takes this many bytes.
    pub(super) async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        self.need(length).await?;
        Ok(self.unread.drain(..length).collect())
    }

    /// Takes everything up to and with `mark`.
    pub(super) async fn take_until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|bytes| bytes == mark) {
                return Ok(self.unread.drain(..at + mark.len()).collect());
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes everything up to the end.
    pub(super) async fn take_all(&mut self) -> io::Result<Vec<u8>> {
        while self.fill().await? > 0 {}
        Ok(std::mem::take(&mut self.unread))
    }

    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = poll_fn(|cx| Pin::new(&mut self.stream).poll_write(cx, bytes)).await?;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Says that nothing more is sent.
    pub(super) async fn end(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
    }

    /// Breaks the connection off.
    pub(super) fn reset(self) {
        self.stream.break_off();
    }
}
