//! How does a byte stream run over one stream of HTTP/2?
//!
//! After CONNECT, plain (RFC 9113 section 8.5) or extended (RFC 8441), payload of DATA frames is all that passes. A
//! [`Tunnel`] makes it a [`Stream`], so that the proxy's tunnel copies it as it copies sockets. `END_STREAM` is the end
//! of one direction, RST_STREAM a reset.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mesh_http2::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::channel::Channel;
use crate::exchange::message::{Fault, Payload, Trailers};
use crate::io::Stream;

/// A byte stream over a stream of HTTP/2.
pub struct Tunnel {
    channel: Channel,
    reset: bool,
}

impl Tunnel {
    /// A tunnel whose head has passed.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            reset: false,
        }
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Io(kind) => kind.into(),
        _ => io::ErrorKind::ConnectionReset.into(),
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match ready!(this.channel.poll_payload(cx)).map_err(error)? {
            Payload::End => {}
            Payload::Data => {
                let payload = this.channel.payload();
                let n = payload.len().min(buf.remaining());
                buf.put_slice(payload.get(..n).unwrap_or_default());
                this.channel.advance(n);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.channel.poll_write(cx, buf).map_err(error)
    }

    /// What was taken leaves with the connection's next write.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().channel.finish(Trailers::None).map_err(error))
    }
}

impl Stream for Tunnel {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.channel.poll_payload(cx).map(|_| Ok(()))
    }

    async fn failed(&self) {
        poll_fn(|cx| self.channel.poll_failed(cx).map(drop)).await;
    }

    fn reset_on_drop(&mut self) {
        self.reset = true;
    }

    fn alpn(&self) -> Option<&[u8]> {
        None
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if self.reset {
            // RFC 9113 section 8.5: what a reset of the TCP connection becomes.
            self.channel.reset(Code::CONNECT_ERROR);
        }
    }
}
