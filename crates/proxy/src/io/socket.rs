//! Real sockets: TCP, Unix, and TLS over TCP.

use std::io::{self, BufRead, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mesh_identity::Rejection;
use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::{Net, Stream, TlsFacts};
use crate::clock::{Clock, Nanos, SystemClock};
use crate::descriptors::{leaves_enough, lower, may_wait};
use crate::dialled::Dialled;
use crate::tls::certificate_name;
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::target::Target;

/// After this much silence the kernel asks whether the peer is still there.
const KEEPALIVE_IDLE: std::time::Duration = std::time::Duration::from_secs(60);

/// Any stream that the proxy accepts or opens. One type, so that the engines are compiled once.
pub enum Socket {
    /// Plain TCP.
    Tcp(TcpStream),
    /// Plain Unix stream.
    Unix(UnixStream),
    /// TLS that this proxy terminates.
    TlsServer(Box<tokio_rustls::server::TlsStream<Prefixed<Plain>>>),
    /// TLS that this proxy originates.
    TlsClient(Box<tokio_rustls::client::TlsStream<Plain>>),
}

impl Socket {
    /// Whether it leaves descriptors to the rest of the process; asked of sockets without TLS, when they are new.
    pub fn leaves_enough(&self) -> bool {
        match self {
            Self::Tcp(tcp) => leaves_enough(tcp),
            Self::Unix(unix) => leaves_enough(unix),
            Self::TlsServer(_) | Self::TlsClient(_) => true,
        }
    }

    /// Whether it may wait until it leaves enough, see [`Socket::lowered`].
    pub fn may_wait(&self) -> bool {
        match self {
            Self::Tcp(tcp) => may_wait(tcp),
            Self::Unix(unix) => may_wait(unix),
            Self::TlsServer(_) | Self::TlsClient(_) => true,
        }
    }

    /// The same by a descriptor that leaves enough to the rest of the process; `None` while there is none.
    ///
    /// # Errors
    /// The runtime has no room for it.
    pub fn lowered(&self) -> Option<io::Result<Self>> {
        match self {
            Self::Tcp(tcp) => Some(TcpStream::from_std(lower(tcp)?.into()).map(Self::Tcp)),
            Self::Unix(unix) => Some(UnixStream::from_std(lower(unix)?.into()).map(Self::Unix)),
            Self::TlsServer(_) | Self::TlsClient(_) => None,
        }
    }
}

/// A stream without TLS.
pub enum Plain {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl From<Plain> for Socket {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Tcp(tcp) => Self::Tcp(tcp),
            Plain::Unix(unix) => Self::Unix(unix),
        }
    }
}

/// The machine's network.
#[derive(Clone, Debug)]
pub struct Sockets {
    /// The clock that all threads share.
    pub clock: SystemClock,
    /// What all threads have connected to.
    pub dialled: Arc<Dialled>,
}

impl Clock for Sockets {
    fn now(&self) -> Nanos {
        self.clock.now()
    }
}

impl Net for Sockets {
    type Stream = Socket;

    async fn connect(&self, target: &Target) -> Result<Socket, ConnectError> {
        connect(target, |tcp| {
            if self.dialled.is_asked()
                && let (Ok(from), Ok(to)) = (tcp.local_addr(), tcp.peer_addr())
            {
                self.dialled.made(from, to, self.now());
            }
        })
        .await
    }

    fn has_made(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.dialled.has_made(from, to, self.now())
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    async fn accept_tls(
        &self,
        stream: Socket,
        prefix: Vec<u8>,
        config: Arc<rustls::ServerConfig>,
    ) -> io::Result<Socket> {
        let plain = match stream {
            Socket::Tcp(tcp) => Plain::Tcp(tcp),
            Socket::Unix(unix) => Plain::Unix(unix),
            Socket::TlsServer(_) | Socket::TlsClient(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        Ok(Socket::TlsServer(Box::new(
            acceptor.accept(Prefixed::new(prefix, plain)).await?,
        )))
    }
}

/// No Nagle delay: a proxy writes whole messages.
pub fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)
}

/// Turns on keep-alive probes: streams may be silent for long.
pub fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    SockRef::from(tcp).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE))
}

macro_rules! each {
    ($self:expr, $io:ident => $body:expr) => {
        match $self {
            Socket::Tcp($io) => $body,
            Socket::Unix($io) => $body,
            Socket::TlsServer($io) => $body,
            Socket::TlsClient($io) => $body,
        }
    };
}

macro_rules! each_plain {
    ($self:expr, $io:ident => $body:expr) => {
        match $self {
            Plain::Tcp($io) => $body,
            Plain::Unix($io) => $body,
        }
    };
}

/// Reads what is there.
impl io::Read for Plain {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.try_read(buf),
            Self::Unix(unix) => unix.try_read(buf),
        }
    }
}

impl Plain {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Unix(unix) => unix.poll_read_ready(cx),
        }
    }

    async fn failed(&self) {
        match self {
            Self::Tcp(tcp) => tcp_failed(tcp).await,
            Self::Unix(unix) => unix_failed(unix).await,
        }
    }

    fn reset_on_drop(&self) {
        if let Self::Tcp(tcp) = self {
            reset_on_drop(tcp);
        }
    }
}

// The runtime says only that it shuts down when it fails to wait, and then nobody is left to be told.

async fn tcp_failed(tcp: &TcpStream) {
    let _ = tcp.ready(Interest::ERROR).await;
}

