//! Streams between two ends, as TCP gives them: in order, cut anywhere, late, and broken off at times.
//!
//! Kept of real sockets: a close with unread bytes, and bytes that reach a closed end, are resets; a write behind a
//! reset fails; readiness is remembered until a read finds nothing more, so a stream may be said to be readable when it
//! is not (tokio does that).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mesh_model::resources::Address;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock::{MS, Sim};
use crate::clock::{Clock, NEVER, Nanos};
use crate::io::{Net, Stream};
use crate::upstream::ConnectError;
use crate::upstream::target::Target;

/// How well a network works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// The longest that bytes are on their way.
    pub(super) latency: Nanos,
    /// Pieces of bytes: how large at most.
    pub(super) piece: usize,
    /// What a stream holds that is not read.
    pub(super) window: usize,
    /// One in so many pieces takes [`Weather::stall`] longer. 0: none.
    pub(super) stalls: u64,
    /// How long a stall is; [`NEVER`]: nothing comes any more.
    pub(super) stall: Nanos,
    /// One in so many connects fails. 0: none.
    pub(super) refusals: u64,
}

impl Weather {
    /// A network that takes no time, and packets as they usually are.
    pub(super) const CALM: Self = Self {
        latency: 0,
        piece: 1460,
        window: 65_536,
        stalls: 0,
        stall: 0,
        refusals: 0,
    };

    /// A network that works, in one of many ways.
    pub(super) fn fair(sim: &Sim) -> Self {
        Self {
            latency: sim.one(&[0, 0, MS / 10, MS, 20 * MS]),
            piece: sim.one(&[1, 7, 100, 1460, 20_000, 400_000]),
            window: sim.one(&[1, 64, 4_000, 65_536, 1_000_000]),
            ..Self::CALM
        }
    }

    /// One that does not.
    pub(super) fn foul(sim: &Sim) -> Self {
        Self {
            stalls: sim.one(&[0, 20, 100]),
            stall: sim.one(&[500 * MS, 5_000 * MS, 70_000 * MS, NEVER]),
            refusals: sim.one(&[0, 3]),
            ..Self::fair(sim)
        }
    }
}

