//! What does a connection cost while nothing happens on it?
//!
//! As little as can be: its task is a state machine written by hand, whose size is that of [`Connection`] and a word or
//! two. What a request needs beyond that (the futures of its exchange, some kilobytes) is lent to the connection for as
//! long as the request takes and is used again by the next one, of whatever connection.
//!
//! ```text
//!   Beginning ─┬─> Idle <──────> Busy        HTTP/1: a request at a time
//!              ├─> Shared                    HTTP/2: boxed, since few clients have many of them
//!              └─> Over                      tunnels end where they began
//! ```

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mesh_model::errors::Reason;

use crate::connection::{ClientState, Connection, Next, begin, begin_inside};
use crate::exchange::Peer;
use crate::http1::connection::{Rest, Waiting, exchange_once, poll_idle};
use crate::http2;
use crate::io::Net;
use crate::io::wire::Wire;
use crate::panics::Guard;
use crate::plan::ListenerPermit;
use crate::telemetry::{ListenerStats, Own};
use crate::thread::{Listener, Thread};

/// Places for requests that a thread keeps for the next ones, each some kilobytes. More requests than this are seldom
/// in flight on one thread, and those make their own.
const KEPT_PLACES: usize = 64;

/// Serves a connection to its end.
pub fn serve<N: Net>(
    thread: Rc<Thread<N>>,
    listener: Rc<Listener>,
    stream: N::Stream,
    client: Option<SocketAddr>,
    permit: ListenerPermit,
) -> impl Future<Output = ()> {
    let stats = thread.telemetry.listener(&listener.plan().label);
    stats.accepted();
    let places = thread.places.of(exchange_once::<N>);
    let ended = Ended {
        guard: Arc::clone(&thread.guard),
        stats,
        reason: Some(Reason::Internal),
        is_idle: false,
    };
    let opened = thread.now();
    let wire = Wire::new(stream, Rc::clone(&thread.buffers));
    let client = ClientState {
        deadline: listener.deadline(&thread.timers),
        judged: listener.judgement(),
        opened,
        peer: Peer::new(client),
        thread,
        listener,
        permit,
        head_since: opened,
        served: 0,
    };
    let connection = Connection { client, wire };
    Serve {
        state: State::Beginning(Box::pin(begin(connection))),
        places,
        ended,
    }
}

/// A connection's task.
struct Serve<N: Net, M, F> {
    state: State<N, F>,
    places: Rc<Places<M, F>>,
    ended: Ended,
}

#[expect(clippy::large_enum_variant, reason = "idle is what most connections are")]
enum State<N: Net, F> {
    Beginning(Pin<Box<dyn Future<Output = Next<N>>>>),
    Idle(Connection<N>, Waiting),
    Busy(Place<F>),
    Shared(Pin<Box<dyn Future<Output = Option<Reason>>>>),
    Over,
}

impl<N, M, F> Future for Serve<N, M, F>
where
    N: Net,
    M: Fn(Connection<N>) -> F,
    F: Future<Output = Rest<N>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let reason = match &mut this.state {
                State::Beginning(beginning) => match ready!(beginning.as_mut().poll(cx)) {
                    Next::Http1(connection) => {
                        let waiting = Waiting::first(&connection.client);
                        this.state = State::Idle(connection, waiting);
                        this.ended.idle(true);
                        continue;
                    }
                    Next::Http2(connection) => {
                        this.state = State::Shared(Box::pin(http2::server::serve(connection)));
                        continue;
                    }
                    Next::Over(reason) => reason,
                },
                State::Idle(connection, waiting) => match ready!(poll_idle(connection, waiting, cx)) {
                    Ok(()) => {
                        this.ended.idle(false);
                        if let State::Idle(connection, _) = std::mem::replace(&mut this.state, State::Over) {
                            this.state = State::Busy(this.places.lend(connection));
                        }
                        continue;
                    }
                    Err(reason) => reason,
                },
                State::Busy(place) => {
                    let rest = match place.as_mut().as_pin_mut() {
                        Some(exchange) => ready!(exchange.poll(cx)),
                        None => Rest::Over(Some(Reason::Internal)),
                    };
                    let (next, reason) = match rest {
                        Rest::Idle(connection, waiting) => {
                            this.ended.idle(true);
                            (State::Idle(connection, waiting), None)
                        }
                        Rest::Inside(connection, name) => {
                            let beginning = Box::pin(begin_inside(connection, name));
                            (State::Beginning(beginning), None)
                        }
                        Rest::Over(reason) => (State::Over, Some(reason)),
                    };
                    if let State::Busy(place) = std::mem::replace(&mut this.state, next) {
                        this.places.take_back(place);
                    }
                    match reason {
                        Some(reason) => reason,
                        None => continue,
                    }
                }
                State::Shared(connection) => ready!(connection.as_mut().poll(cx)),
                State::Over => return Poll::Ready(()),
            };
            this.ended.reason = reason;
            this.state = State::Over;
            return Poll::Ready(());
        }
    }
}