async fn unix_failed(unix: &UnixStream) {
    let _ = unix.ready(Interest::ERROR).await;
}

fn reset_on_drop(tcp: &TcpStream) {
    // A socket that is already gone needs no reset.
    let _ = SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
}

/// Waits for plaintext: what rustls already holds counts.
fn poll_tls_readable(
    held: Result<usize, io::ErrorKind>,
    plain: &Plain,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    match held {
        Err(io::ErrorKind::WouldBlock) => plain.poll_read_ready(cx),
        _ => Poll::Ready(Ok(())),
    }
}

impl Stream for Socket {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Unix(unix) => unix.poll_read_ready(cx),
            Self::TlsServer(tls) => {
                let (io, session) = tls.get_mut();
                let held = session.reader().fill_buf().map(<[u8]>::len).map_err(|e| e.kind());
                if io.has_prefix() {
                    return Poll::Ready(Ok(()));
                }
                poll_tls_readable(held, &io.io, cx)
            }
            Self::TlsClient(tls) => {
                let (io, session) = tls.get_mut();
                let held = session.reader().fill_buf().map(<[u8]>::len).map_err(|e| e.kind());
                poll_tls_readable(held, io, cx)
            }
        }
    }

    async fn failed(&self) {
        match self {
            Self::Tcp(tcp) => tcp_failed(tcp).await,
            Self::Unix(unix) => unix_failed(unix).await,
            Self::TlsServer(tls) => tls.get_ref().0.io.failed().await,
            Self::TlsClient(tls) => tls.get_ref().0.failed().await,
        }
    }

    fn reset_on_drop(&mut self) {
        match self {
            Self::Tcp(tcp) => reset_on_drop(tcp),
            Self::Unix(_) => {}
            Self::TlsServer(tls) => tls.get_ref().0.io.reset_on_drop(),
            Self::TlsClient(tls) => tls.get_ref().0.reset_on_drop(),
        }
    }

    fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::TlsServer(tls) => tls.get_ref().1.alpn_protocol(),
            Self::TlsClient(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    fn original_destination(&self) -> Option<SocketAddr> {
        let Self::Tcp(tcp) = self else { return None };
        // Without an entry of the kernel's there was no redirection.
        let original = match tcp.local_addr().ok()? {
            SocketAddr::V4(_) => SocketAddr::V4(rustix::net::sockopt::ip_original_dst(tcp).ok()?),
            SocketAddr::V6(local) => match local.ip().to_ipv4_mapped() {
                // A client of IPv4 on a socket of both.
                Some(_) => SocketAddr::V4(rustix::net::sockopt::ip_original_dst(tcp).ok()?),
                None => SocketAddr::V6(rustix::net::sockopt::ipv6_original_dst(tcp).ok()?),
            },
        };
        Some(original)
    }

    fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        let certificates = match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::TlsServer(tls) => tls.get_ref().1.peer_certificates(),
            Self::TlsClient(tls) => tls.get_ref().1.peer_certificates(),
        };
        certificates?.first()
    }

    fn refused(&mut self) -> Option<Rejection> {
        let Self::TlsClient(tls) = self else { return None };
        let (io, session) = tls.get_mut();
        // Its word may still be unread where a write has failed first. What was wrong before is said again.
        let _ = session.read_tls(io);
        let said = Rejection::of(&session.process_new_packets().err()?)?;
        Some(said).filter(|said| *said == Rejection::RefusedByPeer)
    }

    fn tls_facts(&self) -> Option<TlsFacts> {
        let Self::TlsServer(tls) = self else { return None };
        let session = tls.get_ref().1;
        Some(TlsFacts {
            version: session.protocol_version().and_then(|version| match version {
                rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
                rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
                _ => None,
            }),
            server_name: session.server_name().map(Into::into),
            peer: session
                .peer_certificates()
                .and_then(<[_]>::first)
                .and_then(certificate_name),
            shown: None,
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // The kernel holds nothing back.
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::TlsServer(tls) => Pin::new(tls).poll_flush(cx),
            Self::TlsClient(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each_plain!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each_plain!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each_plain!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_plain!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

/// A stream whose first bytes were read before, to see what it speaks.
pub struct Prefixed<S> {
    prefix: Vec<u8>,
    read: usize,
    io: S,
}

impl<S> Prefixed<S> {
    /// Gives `prefix` first, then what `io` gives.
    pub fn new(prefix: Vec<u8>, io: S) -> Self {
        Self { prefix, read: 0, io }
    }

    fn has_prefix(&self) -> bool {
        self.read < self.prefix.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this.prefix.get(this.read..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..n).unwrap_or_default());
        this.read += n;
        if this.read == this.prefix.len() {
            (this.prefix, this.read) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Reads until the peer is done or `budget` bytes came, throwing them away: a close with unread bytes in the socket
/// would be a reset, and the peer might lose the response that it was sent.
pub fn poll_discard<S: Stream>(
    io: &mut S,
    cx: &mut Context<'_>,
    scratch: &mut [u8],
    budget: &mut usize,
) -> Poll<()> {
    while *budget > 0 {
        let mut buf = ReadBuf::new(scratch);
        match ready!(Pin::new(&mut *io).poll_read(cx, &mut buf)) {
            Ok(()) if !buf.filled().is_empty() => *budget = budget.saturating_sub(buf.filled().len()),
            _ => break,
        }
    }
    Poll::Ready(())
}