/// What comes through one direction.
enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// One direction: the bytes that flow to one end.
#[derive(Default)]
struct Pipe {
    arrived: VecDeque<u8>,
    /// Sent, not arrived.
    on_the_way: usize,
    last_arrival: Nanos,
    /// The sender said that it sends nothing more.
    shut: bool,
    ended: bool,
    reset: bool,
    /// The receiver closed.
    closed: bool,
    /// Readable, as far as the runtime knows.
    ready: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

struct Link {
    sim: Sim,
    number: u64,
    weather: Weather,
    /// By the end that reads.
    pipes: [Pipe; 2],
}

/// One end of a stream.
pub(super) struct SimStream(Rc<End>);

struct End {
    link: Rc<RefCell<Link>>,
    /// Which end this is: the pipe that it reads.
    side: usize,
    reset_on_drop: Cell<bool>,
    closed: Cell<bool>,
}

/// Two ends of a new stream.
pub(super) fn pair(sim: &Sim, weather: Weather) -> (SimStream, SimStream) {
    let link = Rc::new(RefCell::new(Link {
        number: sim.number(),
        sim: sim.clone(),
        weather,
        pipes: Default::default(),
    }));
    let end = |side| {
        SimStream(Rc::new(End {
            link: Rc::clone(&link),
            side,
            reset_on_drop: Cell::new(false),
            closed: Cell::new(false),
        }))
    };
    (end(0), end(1))
}

impl Pipe {
    fn wake_reader(&mut self) {
        self.ready = true;
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// Sends something to the end `to`, behind all that was sent before.
fn send(link: &Rc<RefCell<Link>>, to: usize, piece: Piece) {
    let this = &mut *link.borrow_mut();
    let sim = this.sim.clone();
    let mut delay = sim.below(this.weather.latency + 1);
    if this.weather.stalls > 0 && sim.once_in(this.weather.stalls) {
        delay = delay.saturating_add(this.weather.stall);
    }
    let pipe = &mut this.pipes[to];
    let at = sim.now().saturating_add(delay).max(pipe.last_arrival);
    pipe.last_arrival = at;
    if let Piece::Bytes(bytes) = &piece {
        pipe.on_the_way += bytes.len();
    }
    if at != NEVER {
        let link = Rc::clone(link);
        sim.at(at, move || arrive(&link, to, piece));
    }
}

fn arrive(link: &Rc<RefCell<Link>>, to: usize, piece: Piece) {
    {
        let link = link.borrow();
        link.sim.trace(|| {
            let what = match &piece {
                Piece::Bytes(bytes) => format!("{} {:?}", bytes.len(), start(bytes)),
                Piece::End => "end".into(),
                Piece::Reset => "reset".into(),
            };
            format!(
                "stream {} to {}: {what}",
                link.number,
                ["accepted", "connected"][1 - to]
            )
        });
    }
    let mut answer_with_reset = false;
    {
        let this = &mut *link.borrow_mut();
        let [a, b] = &mut this.pipes;
        let (pipe, back) = if to == 0 { (a, b) } else { (b, a) };
        match piece {
            Piece::Bytes(bytes) => {
                pipe.on_the_way -= bytes.len();
                if pipe.closed {
                    answer_with_reset = true;
                } else if !pipe.reset {
                    pipe.arrived.extend(bytes);
                    pipe.wake_reader();
                }
            }
            Piece::End => {
                pipe.ended = true;
                pipe.wake_reader();
            }
            Piece::Reset => {
                // What had come can still be read, as on Linux.
                pipe.reset = true;
                pipe.wake_reader();
                if let Some(waker) = pipe.watcher.take() {
                    waker.wake();
                }
                // And what is written the other way goes nowhere.
                back.shut = true;
                back.wake_writer();
            }
        }
    }
    if answer_with_reset {
        send(link, 1 - to, Piece::Reset);
    }
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

impl SimStream {
    fn write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let (sim, n, piece) = {
            let link = &mut *self.0.link.borrow_mut();
            let (sim, weather) = (link.sim.clone(), link.weather);
            if link.pipes[self.0.side].reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let pipe = &mut link.pipes[1 - self.0.side];
            if pipe.shut {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if buf.is_empty() {
                return Poll::Ready(Ok(0));
            }
            let room = weather
                .window
                .saturating_sub(pipe.on_the_way + pipe.arrived.len())
                .min(buf.len());
            // Nobody reads at a closed end: there is always room.
            let room = if pipe.closed { buf.len() } else { room };
            if room == 0 {
                pipe.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let n = if sim.once_in(3) {
                1 + sim.below(room as u64) as usize
            } else {
                room
            };
            (sim, n, weather.piece)
        };
        sim.moved();
        let mut rest = &buf[..n];
        while !rest.is_empty() {
            // Small pieces of much would take for ever.
            let most = piece.max(n / 64).min(rest.len());
            let (now, later) = rest.split_at(1 + sim.below(most as u64) as usize);
            send(&self.0.link, 1 - self.0.side, Piece::Bytes(now.to_vec()));
            rest = later;
        }
        Poll::Ready(Ok(n))
    }

    /// Another handle to this end, for a task of its own. The end closes when all are gone.
    pub(super) fn share(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    /// Breaks the stream off, whoever has a handle to it.
    pub(super) fn break_off(&self) {
        self.0.reset_on_drop.set(true);
        self.0.close();
    }

    /// Sends bytes that arrive at once and together, whatever the window.
    pub(super) fn send_together(&self, bytes: &[u8]) {
        let gone = {
            let link = self.0.link.borrow();
            link.pipes[self.0.side].reset || link.pipes[1 - self.0.side].shut
        };
        if !gone {
            send(&self.0.link, 1 - self.0.side, Piece::Bytes(bytes.to_vec()));
        }
    }
}

impl Stream for SimStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = &mut self.0.link.borrow_mut().pipes[self.0.side];
        if pipe.ready {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    async fn failed(&self) {
        poll_fn(|cx| {
            let pipe = &mut self.0.link.borrow_mut().pipes[self.0.side];
            if pipe.reset {
                return Poll::Ready(());
            }
            pipe.watcher = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn reset_on_drop(&mut self) {
        self.0.reset_on_drop.set(true);
    }

    fn alpn(&self) -> Option<&[u8]> {
        None
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let link = &mut *self.0.link.borrow_mut();
        let pipe = &mut link.pipes[self.0.side];
        if !pipe.arrived.is_empty() {
            let n = pipe.arrived.len().min(buf.remaining());
            let bytes: Vec<u8> = pipe.arrived.drain(..n).collect();
            buf.put_slice(&bytes);
            // A short read tells that there is no more.
            pipe.ready = buf.remaining() == 0 || pipe.ended || pipe.reset;
            pipe.wake_writer();
            link.sim.moved();
            return Poll::Ready(Ok(()));
        }
        // What came before a reset counts, an end too.
        if pipe.ended {
            return Poll::Ready(Ok(()));
        }
        if pipe.reset || pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        pipe.ready = false;
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let link = &mut *self.0.link.borrow_mut();
            if link.pipes[self.0.side].reset {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            let pipe = &mut link.pipes[1 - self.0.side];
            if std::mem::replace(&mut pipe.shut, true) {
                return Poll::Ready(Ok(()));
            }
        }
        send(&self.0.link, 1 - self.0.side, Piece::End);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close();
    }
}

impl End {
    fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        let farewell = {
            let link = &mut *self.link.borrow_mut();
            let own = &mut link.pipes[self.side];
            own.closed = true;
            let unread = !own.arrived.is_empty();
            own.arrived.clear();
            let reset = own.reset;
            own.wake_writer();
            own.wake_reader();
            let other = &mut link.pipes[1 - self.side];
            other.wake_writer();
            let shut = std::mem::replace(&mut other.shut, true);
            match (self.reset_on_drop.get() || unread, shut) {
                _ if reset => None,
                (true, _) => Some(Piece::Reset),
                (false, false) => Some(Piece::End),
                (false, true) => None,
            }
        };
        if let Some(piece) = farewell {
            send(&self.link, 1 - self.side, piece);
        }
    }
}

/// What a server does with a connection.
pub(super) type Server = Rc<dyn Fn(SimStream, usize)>;

/// Connections by address.
#[derive(Clone)]
pub(super) struct SimNet {
    sim: Sim,
    inner: Rc<RefCell<NetState>>,
}

struct NetState {
    weather: Weather,
    servers: HashMap<Address, Server>,
    /// How long connects take besides, by address.
    delays: HashMap<Address, Nanos>,
    connections: usize,
    /// Connects that were begun, by address.
    begun: HashMap<Address, usize>,
}

impl SimNet {
    pub(super) fn new(sim: &Sim, weather: Weather) -> Self {
        Self {
            sim: sim.clone(),
            inner: Rc::new(RefCell::new(NetState {
                weather,
                servers: HashMap::new(),
                delays: HashMap::new(),
                connections: 0,
                begun: HashMap::new(),
            })),
        }
    }

    /// Answers at an address. The server is given each connection and its number.
    pub(super) fn listen(&self, address: &str, server: impl Fn(SimStream, usize) + 'static) {
        let address = address.parse().unwrap();
        self.inner.borrow_mut().servers.insert(address, Rc::new(server));
    }

    /// Has connects to an address take that long; [`NEVER`]: it swallows what begins them.
    pub(super) fn delay(&self, address: &str, span: Nanos) {
        let address = address.parse().unwrap();
        self.inner.borrow_mut().delays.insert(address, span);
    }

    /// How many connects to an address were begun.
    pub(super) fn begun(&self, address: &str) -> usize {
        let address: Address = address.parse().unwrap();
        self.inner.borrow().begun.get(&address).copied().unwrap_or(0)
    }
}

impl Clock for SimNet {
    fn now(&self) -> Nanos {
        self.sim.now()
    }
}

impl Net for SimNet {
    type Stream = SimStream;

    async fn connect(&self, target: &Target) -> Result<SimStream, ConnectError> {
        let weather = self.inner.borrow().weather;
        let delay = {
            let mut inner = self.inner.borrow_mut();
            *inner.begun.entry(target.address.clone()).or_default() += 1;
            inner.delays.get(&target.address).copied().unwrap_or(0)
        };
        if delay == NEVER {
            std::future::pending::<()>().await;
        }
        self.sim.sleep(delay + self.sim.below(weather.latency + 1)).await;
        self.sim.moved();
        if weather.refusals > 0 && self.sim.once_in(weather.refusals) {
            match self.sim.below(3) {
                0 => return Err(ConnectError::Refused),
                1 => return Err(ConnectError::Unreachable),
                // Nobody answers.
                _ => std::future::pending::<()>().await,
            }
        }
        let (server, number) = {
            let mut inner = self.inner.borrow_mut();
            inner.connections += 1;
            let server = inner.servers.get(&target.address).cloned();
            (server.ok_or(ConnectError::Refused)?, inner.connections)
        };
        let (ours, theirs) = pair(&self.sim, weather);
        server(theirs, number);
        Ok(ours)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.sim.spawn("task", task);
    }

    async fn accept_tls(
        &self,
        _: SimStream,
        _: Vec<u8>,
        _: Arc<rustls::ServerConfig>,
    ) -> io::Result<SimStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
