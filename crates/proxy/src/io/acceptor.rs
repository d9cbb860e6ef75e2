//! How does a connection come in?

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::socket::{Socket, keep_alive, tune};
use crate::bind::{Listening, SocketFile};

/// How long a client's word that it has a connection may take to come here: most take less, over any distance. Whose word
/// finds the socket closed is reset, though it was told that it has one.
const ROUND_TRIP: Duration = Duration::from_millis(250);

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

    /// Lets nobody else in, and gives whoever has begun to come.
    pub async fn close(self, mut take: impl FnMut(Socket, Option<SocketAddr>)) {
        // Over the loopback nothing takes any time.
        if let Self::Tcp(listener) = &self
            && let Ok(at) = listener.local_addr()
            && !at.ip().to_canonical().is_loopback()
        {
            let_nobody_in(&SockRef::from(listener));
            let late = async {
                loop {
                    match poll_fn(|cx| self.poll_accept(cx)).await {
                        Ok((socket, client)) => take(socket, client),
                        Err(_) => tokio::time::sleep(ROUND_TRIP / 10).await,
                    }
                }
            };
            let _ = tokio::time::timeout(ROUND_TRIP, late).await;
        }
        self.into_queued()
            .for_each(|(socket, client)| take(socket, client));
    }

    /// Lets nobody else in, and gives whoever waits in the queue. The kernel is asked, not the runtime, which may not have
    /// heard of the last ones.
    fn into_queued(self) -> impl Iterator<Item = (Socket, Option<SocketAddr>)> {
        let (tcp, unix) = match self {
            Self::Tcp(listener) => (listener.into_std().ok(), None),
            // The last thread that lets go takes them: until then others go on to accept. The file goes first.
            Self::Unix(listener, file) => (None, Arc::into_inner(file).and(listener.into_std().ok())),
        };
        if let Some(tcp) = &tcp {
            let_nobody_in(&SockRef::from(tcp));
        }
        if let Some(unix) = &unix {
            // Who connects from now on is refused; who is in the queue stays there.
            let _ = SockRef::from(unix).shutdown(Shutdown::Both);
        }
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

/// Has the kernel overlook whoever begins a connection (a SYN) from now on: the client asks again, and is refused when the
/// socket is closed. Between the last accept and the close it would take him in, and reset him then.
#[cfg(target_os = "linux")]
fn let_nobody_in(listener: &SockRef<'_>) {
    use socket2::SockFilter;

    // Classic BPF over the TCP header: flags are its 14th byte, of which SYN is 2.
    const NO_SYN: [SockFilter; 4] = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x45, 0, 1, 2),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    let _ = listener.attach_filter(&NO_SYN);
}

/// Elsewhere there are no filters, and whoever comes in that moment is reset.
#[cfg(not(target_os = "linux"))]
fn let_nobody_in(_: &SockRef<'_>) {}

fn tuned(tcp: TcpStream) -> Socket {
    // A socket that can't be tuned works all the same.
    let _ = tune(&tcp);
    let _ = keep_alive(&tcp);
    Socket::Tcp(tcp)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use mesh_model::resources::Address;

    use super::*;
    use crate::bind::bind;

    fn acceptor(address: &str) -> (Acceptor, Address) {
        let (mut sockets, bound) = bind(&address.parse().unwrap(), 1).unwrap();
        (Acceptor::new(sockets.pop().unwrap()).unwrap(), bound)
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn who_is_in_the_queue_when_a_tcp_listener_closes_is_taken_and_nobody_comes_in_after_that() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (acceptor, bound) = acceptor(address);
            let Address::Ip(at) = bound else {
                panic!("{bound:?}")
            };
            let before = std::net::TcpStream::connect(at).unwrap();
            let mut queued = acceptor.into_queued();
            let (_, client) = queued.next().unwrap();
            assert_eq!(client, Some(before.local_addr().unwrap()));
            // Nobody is answered now.
            let late = std::net::TcpStream::connect_timeout(&at, Duration::from_millis(100));
            assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
            let later = std::thread::spawn(move || std::net::TcpStream::connect(at));
            assert!(queued.next().is_none());
            drop(queued);
            assert_eq!(
                later.join().unwrap().unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn whose_word_that_he_is_connected_comes_when_a_tcp_listener_closes_is_taken() {
        use socket2::SockFilter;
        use std::io::Write;

        let (mut sockets, bound) = bind(&"0.0.0.0:0".parse().unwrap(), 1).unwrap();
        let (Some(Listening::Tcp(tcp)), Address::Ip(at)) = (sockets.pop(), bound) else {
            panic!("no TCP")
        };
        // His word is lost, unless something comes with it: of packets without SYN and PSH nothing is seen.
        let filter = [
            SockFilter::new(0x30, 0, 0, 13),
            SockFilter::new(0x45, 0, 1, 10),
            SockFilter::new(0x06, 0, 0, u32::MAX),
            SockFilter::new(0x06, 0, 0, 0),
        ];
        SockRef::from(&tcp).attach_filter(&filter).unwrap();
        let acceptor = Acceptor::new(Listening::Tcp(tcp)).unwrap();
        let mut client = std::net::TcpStream::connect(("127.0.0.1", at.port())).unwrap();
        let mut taken = Vec::new();
        let closed = acceptor.close(|_, client| taken.push(client));
        tokio::join!(closed, async { client.write_all(b"x").unwrap() });
        assert_eq!(taken, [Some(client.local_addr().unwrap())]);
    }

    #[tokio::test]
    async fn who_is_in_the_queue_when_a_unix_listener_closes_is_taken_and_nobody_comes_in_after_that() {
        let name = |of| std::env::temp_dir().join(format!("mesh-acceptor-{}-{of}", std::process::id()));
        let (path, other) = (name("one"), name("two"));
        let (acceptor, _) = acceptor(&format!("unix:{}", path.display()));
        // Its file goes before that, so it has two.
        std::fs::hard_link(&path, &other).unwrap();
        let _before = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let mut queued = acceptor.into_queued();
        let late = std::os::unix::net::UnixStream::connect(&other);
        std::fs::remove_file(&other).unwrap();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(queued.next().is_some());
        assert!(queued.next().is_none());
    }
}
