//! Which connection carries the next request to a server, and when is another one opened?
//!
//! A data thread keeps, for each endpoint of a cluster, its HTTP/2 connections. A request takes a [`Seat`] on the first
//! that has one free; so a shrinking load leaves whole connections idle, and those are closed. When all are full (by
//! the cluster's `streamsPerConnection` or the server's own limit) another is opened. Requests that need one wait for
//! an attempt that is under way, as far as it will have seats for them: a burst opens as many connections as it needs.
//!
//! A server says how many streams it allows only once the connection stands, and refuses those above. So the first
//! request goes at once, and the others wait until it has said so; a long body that has gone could not be sent again.
//!
//! Invariants: an entry holds its endpoint, so that no other endpoint has its key; an attempt is listed until its server
//! has spoken or it has failed, and then all that waited for it go on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use foldhash::fast::RandomState;
use mesh_model::errors::Reason;
use tokio::sync::watch;
use tokio::task::spawn_local;

pub use super::link::Seat;
use super::link::{Link, establish};
use crate::balance::EndpointState;
use crate::clock::Nanos;
use crate::io::Net;
use crate::thread::Thread;
use crate::upstream::cluster::key;
use crate::upstream::pool::{Ages, Pooled};
use crate::upstream::room::Bells;

/// Connections that one request waits for before it waits for room like any other: those that came meanwhile may take
/// every place on each of them, and a server may allow no streams at all.
const MOST_ATTEMPTS: u32 = 3;

type Map = HashMap<usize, Entry, RandomState>;

/// A thread's HTTP/2 connections to the endpoints of a cluster. Clones share them.
#[derive(Clone)]
pub struct Connections {
    entries: Rc<RefCell<Map>>,
    /// Rung when a place comes free.
    room: Rc<Bells>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// A connection could not be made.
    Failed(Reason),
    /// The server chose HTTP/1.
    Http1,
}

/// A connection on which HTTP/2 is to be spoken.
pub struct Opened<S> {
    /// The connection.
    pub pooled: Pooled<S>,
    /// When its server must have spoken.
    pub before: Nanos,
    /// Is told whether it has.
    pub greeted: Box<dyn FnOnce(Result<(), Reason>)>,
}

/// One endpoint's.
struct Entry {
    /// Held, so that its address is nobody else's key.
    _endpoint: Arc<EndpointState>,
    links: Vec<Rc<Link>>,
    attempts: Vec<Attempt>,
    /// Streams that its server allowed last.
    allows: u32,
}

/// How far an attempt is.
enum Made {
    /// There is no connection yet.
    Not,
    /// There is one, whose server has not said how many streams it allows.
    Standing(Rc<Link>),
    /// It has succeeded or failed.
    Done(Result<Rc<Link>, NoSeat>),
}

/// A connection that is being made.
#[derive(Clone)]
struct Attempt {
    made: watch::Receiver<Made>,
    /// Requests that wait for it.
    waiting: Rc<Cell<u32>>,
}

/// A request that waits for an attempt, counted until it is dropped.
struct Waiter(Rc<Cell<u32>>);

impl Waiter {
    fn new(waiting: &Rc<Cell<u32>>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(Rc::clone(waiting))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Connections {
    /// No connections. `room` is rung when a place comes free.
    pub fn new(room: Rc<Bells>) -> Self {
        Self {
            entries: Rc::default(),
            room,
        }
    }

    /// Lists no longer up to so many connections without streams, so that they are closed. Gives how many there were.
    pub fn close_idle(&self, most: u32) -> u32 {
        let mut left = most;
        for entry in self.entries.borrow_mut().values_mut() {
            if left == 0 {
                break;
            }
            entry.links.retain(|link| {
                let stays = left == 0 || link.streams() > 0;
                left -= u32::from(!stays);
                stays
            });
        }
        most - left
    }

    /// Lists no longer the connections to endpoints that did not stay; they end with their streams.
    pub fn retain(&self, stays: impl Fn(usize) -> bool) {
        self.entries.borrow_mut().retain(|endpoint, _| stays(*endpoint));
    }

    /// Lists no longer what failed, what was idle for too long, and what is too old for new requests.
    pub fn sweep(&self, ages: Ages) {
        self.entries.borrow_mut().retain(|_, entry| {
            entry.links.retain(|link| {
                if !link.is_good() {
                    return false;
                }
                let ended_by = ages.end(link.opened(), link.idle_since());
                if let Some(reason) = ended_by {
                    link.end(reason);
                }
                ended_by.is_none()
            });
            !entry.links.is_empty() || !entry.attempts.is_empty()
        });
    }

    /// Lists no longer the connections to workloads that are such; they end with their streams.
    pub fn leave(&self, is_such: impl Fn(&mesh_identity::Peer) -> bool) {
        self.entries.borrow_mut().retain(|_, entry| {
            entry.links.retain(|link| {
                let stays = !link.leads_to(&is_such);
                if !stays {
                    // Whoever waited for it is about to ask.
                    link.close();
                }
                stays
            });
            !entry.links.is_empty() || !entry.attempts.is_empty()
        });
    }

    /// Whether both are the same list.
    #[cfg(test)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.entries, &other.entries)
    }

    /// Connections that are listed.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries
            .borrow()
            .values()
            .map(|entry| entry.links.len())
            .sum()
    }