/// Counts the connection's end, whichever it is: its own, that of its thread, or a panic, which is said as well. The runtime keeps a panic to
/// its task.
struct Ended {
    guard: Arc<Guard>,
    stats: Own<ListenerStats>,
    reason: Option<Reason>,
    is_idle: bool,
}

impl Ended {
    /// Counts the connection as one that waits for a request, or no longer.
    fn idle(&mut self, is_idle: bool) {
        if self.is_idle != is_idle {
            self.is_idle = is_idle;
            self.stats.idle(if is_idle { 1 } else { -1 });
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.idle(false);
        self.stats.closed(self.reason);
        if std::thread::panicking() {
            self.guard.contained(None);
        }
    }
}

/// Memory for one exchange.
type Place<F> = Pin<Box<Option<F>>>;

/// A thread's places for exchanges of one kind.
struct Places<M, F> {
    make: M,
    free: RefCell<Vec<Place<F>>>,
}

impl<M, F> Places<M, F> {
    fn lend<C>(&self, with: C) -> Place<F>
    where
        M: Fn(C) -> F,
    {
        let exchange = (self.make)(with);
        match self.free.borrow_mut().pop() {
            Some(mut place) => {
                place.set(Some(exchange));
                place
            }
            None => Box::pin(Some(exchange)),
        }
    }

    fn take_back(&self, mut place: Place<F>) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT_PLACES {
            place.set(None);
            free.push(place);
        }
    }
}

/// The places of all kinds of a thread. Their types have no names that [`Thread`] could say.
#[derive(Default)]
pub struct AllPlaces(RefCell<Vec<Rc<dyn Any>>>);

impl AllPlaces {
    fn of<C, M, F>(&self, make: M) -> Rc<Places<M, F>>
    where
        M: Fn(C) -> F + 'static,
        F: 'static,
    {
        let mut kinds = self.0.borrow_mut();
        let found = kinds.iter().find(|kind| kind.is::<Places<M, F>>());
        if let Some(places) = found.and_then(|kind| Rc::clone(kind).downcast().ok()) {
            return places;
        }
        let places = Rc::new(Places {
            make,
            free: RefCell::default(),
        });
        kinds.push(Rc::clone(&places) as Rc<dyn Any>);
        places
    }

    /// The future that `make` makes of `with`, in memory that futures of the same kind use one after the other.
    pub fn lend<C, M, F>(&self, make: M, with: C) -> impl Future<Output = ()> + use<C, M, F>
    where
        M: Fn(C) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let places = self.of(make);
        Lent {
            place: Some(places.lend(with)),
            places,
        }
    }
}

/// A future in a place that is given back when it has ended.
struct Lent<M, F> {
    place: Option<Place<F>>,
    places: Rc<Places<M, F>>,
}

impl<M, F: Future<Output = ()>> Future for Lent<M, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Some(future) = this.place.as_mut().and_then(|place| place.as_mut().as_pin_mut()) {
            ready!(future.poll(cx));
        }
        if let Some(place) = this.place.take() {
            this.places.take_back(place);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::socket::Sockets;

    fn size_of_task<N: Net, M, F>(_: &Rc<Places<M, F>>) -> usize {
        size_of::<Serve<N, M, F>>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let places = Rc::new(Places {
            make: exchange_once::<Sockets>,
            free: RefCell::default(),
        });
        fn bind<C, F>(_: &Places<impl Fn(C) -> F, F>) {}
        bind::<Connection<Sockets>, _>(&places);
        let size = size_of_task::<Sockets, _, _>(&places);
        assert!(size <= 384, "{size} bytes");
    }
}
