//! How do bytes get from one socket to the other without coming here?
//!
//! The kernel moves whole pages from the client's socket through a pipe to the server's (splice(2)). That wins where much
//! passes at a time, so a [`Splice`] is asked only while reads fill their buffers. Pipes belong to the thread; a tunnel
//! holds one only while bytes are in it. Where there are none, bytes pass through buffers as ever.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use self::pipe::Pipe;

/// Bytes of a pipe: what an ordinary user may have. Smaller ones do not win against buffers.
const CAPACITY: usize = 1024 * 1024;
/// Pipes of a thread. The kernel lets a user have about 64 of this size.
const MOST: usize = 16;
/// A move of fewer bytes is no bulk.
const BULK: usize = 16 * 1024;

/// A pipe, on systems that have splice(2).
#[cfg(target_os = "linux")]
mod pipe {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
    use tokio::net::TcpStream;

    use super::CAPACITY;
    use crate::descriptors::leaves_enough;

    const HOW: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

    pub(super) struct Pipe {
        read: OwnedFd,
        write: OwnedFd,
    }

    impl Pipe {
        pub(super) fn new() -> Option<Self> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            let large = fcntl_setpipe_size(&write, CAPACITY).is_ok_and(|size| size >= CAPACITY);
            (large && leaves_enough(&write)).then_some(Self { read, write })
        }

        pub(super) fn fill(&self, from: &TcpStream) -> io::Result<usize> {
            Ok(splice(from, None, &self.write, None, CAPACITY, HOW)?)
        }

        pub(super) fn drain(&self, to: &TcpStream, held: usize) -> io::Result<usize> {
            Ok(splice(&self.read, None, to, None, held, HOW)?)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod pipe {
    use std::io;

    use tokio::net::TcpStream;

    pub(super) enum Pipe {}

    impl Pipe {
        pub(super) fn new() -> Option<Self> {
            None
        }

        pub(super) fn fill(&self, _: &TcpStream) -> io::Result<usize> {
            match *self {}
        }

        pub(super) fn drain(&self, _: &TcpStream, _: usize) -> io::Result<usize> {
            match *self {}
        }
    }
}

/// A thread's pipes.
#[derive(Default)]
pub struct Pipes {
    free: RefCell<Vec<Pipe>>,
    made: Cell<usize>,
    /// The system gave none: it is not asked again until the next trim.
    refused: Cell<bool>,
}

impl Pipes {
    fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.free.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.refused.get() || self.made.get() >= MOST {
            return None;
        }
        let pipe = Pipe::new();
        match &pipe {
            Some(_) => self.made.set(self.made.get() + 1),
            None => self.refused.set(true),
        }
        pipe
    }

    fn put(&self, pipe: Pipe, empty: bool) {
        if empty {
            self.free.borrow_mut().push(pipe);
        } else {
            self.made.set(self.made.get().saturating_sub(1));
        }
    }

    /// Closes those that nobody uses. Called about once a second.
    pub fn trim(&self) {
        let free = std::mem::take(&mut *self.free.borrow_mut());
        self.made.set(self.made.get().saturating_sub(free.len()));
        self.refused.set(false);
    }
}

/// What a move did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes arrived; whether more came with them than a buffer holds.
    Bytes(usize, bool),
    /// The source ended, and all of it arrived.
    End,
    /// There is no pipe.
    None,
}

/// Which socket failed.
pub enum Broken {
    /// The one that bytes come from.
    Source,
    /// The one that they go to.
    Sink,
}

/// One direction of a tunnel.
pub struct Splice {
    pipes: Rc<Pipes>,
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
    /// The last read was bulk.
    bulk: bool,
}

impl Splice {
    /// A direction that uses these pipes.
    pub fn new(pipes: Rc<Pipes>) -> Self {
        Self {
            pipes,
            pipe: None,
            held: 0,
            bulk: true,
        }
    }

    /// Whether bytes are on their way: they go before all others.
    pub fn holds(&self) -> bool {
        self.held > 0
    }

    /// Moves bytes once.
    pub fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<Result<Moved, Broken>> {
        let Some(pipe) = self.pipe.take().or_else(|| self.pipes.take()) else {
            return Poll::Ready(Ok(Moved::None));
        };
        let moved = self.with(cx, &pipe, from, to);
        if self.held > 0 {
            self.pipe = Some(pipe);
        } else {
            self.pipes.put(pipe, !matches!(moved, Poll::Ready(Err(_))));
        }
        moved
    }