    /// Whether none is listed.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A place on a connection to an endpoint, at once where one is free.
    pub fn take(&self, endpoint: &Arc<EndpointState>, streams_per_connection: u32) -> Option<Seat> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(&key(endpoint))?;
        let seat = entry
            .links
            .iter()
            .find_map(|link| link.seat(streams_per_connection));
        if seat.is_none() {
            entry.links.retain(|link| link.is_good());
        }
        seat
    }

    /// A place on a connection to an endpoint, when need be on one that `connect` makes. The caller keeps the
    /// deadline and counts who waits; a caller that is dropped leaves the attempt to others.
    ///
    /// `connect` runs in a task of its own: it must keep its own deadline and hold what it uses.
    ///
    /// # Errors
    /// What `connect` failed with; every caller that waited for it gets the same. [`Reason::UpstreamProtocol`] when
    /// the server agreed to another protocol by ALPN, [`Reason::ConnectionLimit`] when others were faster each time.
    pub async fn checkout<N, F>(
        &self,
        thread: &Rc<Thread<N>>,
        endpoint: &Arc<EndpointState>,
        most: u32,
        connect: impl Fn() -> F,
    ) -> Result<Seat, NoSeat>
    where
        N: Net,
        F: Future<Output = Result<Opened<N::Stream>, NoSeat>> + 'static,
    {
        for _ in 0..MOST_ATTEMPTS {
            if let Some(seat) = self.take(endpoint, most) {
                return Ok(seat);
            }
            if self.takes_nobody(endpoint) {
                break;
            }
            let mut attempt = match self.join(endpoint, most) {
                Some(attempt) => attempt,
                None => self.open(thread, endpoint, most, connect()),
            };
            // The list may have been pruned meanwhile; the request still goes where it was meant to.
            let seat = {
                let _waiter = Waiter::new(&attempt.waiting);
                let mut seat = None;
                let made = attempt.made.wait_for(|made| match made {
                    Made::Not => false,
                    Made::Standing(link) => {
                        seat = link.seat(most);
                        seat.is_some()
                    }
                    Made::Done(Ok(link)) => {
                        seat = link.seat(most);
                        true
                    }
                    Made::Done(Err(_)) => true,
                });
                match made.await.as_deref() {
                    Ok(Made::Done(Err(reason))) => return Err(*reason),
                    Ok(_) => seat,
                    Err(_) => return Err(NoSeat::Failed(Reason::ConnectFailed)),
                }
            };
            if let Some(seat) = seat {
                return Ok(seat);
            }
        }
        Err(NoSeat::Failed(Reason::ConnectionLimit))
    }

    /// Takes on a connection that turned out to speak HTTP/2, and gives a place on it.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn adopt<N: Net>(
        &self,
        thread: &Rc<Thread<N>>,
        endpoint: &Arc<EndpointState>,
        most: u32,
        opened: Opened<N::Stream>,
    ) -> Result<Seat, Reason> {
        let Opened {
            pooled,
            before,
            greeted,
        } = opened;
        let place = (Rc::clone(&self.room), key(endpoint));
        let link = establish(thread, pooled, most, place).await?;
        let seat = link.seat(most).ok_or(Reason::UpstreamClosed)?;
        let (_, book) = self.begin(endpoint);
        let thread = Rc::clone(thread);
        spawn_local(async move { book.finish(&thread, link, before, greeted).await });
        Ok(seat)
    }

    /// Whether a connection stands whose server lets no stream be open: one more would not help.
    pub fn takes_nobody(&self, endpoint: &Arc<EndpointState>) -> bool {
        let entries = self.entries.borrow();
        let entry = entries.get(&key(endpoint));
        entry.is_some_and(|entry| {
            let mut links = entry.links.iter();
            links.any(|link| link.allows() == 0 && link.is_good())
        })
    }

    /// An attempt that will have a place left.
    fn join(&self, endpoint: &Arc<EndpointState>, most: u32) -> Option<Attempt> {
        let entries = self.entries.borrow();
        let entry = entries.get(&key(endpoint))?;
        let most = most.min(entry.allows);
        let has_place = |attempt: &&Attempt| {
            let gone = match &*attempt.made.borrow() {
                Made::Standing(link) => link.streams(),
                Made::Not | Made::Done(_) => 0,
            };
            attempt.waiting.get() + gone < most
        };
        entry.attempts.iter().find(has_place).cloned()
    }

    /// Lists an attempt, and gives the book in which it is written down what becomes of it.
    fn begin(&self, endpoint: &Arc<EndpointState>) -> (Attempt, Book) {
        let (report, made) = watch::channel(Made::Not);
        let attempt = Attempt {
            made,
            waiting: Rc::default(),
        };
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(key(endpoint)).or_insert_with(|| Entry {
            _endpoint: Arc::clone(endpoint),
            links: Vec::new(),
            attempts: Vec::new(),
            allows: u32::MAX,
        });
        entry.attempts.push(attempt.clone());
        let book = Book {
            entries: Rc::downgrade(&self.entries),
            endpoint: key(endpoint),
            waiting: Rc::clone(&attempt.waiting),
            report,
        };
        (attempt, book)
    }

    /// Begins an attempt.
    fn open<N: Net>(
        &self,
        thread: &Rc<Thread<N>>,
        endpoint: &Arc<EndpointState>,
        most: u32,
        connect: impl Future<Output = Result<Opened<N::Stream>, NoSeat>> + 'static,
    ) -> Attempt {
        let (attempt, book) = self.begin(endpoint);
        let (thread, place) = (Rc::clone(thread), (Rc::clone(&self.room), key(endpoint)));
        spawn_local(async move {
            let Opened {
                pooled,
                before,
                greeted,
            } = match connect.await {
                Ok(opened) => opened,
                Err(reason) => return book.done(Err(reason)),
            };
            match establish(&thread, pooled, most, place).await {
                Ok(link) => book.finish(&thread, link, before, greeted).await,
                Err(reason) => book.done(Err(NoSeat::Failed(reason))),
            }
        });
        attempt
    }
}

