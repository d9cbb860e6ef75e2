//! What does the proxy tell those who run it, and what may they tell it?
//!
//! ```text
//!   accept ─> connection ─> guard: may this caller see this page? ─> pages ─> Handle
//! ```
//!
//! A small HTTP/1 server on a thread of its own: probes, scrapes and dumps cost data threads nothing and do not wait
//! for an update that is being compiled. Heads are read by the codec that reads the traffic's, as strictly.
//!
//! Invariants: everything is bounded, so that nobody who reaches the port can hold memory or keep others out:
//! [`CONNECTIONS`] at once, of which the longest inactive one makes room; heads, bodies, waits and what is rendered at
//! once have their bounds in [`connection`]. Its bounds are its own: it answers when listeners are at theirs. What
//! changes something or shows the configuration is for callers on this host, see [`guard`].

mod connection;
mod guard;
mod pages;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mesh_model::resources::Address;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use crate::bind::bind;
use crate::handle::Handle;
use crate::io::acceptor::Acceptor;

/// Connections open at once: several scrapers, probes and people.
const CONNECTIONS: usize = 64;
/// How long it waits when it can't accept: there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Long texts rendered and not yet sent: ten thousand label sets are tens of megabytes.
const RENDERS: usize = 2;

/// How the admin server is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub address: Address,
    /// How long a drain that is asked for here still accepts, until [`Handle::set_lame_duck`] says otherwise.
    pub lame_duck: Duration,
}

/// A running admin server. Dropping it ends it at once.
pub struct Server {
    address: Address,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Listens, and starts to answer.
    ///
    /// # Errors
    /// The address can't be had, or the system has no thread or descriptor left.
    pub fn start(handle: Handle, options: Options) -> io::Result<Self> {
        let (mut sockets, address) = bind(&options.address, 1)?;
        let socket = sockets.pop().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (stop, stopped) = oneshot::channel();
        // What can fail on the thread must still be the caller's.
        let (started, has_started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("mesh-admin".into())
            .spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                runtime.block_on(async {
                    match Acceptor::new(socket) {
                        Ok(acceptor) => {
                            let _ = started.send(Ok(()));
                            let site = Site {
                                handle,
                                renders: Semaphore::new(RENDERS),
                                seats: Seats::default(),
                            };
                            serve(acceptor, Rc::new(site), stopped).await;
                        }
                        Err(error) => {
                            let _ = started.send(Err(error));
                        }
                    }
                });
            })?;
        match has_started.recv() {
            Ok(Ok(())) => Ok(Self {
                address,
                stop: Some(stop),
                thread: Some(thread),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the admin thread did not start")),
        }
    }

    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What all connections share.
struct Site {
    handle: Handle,
    renders: Semaphore,
    seats: Seats,
}

async fn serve(acceptor: Acceptor, site: Rc<Site>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = poll_fn(|cx| acceptor.poll_accept(cx)) => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let caller = guard::Caller::new(peer.map(|peer| peer.ip()));
                let seat = site.seats.take();
                let number = seat.number;
                let task =
                    tokio::task::spawn_local(connection::serve(Rc::clone(&site), seat, socket, caller));
                site.seats.occupy(number, task.abort_handle());
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The connections that are open. Full, the one that has been inactive for longest makes room: whoever holds
/// connections without using them keeps nobody out.
#[derive(Default)]
struct Seats {
    taken: Rc<RefCell<Vec<Taken>>>,
    next: Cell<u64>,
}

struct Taken {
    number: u64,
    active: Instant,
    task: Option<AbortHandle>,
}

/// A connection's place, given back when it is dropped.
struct Seat {
    number: u64,
    taken: Rc<RefCell<Vec<Taken>>>,
}

impl Seats {
    fn take(&self) -> Seat {
        let number = self.next.get();
        self.next.set(number + 1);
        let mut taken = self.taken.borrow_mut();
        if taken.len() >= CONNECTIONS
            && let Some((at, _)) = taken.iter().enumerate().min_by_key(|(_, seat)| seat.active)
            && let Some(task) = taken.swap_remove(at).task
        {
            task.abort();
        }
        taken.push(Taken {
            number,
            active: Instant::now(),
            task: None,
        });
        Seat {
            number,
            taken: Rc::clone(&self.taken),
        }
    }

    fn occupy(&self, number: u64, task: AbortHandle) {
        let mut taken = self.taken.borrow_mut();
        if let Some(seat) = taken.iter_mut().find(|seat| seat.number == number) {
            seat.task = Some(task);
        }
    }
}

impl Seat {
    /// Says that a request came.
    fn active(&self) {
        let mut taken = self.taken.borrow_mut();
        if let Some(seat) = taken.iter_mut().find(|seat| seat.number == self.number) {
            seat.active = Instant::now();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.borrow_mut().retain(|seat| seat.number != self.number);
    }
}
