//! Why did the connection under a stream end?
//!
//! h2 tells streams that their connection failed, in words alone: whose certificate was refused, and why, is lost on the
//! way. So the first error of TLS is kept here as it was, and streams ask for it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::Error;

/// How long a stream waits to hear why its connection ended. It knows at once; this is for threads that are late.
const HEARSAY: Duration = Duration::from_secs(1);

/// What streams know of their connection. At the server's side nothing: there it is enough that the caller is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link(Option<watch::Receiver<Option<Error>>>);

impl Link {
    /// With the end that says how the connection ended.
    pub(crate) fn new() -> (watch::Sender<Option<Error>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(Some(receiver)))
    }

    /// When the connection has ended: why.
    pub(crate) async fn ended(&self) -> Error {
        let Some(mut receiver) = self.0.clone() else {
            return std::future::pending().await;
        };
        match receiver.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(Error::Closed),
            Err(_) => Error::Closed,
        }
    }

    /// What an error of a stream means.
    pub(crate) async fn explain(&self, error: h2::Error) -> Error {
        if error.is_io() && self.0.is_some() {
            return timeout(HEARSAY, self.ended()).await.unwrap_or(Error::Closed);
        }
        explained(&error)
    }
}

/// What an error of HTTP/2 means by itself.
pub(crate) fn explained(error: &h2::Error) -> Error {
    use h2::Reason;
    match error.reason() {
        // The stream was given up, or the connection left as it should.
        None | Some(Reason::NO_ERROR | Reason::CANCEL | Reason::REFUSED_STREAM) => Error::Closed,
        Some(reason) => Error::protocol(format!("HTTP/2: {}", reason.description())),
    }
}

/// A byte stream that keeps its first error of TLS.
pub(crate) struct Witness<T> {
    inner: T,
    seen: Arc<OnceLock<rustls::Error>>,
}

impl<T> Witness<T> {
    pub(crate) fn new(inner: T) -> (Self, Arc<OnceLock<rustls::Error>>) {
        let seen = Arc::<OnceLock<_>>::default();
        let witness = Self {
            inner,
            seen: Arc::clone(&seen),
        };
        (witness, seen)
    }

    fn look<R>(&self, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if let Poll::Ready(Err(error)) = &polled
            && let Some(error) = tls_error(error)
        {
            // The first one tells, the others follow from it.
            let _ = self.seen.set(error);
        }
        polled
    }
}

/// What rustls said, in what tokio-rustls makes of it.
pub(crate) fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

impl<T: AsyncRead + Unpin> AsyncRead for Witness<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.look(polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Witness<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.look(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.look(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
