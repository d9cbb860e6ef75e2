//! How do bytes get from a socket into a connection, and back?
//!
//! The driver of a connection reads while there is something, and writes once before it waits: by then the streams have
//! said what they had to say, and all of it leaves in one system call. The peer is not read while it does not take what
//! it is answered (attacks.md 8).

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use mesh_http2::frame;

use super::channel::Shared;
use crate::buffer::Buffers;
use crate::clock::Nanos;
use crate::io::Stream;
use crate::io::socket::poll_discard;
use crate::io::wire::{Filled, ReadSize, Wire};

/// The largest frame has to be there as a whole.
const FRAME: usize = frame::HEAD + frame::MOST;

/// Buffers for what waits to be sent, from the thread's pool.
pub struct WriteBuffers(pub Rc<Buffers>);

impl mesh_http2::Buffers for WriteBuffers {
    fn take(&self) -> Vec<u8> {
        self.0.write()
    }

    fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            self.0.put_write(buffer);
        }
    }
}

/// A connection's socket.
pub struct Socket<S> {
    wire: Wire<S>,
    connection: Shared,
    written: u64,
    /// Since when the peer has taken nothing of what waits for it.
    stalled: Option<Nanos>,
    /// What was read before is to be looked at.
    early: bool,
    /// A read was put off because too much waits to be sent: nothing else will wake the driver for it.
    put_off: bool,
    /// A write has failed: nothing more is sent.
    is_broken: bool,
}

impl<S: Stream> Socket<S> {
    /// A socket and the connection over it. What was read of it before is read again.
    pub fn new(wire: Wire<S>, connection: Shared) -> Self {
        Self {
            wire,
            connection,
            written: 0,
            stalled: None,
            early: true,
            put_off: false,
            is_broken: false,
        }
    }

    /// Since when the peer has read nothing although bytes wait for it.
    pub fn stalled_since(&self) -> Option<Nanos> {
        self.stalled
    }

    /// Since when the peer owes the rest of a head. Not while it is not read: it may have come.
    pub fn unfinished_since(&self) -> Option<Nanos> {
        if self.put_off {
            return None;
        }
        self.connection.borrow().unfinished_since()
    }

    /// Bytes read and bytes written.
    pub fn bytes(&self) -> (u64, u64) {
        (self.wire.bytes_read, self.written)
    }

    /// Why the other end did not believe this one, where the connection has ended by that.
    pub fn refused(&mut self) -> Option<mesh_identity::Rejection> {
        self.wire.io.refused()
    }

    /// Makes the coming drop a reset.
    pub fn reset_on_drop(&mut self) {
        self.wire.io.reset_on_drop();
    }