/// Where it is written down what becomes of an attempt.
struct Book {
    entries: Weak<RefCell<Map>>,
    endpoint: usize,
    waiting: Rc<Cell<u32>>,
    report: watch::Sender<Made>,
}

impl Book {
    /// There is a connection: one request may go on it, the others when its server has spoken.
    async fn finish<N: Net>(
        self,
        thread: &Thread<N>,
        link: Rc<Link>,
        before: Nanos,
        tell: impl FnOnce(Result<(), Reason>),
    ) {
        self.change(|entry, _| entry.links.push(Rc::clone(&link)));
        // Nobody may be waiting any more.
        let _ = self.report.send(Made::Standing(Rc::clone(&link)));
        let greeted = link.greeted(thread, before).await;
        if greeted.is_err() {
            self.change(|entry, _| entry.links.retain(|other| !Rc::ptr_eq(other, &link)));
        }
        tell(greeted);
        self.done(greeted.map(|()| link).map_err(NoSeat::Failed));
    }

    /// The attempt is over.
    fn done(self, result: Result<Rc<Link>, NoSeat>) {
        self.change(|entry, at| {
            entry.attempts.swap_remove(at);
            if let Ok(link) = &result {
                // None for now says nothing of how many it will be.
                entry.allows = match link.allows() {
                    0 => u32::MAX,
                    allows => allows,
                };
            }
        });
        let _ = self.report.send(Made::Done(result));
    }

    /// Changes the endpoint's entry, while the attempt is listed there.
    fn change(&self, change: impl FnOnce(&mut Entry, usize)) {
        let Some(entries) = self.entries.upgrade() else {
            return;
        };
        if let Some(entry) = entries.borrow_mut().get_mut(&self.endpoint) {
            let is_this = |attempt: &Attempt| Rc::ptr_eq(&attempt.waiting, &self.waiting);
            if let Some(at) = entry.attempts.iter().position(is_this) {
                change(entry, at);
            }
        }
    }
}
