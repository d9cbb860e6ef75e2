//! The seam: what the data plane asks of a network.
//!
//! Exchange, pool, tunnel and drain are written over [`Net`] and [`Stream`] and are monomorphised. Sockets appear in
//! [`socket`] only, so the same state machines run over a network that a test makes up.

pub mod acceptor;
pub mod socket;
pub mod splice;
pub mod wire;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use mesh_identity::Rejection;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::tls::Names;
use crate::upstream::ConnectError;
use crate::upstream::target::Target;

/// A byte stream that can wait for bytes without holding a buffer for them.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Ready when a read may give bytes, the end or an error; that it does is known by reading only, since a runtime
    /// takes a stream for ready until a read has shown otherwise.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes the coming drop a reset (RST) instead of an orderly end.
    fn reset_on_drop(&mut self);

    /// Waits until the connection has failed: a reset, or no answer to keep-alive probes. For who neither reads nor waits
    /// to write, and would not hear of it; an end is no failure.
    fn failed(&self) -> impl Future<Output = ()>;

    /// The protocol agreed by ALPN, if TLS was spoken.
    fn alpn(&self) -> Option<&[u8]>;

    /// The socket itself, where it is one of TCP without TLS: bytes may then pass from kernel to kernel.
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    /// Where the connection was made to, where the kernel redirected it here.
    fn original_destination(&self) -> Option<SocketAddr> {
        None
    }

    /// The certificate that the other side has proved to be its own.
    fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        None
    }

    /// Why the other side did not believe this one. In TLS 1.3 a server says so when its client takes the handshake for
    /// done; asked of connections that have failed.
    fn refused(&mut self) -> Option<Rejection> {
        None
    }

    /// What else a client's TLS says.
    fn tls_facts(&self) -> Option<TlsFacts> {
        None
    }
}

/// What is known of a client by its TLS.
#[derive(Debug, Default)]
pub struct TlsFacts {
    /// The version, such as `1.3`; none where TLS is passed through.
    pub version: Option<&'static str>,
    /// The server name that it asked for.
    pub server_name: Option<Box<str>>,
    /// The name in its certificate: the first URI, else the first DNS name.
    pub peer: Option<Box<str>>,
    /// The names of the certificate that it was shown, where it could have been another.
    pub shown: Option<Arc<Names>>,
}

/// What connections are made with.
pub trait Net: Clock {
    /// The streams of this network.
    type Stream: Stream;

    /// Connects to a server, TLS included where the target asks for it. The caller keeps the deadline.
    fn connect(&self, target: &Target) -> impl Future<Output = Result<Self::Stream, ConnectError>>;

    /// Whether a connection that came from here, and that the kernel redirected on its way there, was made by this proxy.
    fn has_made(&self, _from: SocketAddr, _to: SocketAddr) -> bool {
        false
    }

    /// Has a task of its own do something. It is dropped with its thread.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Terminates TLS on a stream of which `prefix` was read already. The caller keeps the deadline.
    fn accept_tls(
        &self,
        stream: Self::Stream,
        prefix: Vec<u8>,
        config: Arc<rustls::ServerConfig>,
    ) -> impl Future<Output = io::Result<Self::Stream>>;
}
