//! Who waits until a cluster has room, and who tells them?
//!
//! Room is a connection that may still be opened, one that is idle, or a place on one that is shared. A data thread has
//! [`Bells`] for what comes free among its own connections, and a cluster has one for all threads, for connections that
//! may be opened again. Ringing costs a load while nobody waits.
//!
//! A place on a shared connection is for those alone who wait for its endpoint: rung for anybody, it might wake one who can't
//! use it, and nobody else. So each endpoint that is waited for has a bell of its own besides.
//!
//! What is idle on one thread can't be used by another, and counts all the same. So who finds no room knocks at the other
//! threads ([`Doors`]), which then close as many idle connections as are wanted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use foldhash::fast::RandomState;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::cluster::ClusterShared;
use crate::locked::locked;
use crate::timer::{Deadline, until};

/// Wakes a data thread that may have something to give up.
pub type Door = Arc<Notify>;

/// The threads that have connections of a cluster.
#[derive(Default)]
pub struct Doors(Mutex<Vec<Door>>);

impl Doors {
    /// Asks all threads to give up what others wait for.
    #[cold]
    pub fn knock(&self) {
        self.lock().iter().for_each(|door| door.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Door>> {
        locked(&self.0)
    }
}

/// A thread that is knocked at for a cluster, until it is dropped.
pub struct AtHome {
    shared: Arc<ClusterShared>,
    door: Door,
}

impl AtHome {
    /// Has a thread knocked at.
    pub fn new(shared: &Arc<ClusterShared>, door: Door) -> Self {
        shared.doors.lock().push(Arc::clone(&door));
        Self {
            shared: Arc::clone(shared),
            door,
        }
    }

    /// Goes over to what counts for the cluster by now.
    pub fn follow(&mut self, shared: &Arc<ClusterShared>) {
        if !Arc::ptr_eq(&self.shared, shared) {
            *self = Self::new(shared, Arc::clone(&self.door));
        }
    }
}

impl Drop for AtHome {
    fn drop(&mut self) {
        let mut doors = self.shared.doors.lock();
        if let Some(at) = doors.iter().position(|door| Arc::ptr_eq(door, &self.door)) {
            doors.swap_remove(at);
        }
    }
}

/// Wakes one of those that wait, in the order of their coming.
#[derive(Default)]
pub struct Bell {
    waiting: AtomicU32,
    notify: Notify,
}

impl Bell {
    /// Says that there may be room.
    #[inline]
    pub fn ring(&self) {
        if self.is_awaited() {
            self.notify.notify_one();
        }
    }

    /// Says the same, over threads: whoever found no room before is counted as waiting by now.
    pub fn ring_threads(&self) {
        fence(SeqCst);
        self.ring();
    }

    /// Says to all who wait that there may be room for each of them.
    pub fn ring_all(&self) {
        self.notify.notify_waiters();
    }

    /// Whether somebody waits.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.waiting() > 0
    }

    /// How many wait.
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }
}

/// One that waits, counted until it is dropped.
struct Waiting<'a>(&'a Bell);

impl<'a> Waiting<'a> {
    fn new(bell: &'a Bell) -> Self {
        bell.waiting.fetch_add(1, Relaxed);
        fence(SeqCst);
        Self(bell)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// A thread's bells for a cluster.
#[derive(Default)]
pub struct Bells {
    /// All who wait.
    any: Bell,
    /// Those who wait for an endpoint, under its key, while there are some.
    endpoints: RefCell<HashMap<usize, Rc<Bell>, RandomState>>,
}

impl Bells {
    /// Says that there may be room for anybody.
    #[inline]
    pub fn ring(&self) {
        self.any.ring();
    }

    /// Says that there may be a place on a connection to the endpoint with this key.
    #[inline]
    pub fn ring_at(&self, endpoint: usize) {
        if self.is_awaited()
            && let Some(bell) = self.endpoints.borrow().get(&endpoint)
        {
            bell.ring();
        }
    }

    /// Says to all who wait that there may be room for each of them.
    pub fn ring_all(&self) {
        self.any.ring_all();
    }

    /// Whether somebody waits.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.any.is_awaited()
    }
}

/// One that waits for an endpoint, whose bell is there until it is dropped.
struct WaitingAt<'a> {
    bells: &'a Bells,
    endpoint: usize,
    bell: Rc<Bell>,
}

impl<'a> WaitingAt<'a> {
    fn new(bells: &'a Bells, endpoint: usize) -> Self {
        let mut endpoints = bells.endpoints.borrow_mut();
        let bell = Rc::clone(endpoints.entry(endpoint).or_default());
        bell.waiting.fetch_add(1, Relaxed);
        Self {
            bells,
            endpoint,
            bell,
        }
    }
}

impl Drop for WaitingAt<'_> {
    fn drop(&mut self) {
        if self.bell.waiting.fetch_sub(1, Relaxed) == 1 {
            self.bells.endpoints.borrow_mut().remove(&self.endpoint);
        }
    }
}

