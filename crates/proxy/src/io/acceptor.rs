//! How does a connection come in?

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::socket::{Socket, keep_alive, tune};
use crate::bind::Listening;

/// A listening socket of this thread's runtime.
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl Acceptor {
    /// Gives a socket to the runtime that is running.
    ///
    /// # Errors
    /// The runtime has no room for it.
    pub fn new(socket: Listening) -> io::Result<Self> {
        Ok(match socket {
            Listening::Tcp(tcp) => Self::Tcp(TcpListener::from_std(tcp)?),
            Listening::Unix(unix) => Self::Unix(UnixListener::from_std(unix)?),
        })
    }

    /// Whoever waits in the queue. The kernel is asked, not the runtime, which may not have heard of the last ones.
    pub fn into_queued(self) -> impl Iterator<Item = (Socket, Option<SocketAddr>)> {
        let tcp = match self {
            Self::Tcp(listener) => listener.into_std().ok(),
            // Its socket may be shared with threads that go on to accept.
            Self::Unix(_) => None,
        };
        std::iter::from_fn(move || {
            let (stream, peer) = tcp.as_ref()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((tuned(TcpStream::from_std(stream).ok()?), Some(peer)))
        })
    }

    /// The next connection and the client's address, which a Unix socket has none of.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(tcp, peer)| (tuned(tcp), Some(peer))),
            Self::Unix(listener) => listener
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