    fn with(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<Result<Moved, Broken>> {
        if self.held == 0 {
            match ready!(poll_io(cx, from, Interest::READABLE, || pipe.fill(from))) {
                Ok(0) => return Poll::Ready(Ok(Moved::End)),
                Ok(n) => (self.held, self.bulk) = (n, n >= BULK),
                Err(_) => return Poll::Ready(Err(Broken::Source)),
            }
        }
        let held = self.held;
        match ready!(poll_io(cx, to, Interest::WRITABLE, || pipe.drain(to, held))) {
            Ok(n) if n > 0 => self.held -= n.min(held),
            Ok(_) | Err(_) => return Poll::Ready(Err(Broken::Sink)),
        }
        Poll::Ready(Ok(Moved::Bytes(held - self.held, self.bulk)))
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.pipes.put(pipe, self.held == 0);
        }
    }
}

fn poll_io(
    cx: &mut Context<'_>,
    tcp: &TcpStream,
    interest: Interest,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if interest.is_readable() {
            ready!(tcp.poll_read_ready(cx))?;
        } else {
            ready!(tcp.poll_write_ready(cx))?;
        }
        match tcp.try_io(interest, &mut call) {
            // Readiness is cleared: the next look at it waits.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (a, b) = tokio::join!(TcpStream::connect(address), listener.accept());
        (a.unwrap(), b.unwrap().0)
    }

    /// Moves everything; gives how many bytes.
    async fn all(splice: &mut Splice, from: &TcpStream, to: &TcpStream) -> Result<usize, Broken> {
        let mut moved = 0;
        loop {
            match poll_fn(|cx| splice.poll_move(cx, from, to)).await? {
                Moved::Bytes(n, _) => moved += n,
                Moved::End => return Ok(moved),
                Moved::None => panic!("no pipe"),
            }
        }
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_and_pipes_come_back() {
        let ((mut client, from), (to, mut server)) = (pair().await, pair().await);
        let pipes: Rc<Pipes> = Rc::default();
        let mut splice = Splice::new(Rc::clone(&pipes));
        let sent: Vec<u8> = (0..5_000_000u32).map(|n| (n * 7 / 3) as u8).collect();
        let writes = async {
            for piece in sent.chunks(77_777) {
                client.write_all(piece).await.unwrap();
            }
            client.shutdown().await.unwrap();
        };
        let moves = async {
            let moved = all(&mut splice, &from, &to).await;
            drop(to);
            moved
        };
        let reads = async {
            let mut came = Vec::new();
            // A reader that is slow at first: the pipe fills.
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.read_to_end(&mut came).await.unwrap();
            came
        };
        let ((), moved, came) = tokio::join!(writes, moves, reads);
        assert!(moved.is_ok_and(|moved| moved == sent.len()) && came == sent);
        assert!(!splice.holds());
        assert_eq!((pipes.made.get(), pipes.free.borrow().len()), (1, 1));
        pipes.trim();
        assert_eq!((pipes.made.get(), pipes.free.borrow().len()), (0, 0));
    }

    #[tokio::test]
    async fn a_pipe_with_bytes_in_it_is_not_used_again() {
        let ((mut client, from), (to, server)) = (pair().await, pair().await);
        let pipes: Rc<Pipes> = Rc::default();
        let mut splice = Splice::new(Rc::clone(&pipes));
        client.write_all(&[b'x'; 100_000]).await.unwrap();
        socket2::SockRef::from(&server)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(server);
        let broken = loop {
            match poll_fn(|cx| splice.poll_move(cx, &from, &to)).await {
                Ok(_) => client.write_all(&[b'x'; 100_000]).await.unwrap(),
                Err(broken) => break broken,
            }
        };
        assert!(matches!(broken, Broken::Sink));
        assert!(splice.holds());
        drop(splice);
        assert_eq!((pipes.made.get(), pipes.free.borrow().len()), (0, 0));
    }

    #[tokio::test]
    async fn pipes_are_bounded() {
        let pipes = Pipes::default();
        let taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert!(taken.len() <= MOST && pipes.made.get() == taken.len());
        taken.into_iter().for_each(|pipe| pipes.put(pipe, true));
        assert_eq!(pipes.free.borrow().len(), pipes.made.get());
    }
}
