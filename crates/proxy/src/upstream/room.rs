//! Who waits until a cluster has room, and who tells them?
//!
//! Room is a connection that may still be opened, one that is idle, or a place on one that is shared. A data thread has
//! a [`Bell`] for what comes free among its own connections, and a cluster has one for all threads, for connections that
//! may be opened again. Ringing costs a load while nobody waits.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::task::Poll;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::timer::{Deadline, until};

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

    /// Whether somebody waits.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Relaxed) > 0
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

/// Waits until `look` finds something; it is asked again whenever one of the bells rings. `None` when the deadline came
/// first.
pub async fn wait_for<T>(
    thread: &Bell,
    cluster: &Bell,
    deadline: &Deadline,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let _waiting = (Waiting::new(thread), Waiting::new(cluster));
    loop {
        let mut of_thread = pin!(thread.notify.notified());
        let mut of_cluster = pin!(cluster.notify.notified());
        // Whoever rings from here on is heard.
        of_thread.as_mut().enable();
        of_cluster.as_mut().enable();
        if let Some(found) = look() {
            return Some(found);
        }
        until(deadline, either(of_thread, of_cluster)).await?;
    }
}

fn either<'a>(
    mut one: Pin<&'a mut Notified<'_>>,
    mut other: Pin<&'a mut Notified<'_>>,
) -> impl Future<Output = ()> {
    std::future::poll_fn(move |cx| {
        if one.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        other.as_mut().poll(cx)
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
            let (thread, cluster) = (Rc::new(Bell::default()), Rc::new(Bell::default()));
            let timers = Timers::new();
            let (room, served) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            for _ in 0..10 {
                let (thread, cluster) = (Rc::clone(&thread), Rc::clone(&cluster));
                let (room, served) = (Rc::clone(&room), Rc::clone(&served));
                let deadline = timers.deadline();
                spawn_local(async move {
                    let look = || (room.get() > 0).then(|| room.set(room.get() - 1));
                    wait_for(&thread, &cluster, &deadline, look).await.unwrap();
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
        let (thread, cluster) = (Bell::default(), Bell::default());
        assert_eq!(wait_for(&thread, &cluster, &deadline, || None::<()>).await, None);
        assert!(!thread.is_awaited());
    }
}
