//! How does a connection come in?

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::socket::{Socket, keep_alive, tune};
use crate::bind::{Listening, SocketFile};

/// A listening socket of this thread's runtime.
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// Unix, with the file that it is reached by.
    Unix(UnixListener, Arc<SocketFile>),
}

impl Acceptor {
    /// Gives a socket to the runtime that is running.
    ///
    /// # Errors
    /// The runtime has no room for it.
    pub fn new(socket: Listening) -> io::Result<Self> {
        Ok(match socket {
            Listening::Tcp(tcp) => Self::Tcp(TcpListener::from_std(tcp)?),
            Listening::Unix(unix, file) => Self::Unix(UnixListener::from_std(unix)?, file),
        })
    }

    /// Whoever waits in the queue. The kernel is asked, not the runtime, which may not have heard of the last ones.
    pub fn into_queued(self) -> impl Iterator<Item = (Socket, Option<SocketAddr>)> {
        let (tcp, unix) = match self {
            Self::Tcp(listener) => (listener.into_std().ok(), None),
            // The last thread that lets go takes them: until then others go on to accept. The file goes first.
            Self::Unix(listener, file) => (None, Arc::into_inner(file).and(listener.into_std().ok())),
        };
        let from_tcp = std::iter::from_fn(move || {
            let (stream, peer) = tcp.as_ref()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((tuned(TcpStream::from_std(stream).ok()?), Some(peer)))
        });
        let from_unix = std::iter::from_fn(move || {
            let (stream, _) = unix.as_ref()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((Socket::Unix(UnixStream::from_std(stream).ok()?), None))
        });
        from_tcp.chain(from_unix)
    }

    /// The next connection and the client's address, which a Unix socket has none of.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(tcp, peer)| (tuned(tcp), Some(peer))),
            Self::Unix(listener, _) => listener
                .poll_accept(cx)
                .map_ok(|(unix, _)| (Socket::Unix(unix), None)),
        }
    }
}

fn tuned(tcp: TcpStream) -> Socket {
    // A socket that can't be tuned works all the same.
    let _ = tune(&tcp);
    let _ = keep_alive(&tcp);
    Socket::Tcp(tcp)
}