    /// Reads once. Ready when the connection was given something, which may be that the peer is gone.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, now: Nanos) -> Poll<()> {
        self.put_off = !self.connection.borrow().reads();
        if self.put_off {
            return Poll::Pending;
        }
        let early = std::mem::take(&mut self.early) && !self.wire.unread().is_empty();
        if !early {
            match ready!(self.wire.poll_fill(cx, ReadSize::Adaptive)) {
                Ok(Filled::Bytes(_)) => {}
                Ok(Filled::Full) if self.wire.grow(FRAME) => return Poll::Ready(()),
                Ok(_) | Err(_) => {
                    self.connection.borrow_mut().gone();
                    return Poll::Ready(());
                }
            }
        }
        let used = self.connection.borrow_mut().receive(self.wire.unread(), now);
        self.wire.consume(used);
        Poll::Ready(())
    }

    /// Writes all that is to be sent. Ready when nothing waits any more.
    ///
    /// # Errors
    /// The socket failed. What the peer said before may still be there to be read, up to the end.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, now: impl Fn() -> Nanos) -> Poll<io::Result<()>> {
        let mut connection = self.connection.borrow_mut();
        while !connection.unsent().is_empty() && !self.is_broken {
            match Pin::new(&mut self.wire.io).poll_write(cx, connection.unsent()) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    connection.sent(n);
                    self.written += n as u64;
                    self.stalled = None;
                    if self.put_off && connection.reads() {
                        self.put_off = false;
                        cx.waker().wake_by_ref();
                    }
                }
                Poll::Ready(_) => self.is_broken = true,
                Poll::Pending => {
                    self.stalled.get_or_insert_with(now);
                    return Poll::Pending;
                }
            }
        }
        if self.is_broken {
            let unsent = connection.unsent().len();
            connection.sent(unsent);
            self.stalled = None;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // TLS holds ciphertext back until it is flushed; sockets hold nothing.
        let flushed = ready!(Pin::new(&mut self.wire.io).poll_flush(cx));
        self.is_broken = flushed.is_err();
        Poll::Ready(flushed)
    }

    /// Says that nothing more is sent.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(cx)
    }

    /// Throws away what still comes, see [`poll_discard`].
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut [u8], budget: &mut usize) -> Poll<()> {
        poll_discard(&mut self.wire.io, cx, scratch, budget)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::time::Duration;

    use mesh_http2::meter::{Budgets, Role};
    use mesh_http2::{Connection, Settings};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// One side of a connection, and its socket.
    fn over(
        tcp: TcpStream,
        role: Role,
        streams: u32,
    ) -> (Rc<RefCell<Connection>>, Socket<crate::io::socket::Socket>) {
        let buffers = Buffers::new();
        let settings = Settings {
            streams,
            stream_window: 65_535,
            connection_window: 65_535,
            header_bytes: 65_536,
            budgets: Budgets::new(65_536),
        };
        let pool = Rc::new(mesh_http2::Pool::new(WriteBuffers(Rc::clone(&buffers))));
        let connection = Rc::new(RefCell::new(Connection::new(role, settings, pool)));
        let wire = Wire::new(crate::io::socket::Socket::Tcp(tcp), buffers);
        let socket = Socket::new(wire, Rc::clone(&connection));
        (connection, socket)
    }

    #[tokio::test]
    async fn what_the_peer_said_before_a_write_failed_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (ours, peer) = (ours.unwrap(), accepted.unwrap().0.into_std().unwrap());
        let (connection, mut socket) = over(ours, Role::Client, 0);
        let request = connection.borrow_mut().open_stream(false).unwrap();
        let sent = connection.borrow_mut().head(request, true, |out| {
            out.request(b"POST", b"http", b"a.test", b"/", false);
        });
        sent.unwrap();
        poll_fn(|cx| socket.poll_write(cx, || 0)).await.unwrap();
        poll_fn(|cx| {
            assert!(socket.poll_read(cx, 0).is_pending());
            // SETTINGS, GOAWAY that names no stream as seen, and a reset: all of it between two looks of the runtime.
            std::io::Write::write_all(&mut &peer, b"\0\0\0\x04\0\0\0\0\0").unwrap();
            std::io::Write::write_all(&mut &peer, b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
            socket2::SockRef::from(&peer)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            Poll::Ready(())
        })
        .await;
        drop(peer);
        connection.borrow_mut().ping();
        let failed = poll_fn(|cx| Poll::Ready(socket.poll_write(cx, || 0))).await;
        assert!(matches!(failed, Poll::Ready(Err(_))), "{failed:?}");
        let end = poll_fn(|cx| {
            while connection.borrow().over().is_none() {
                ready!(socket.poll_read(cx, 0));
            }
            Poll::Ready(())
        });
        let ended = tokio::time::timeout(Duration::from_secs(10), end).await;
        ended.expect("the end is read");
        let answer = poll_fn(|cx| connection.borrow_mut().poll_head(cx, request)).await;
        assert_eq!(answer.err(), Some(mesh_http2::Failure::Refused));
    }

    #[tokio::test]
    async fn what_came_while_much_waited_to_be_sent_is_read_once_it_has_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut peer, accepted) = (peer.unwrap(), accepted.unwrap().0);
        socket2::SockRef::from(&accepted)
            .set_send_buffer_size(1 << 20)
            .unwrap();
        let (connection, mut socket) = over(accepted, Role::Server, 1);
        while connection.borrow().reads() {
            connection.borrow_mut().ping();
        }
        peer.write_all(frame::PREFACE).await.unwrap();
        let driver = poll_fn(move |cx| {
            while socket.poll_read(cx, 0).is_ready() {}
            assert!(!matches!(socket.poll_write(cx, || 0), Poll::Ready(Err(_))));
            if connection.borrow().is_begun() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        // In a task of its own, which wakes only itself.
        let reader = tokio::spawn(async move {
            let mut scratch = [0; 4096];
            while peer.read(&mut scratch).await.is_ok_and(|n| n > 0) {}
        });
        // And the driver likewise: a look out of impatience would read it.
        let tasks = tokio::task::LocalSet::new();
        let driver = tasks.spawn_local(driver);
        let begun = tasks
            .run_until(tokio::time::timeout(Duration::from_secs(10), driver))
            .await;
        begun.expect("the preface is read").unwrap();
        reader.abort();
    }
}