/// Waits until `look` finds something for the endpoint with this key; it is asked again whenever a bell rings, one of the
/// thread's or that of the cluster. `None` when the deadline came first.
pub async fn wait_for<T>(
    thread: &Bells,
    endpoint: usize,
    shared: &ClusterShared,
    deadline: &Deadline,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let cluster = &shared.room;
    let _waiting = (Waiting::new(&thread.any), Waiting::new(cluster));
    let here = WaitingAt::new(thread, endpoint);
    let mut has_knocked = false;
    loop {
        let mut of_endpoint = pin!(here.bell.notify.notified());
        let mut of_thread = pin!(thread.any.notify.notified());
        let mut of_cluster = pin!(cluster.notify.notified());
        // Whoever rings from here on is heard.
        of_endpoint.as_mut().enable();
        of_thread.as_mut().enable();
        of_cluster.as_mut().enable();
        if let Some(found) = look() {
            return Some(found);
        }
        if !std::mem::replace(&mut has_knocked, true) {
            shared.doors.knock();
        }
        until(deadline, any([of_endpoint, of_thread, of_cluster])).await?;
    }
}

fn any<const N: usize>(mut bells: [Pin<&mut Notified<'_>>; N]) -> impl Future<Output = ()> {
    std::future::poll_fn(move |cx| {
        let mut bells = bells.iter_mut();
        match bells.any(|bell| bell.as_mut().poll(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;
    use crate::timer::Timers;

    #[tokio::test(flavor = "current_thread")]
    async fn each_ring_wakes_one_and_none_is_lost() {
        let test = async {
            let (thread, shared) = (Rc::new(Bells::default()), Arc::new(ClusterShared::default()));
            let cluster = &shared.room;
            let timers = Timers::new();
            let (room, served) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            for n in 0..10 {
                let (thread, shared) = (Rc::clone(&thread), Arc::clone(&shared));
                let (room, served) = (Rc::clone(&room), Rc::clone(&served));
                let deadline = timers.deadline();
                spawn_local(async move {
                    let look = || (room.get() > 0).then(|| room.set(room.get() - 1));
                    wait_for(&thread, n % 2, &shared, &deadline, look).await.unwrap();
                    served.set(served.get() + 1);
                });
            }
            yield_now().await;
            assert!(thread.is_awaited() && cluster.is_awaited());
            for n in 0..10 {
                room.set(1);
                if n % 2 == 0 {
                    thread.ring();
                } else {
                    cluster.ring_threads();
                }
                while served.get() == n {
                    yield_now().await;
                }
                assert_eq!((served.get(), room.get()), (n + 1, 0));
            }
            assert!(!thread.is_awaited() && !cluster.is_awaited());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_deadline_ends_the_wait() {
        let timers = Timers::new();
        let deadline = timers.deadline();
        deadline.set(5);
        timers.advance(6);
        let (thread, shared) = (Bells::default(), ClusterShared::default());
        assert_eq!(
            wait_for(&thread, 1, &shared, &deadline, || None::<()>).await,
            None
        );
        assert!(!thread.is_awaited() && thread.endpoints.borrow().is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_endpoint_s_ring_wakes_one_who_waits_for_it_whoever_came_before() {
        let test = async {
            let (bells, shared) = (Rc::new(Bells::default()), Arc::new(ClusterShared::default()));
            let timers = Timers::new();
            let (looks, room) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
            let mut waiters = Vec::new();
            for endpoint in [1, 1, 2, 2] {
                let (bells, shared) = (Rc::clone(&bells), Arc::clone(&shared));
                let (looks, room) = (Rc::clone(&looks), Rc::clone(&room));
                let deadline = timers.deadline();
                waiters.push(spawn_local(async move {
                    let look = || {
                        looks.set(looks.get() + 1);
                        (room.get() == Some(endpoint)).then(|| room.set(None))
                    };
                    wait_for(&bells, endpoint, &shared, &deadline, look)
                        .await
                        .unwrap();
                }));
                yield_now().await;
            }
            bells.ring_at(3);
            for (endpoint, served) in [(2, 2), (1, 0), (1, 1), (2, 3)] {
                let before = looks.get();
                room.set(Some(endpoint));
                bells.ring_at(endpoint);
                while room.get().is_some() {
                    yield_now().await;
                }
                while !waiters[served].is_finished() {
                    yield_now().await;
                }
                assert_eq!(looks.get(), before + 1);
            }
            assert!(!bells.is_awaited() && bells.endpoints.borrow().is_empty());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_waits_knocks_once_at_those_that_are_at_home() {
        let timers = Timers::new();
        let deadline = timers.deadline();
        deadline.set(5);
        timers.advance(6);
        let [shared, other] = [(); 2].map(|()| Arc::new(ClusterShared::default()));
        let doors = [(); 3].map(|()| Door::default());
        let [mut first, _second, third] = doors
            .each_ref()
            .map(|door| AtHome::new(&shared, Arc::clone(door)));
        first.follow(&other);
        drop(third);
        assert_eq!(
            wait_for(&Bells::default(), 1, &shared, &deadline, || None::<()>).await,
            None
        );
        let knocked = doors.each_ref().map(|door| {
            let mut knocked = pin!(door.notified());
            knocked.as_mut().enable()
        });
        assert_eq!(knocked, [false, true, false]);
    }
}
