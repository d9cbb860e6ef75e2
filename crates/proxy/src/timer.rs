//! How can every connection have deadlines when setting one must cost nothing?
//!
//! Deadlines move with every request and are hardly ever reached. So a connection owns one [`Deadline`]: moving it
//! later is a store into a cell. A heap holds, for each deadline, the earliest time at which somebody must look; when
//! that time comes the deadline is read again and, if it has moved, waits on. Only a deadline that moves *before* the
//! time already waited for touches the heap.
//!
//! A deadline may be capped by a time that many share and that may come nearer at once, such as a drain's end: whoever
//! moves it calls [`Timers::wake_all`] or [`Timers::wake_capped`], and every wait under such a deadline ends by then without
//! knowing of it.
//!
//! Invariants: a deadline that is not [`NEVER`] has an entry in the heap at or before it; an entry whose key is gone or
//! reused is skipped (its generation differs); entries that mean nothing any more are never many more than the others.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mesh_model::errors::Reason;
use slab::Slab;

use crate::clock::{NEVER, Nanos};

/// A thread's deadlines.
#[derive(Default)]
pub struct Timers {
    inner: RefCell<Inner>,
    /// The earliest time in the heap; read by the driver.
    next: Cell<Option<Nanos>>,
    /// The time that was last said.
    time: Cell<Nanos>,
    /// The driver, woken when `next` moves earlier.
    driver: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Inner {
    slots: Slab<Slot>,
    heap: BinaryHeap<Reverse<Entry>>,
    generations: u32,
}

struct Slot {
    at: Nanos,
    /// It is due by then at the latest.
    cap: Option<Rc<Cap>>,
    /// The earliest heap entry of this slot.
    armed: Nanos,
    generation: u32,
    waker: Option<Waker>,
}

/// Entries that mean nothing are thrown out when they are as many as the deadlines and these: so each push pays for the
/// throwing out of one, and a time far away, which a caller may choose, holds no memory once nobody waits for it.
const MOST_STALE: usize = 64;

impl Inner {
    /// Whether an entry is the one that its deadline waits for.
    fn is_armed(slots: &Slab<Slot>, entry: &Entry) -> bool {
        let slot = slots.get(entry.key as usize);
        slot.is_some_and(|slot| slot.generation == entry.generation && slot.armed == entry.at)
    }

    /// Throws out what means nothing any more, if that is worth it.
    fn tidy(&mut self) {
        let Self { slots, heap, .. } = self;
        if heap.len() > MOST_STALE + 2 * slots.len() {
            heap.retain(|Reverse(entry)| Self::is_armed(slots, entry));
            heap.shrink_to(MOST_STALE + 2 * slots.len());
        }
    }
}

/// A time that caps deadlines, and why: what waits then is cut.
pub struct Cap {
    at: Cell<Nanos>,
    why: Reason,
    /// What caps this one: a listener's end that of its connections.
    outer: Option<Rc<Self>>,
}

impl Cap {
    /// One that is [`NEVER`].
    pub fn new(why: Reason) -> Rc<Self> {
        Self::within(None, why)
    }

    /// One that is [`NEVER`], and never later than another.
    pub fn within(outer: Option<Rc<Self>>, why: Reason) -> Rc<Self> {
        let at = Cell::new(NEVER);
        Rc::new(Self { at, why, outer })
    }

    /// Moves it. Where it comes nearer, the caller wakes those who wait.
    pub fn set(&self, at: Nanos) {
        self.at.set(at);
    }

    /// The time that was set last, whatever caps it.
    pub fn own(&self) -> Nanos {
        self.at.get()
    }

    /// When all under it must be over.
    #[inline]
    pub fn end(&self) -> Nanos {
        self.outer
            .as_ref()
            .map_or(self.at.get(), |outer| self.at.get().min(outer.at.get()))
    }

    /// Why that is its end.
    pub fn why(&self) -> Reason {
        match &self.outer {
            Some(outer) if outer.at.get() <= self.at.get() => outer.why,
            _ => self.why,
        }
    }
}

impl Slot {
    fn due(&self) -> Nanos {
        self.at.min(self.end())
    }

    fn end(&self) -> Nanos {
        self.cap.as_ref().map_or(NEVER, |cap| cap.end())
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Nanos,
    key: u32,
    generation: u32,
}

impl Timers {
    /// No deadlines.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// A new deadline that is [`NEVER`].
    pub fn deadline(self: &Rc<Self>) -> Deadline {
        self.new_deadline(None)
    }

    /// A new deadline that is [`NEVER`], and never later than `cap`.
    pub fn capped(self: &Rc<Self>, cap: &Rc<Cap>) -> Deadline {
        self.new_deadline(Some(Rc::clone(cap)))
    }

    fn new_deadline(self: &Rc<Self>, cap: Option<Rc<Cap>>) -> Deadline {
        let mut inner = self.inner.borrow_mut();
        inner.generations = inner.generations.wrapping_add(1);
        let generation = inner.generations;
        let key = inner.slots.insert(Slot {
            at: NEVER,
            cap,
            armed: NEVER,
            generation,
            waker: None,
        });
        // A thread holds far fewer than 2^32 connections: descriptors are ints.
        Deadline {
            timers: Rc::clone(self),
            key: key as u32,
        }
    }

    /// When [`Timers::advance`] must be called next.
    pub fn next(&self) -> Option<Nanos> {
        self.next.get()
    }

    /// Whether a time has come, by the one that was last said to [`Timers::advance`], so that no clock is read. It is as
    /// late as the deadlines that wait for it, so somebody's must.
    #[inline]
    pub fn has_come(&self, at: Nanos) -> bool {
        at <= self.time.get()
    }

    /// Registers who calls [`Timers::advance`]; it is woken when the next deadline comes nearer.
    pub fn register_driver(&self, cx: &Context<'_>) {
        *self.driver.borrow_mut() = Some(cx.waker().clone());
    }

    /// Wakes the owners of all deadlines that are due.
    pub fn advance(&self, now: Nanos) {
        let now = now.max(self.time.get());
        self.time.set(now);
        let mut due = Vec::new();
        {
            let inner = &mut *self.inner.borrow_mut();
            while let Some(Reverse(entry)) = inner.heap.peek() {
                if entry.at > now {
                    break;
                }
                let Some(Reverse(entry)) = inner.heap.pop() else {
                    break;
                };
                if !Inner::is_armed(&inner.slots, &entry) {
                    continue;
                }
                let Some(slot) = inner.slots.get_mut(entry.key as usize) else {
                    continue;
                };
                slot.armed = NEVER;
                let at = slot.due();
                if at <= now {
                    due.extend(slot.waker.take());
                } else if at != NEVER {
                    slot.armed = at;
                    inner.heap.push(Reverse(Entry { at, ..entry }));
                }
            }
            self.next.set(inner.heap.peek().map(|entry| entry.0.at));
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// Wakes every owner, so that each looks at the state of the world again. Used by drain.
    pub fn wake_all(&self) {
        self.wake(|_| true);
    }

    /// Wakes the owners of those deadlines that this caps, since it came nearer. Looks at all there are.
    pub fn wake_capped(&self, by: &Rc<Cap>) {
        self.wake(|cap| cap.is_some_and(|cap| Rc::ptr_eq(cap, by)));
    }

    fn wake(&self, is_meant: impl Fn(Option<&Rc<Cap>>) -> bool) {
        let wakers: Vec<_> = self
            .inner
            .borrow_mut()
            .slots
            .iter_mut()
            .filter(|(_, slot)| is_meant(slot.cap.as_ref()))
            .filter_map(|(_, slot)| slot.waker.take())
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One deadline, owned by a connection or a stream.
pub struct Deadline {
    timers: Rc<Timers>,
    key: u32,
}

impl Deadline {
    /// Moves the deadline. Later than before costs a store.
    pub fn set(&self, at: Nanos) {
        let inner = &mut *self.timers.inner.borrow_mut();
        let Some(slot) = inner.slots.get_mut(self.key as usize) else {
            return;
        };
        slot.at = at;
        if slot.due() < slot.armed {
            self.arm(inner);
        }
    }

    /// Sees that somebody looks when it is due, which is before anybody would.
    fn arm(&self, inner: &mut Inner) {
        let Some(slot) = inner.slots.get_mut(self.key as usize) else {
            return;
        };
        let at = slot.due();
        slot.armed = at;
        inner.heap.push(Reverse(Entry {
            at,
            key: self.key,
            generation: slot.generation,
        }));
        inner.tidy();
        if self.timers.next.get().is_none_or(|next| at < next) {
            self.timers.next.set(Some(at));
            if let Some(driver) = &*self.timers.driver.borrow() {
                driver.wake_by_ref();
            }
        }
    }

    /// A new deadline that is [`NEVER`], and never later than what caps this one.
    pub fn another(&self) -> Self {
        let cap = {
            let inner = self.timers.inner.borrow();
            let slot = inner.slots.get(self.key as usize);
            slot.and_then(|slot| slot.cap.clone())
        };
        self.timers.new_deadline(cap)
    }

    /// When it is due.
    pub fn at(&self) -> Nanos {
        self.timers
            .inner
            .borrow()
            .slots
            .get(self.key as usize)
            .map_or(NEVER, Slot::due)
    }

    /// Caps it once more, by a time of its own; [`NEVER`] takes that back. `why` tells it from what caps it besides.
    pub fn end_by(&self, at: Nanos, why: Reason) {
        let inner = &mut *self.timers.inner.borrow_mut();
        let Some(slot) = inner.slots.get_mut(self.key as usize) else {
            return;
        };
        match &slot.cap {
            Some(cap) if cap.why == why => cap.set(at),
            _ if at == NEVER => return,
            outer => {
                let cap = Cap::within(outer.clone(), why);
                cap.set(at);
                slot.cap = Some(cap);
            }
        }
        if slot.due() < slot.armed {
            self.arm(inner);
        }
    }

    /// When what caps it comes.
    pub fn end(&self) -> Nanos {
        let inner = self.timers.inner.borrow();
        inner.slots.get(self.key as usize).map_or(NEVER, Slot::end)
    }

    /// Why what caps it has come, if it has: who waited until then was cut by that, whatever else it waited for.
    pub fn cut(&self) -> Option<Reason> {
        let inner = self.timers.inner.borrow();
        let cap = inner.slots.get(self.key as usize)?.cap.as_ref()?;
        self.timers.has_come(cap.end()).then(|| cap.why())
    }

    /// Registers the task to be woken at the deadline (or by [`Timers::wake_all`]).
    pub fn register(&self, cx: &Context<'_>) {
        let inner = &mut *self.timers.inner.borrow_mut();
        let Some(slot) = inner.slots.get_mut(self.key as usize) else {
            return;
        };
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if slot.due() < slot.armed {
            self.arm(inner);
        }
    }

    /// Whether the deadline has passed, by the time that was last said to [`Timers::advance`], so that no clock is read;
    /// registers the task when not.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.timers.has_come(self.at()) {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.timers.inner.borrow_mut().slots.try_remove(self.key as usize);
    }
}

/// Waits for a future until a deadline; `None` when that came first.
pub async fn until<F: Future>(deadline: &Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        deadline.poll(cx).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::task::Wake;

    use super::*;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicU32::new(0)));
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn wakes_at_the_deadline_and_not_before() {
        let timers = Timers::new();
        let deadline = timers.deadline();
        let (count, waker) = counter();
        let cx = Context::from_waker(&waker);
        deadline.set(100);
        assert!(deadline.poll(&cx).is_pending());
        timers.advance(99);
        assert_eq!(count.0.load(Relaxed), 0);
        timers.advance(100);
        assert_eq!(count.0.load(Relaxed), 1);
        assert!(deadline.poll(&cx).is_ready());
    }

    #[test]
    fn deadlines_that_are_gone_hold_no_memory() {
        let timers = Timers::new();
        let long_lived: Vec<_> = (0..10).map(|_| timers.deadline()).collect();
        for (number, deadline) in long_lived.iter().enumerate() {
            deadline.set(500 + number as Nanos);
        }
        let heap = || timers.inner.borrow().heap.len();
        let most = MOST_STALE + 2 * (long_lived.len() + 1) + 1;
        for number in 0..100_000 {
            timers.deadline().set(1_000_000 + number);
            assert!(heap() <= most, "{}", heap());
        }
        assert!(timers.inner.borrow().heap.capacity() <= 4 * most);
        // Those that are waited for are all there.
        let (count, waker) = counter();
        let cx = Context::from_waker(&waker);
        for deadline in &long_lived {
            assert!(deadline.poll(&cx).is_pending());
        }
        timers.advance(504);
        assert_eq!((count.0.load(Relaxed), timers.next()), (5, Some(505)));
    }

    #[test]
    fn a_later_deadline_is_found_lazily() {
        let timers = Timers::new();
        let deadline = timers.deadline();
        let (count, waker) = counter();
        let cx = Context::from_waker(&waker);
        deadline.set(100);
        deadline.register(&cx);
        deadline.set(300);
        assert_eq!(timers.next(), Some(100));
        timers.advance(100);
        assert_eq!((count.0.load(Relaxed), timers.next()), (0, Some(300)));
        deadline.set(200);
        assert_eq!(timers.next(), Some(200));
        timers.advance(250);
        assert_eq!(count.0.load(Relaxed), 1);
        timers.advance(400);
        assert_eq!(count.0.load(Relaxed), 1);
    }

    #[test]
    fn a_dropped_deadline_wakes_nobody_even_when_its_slot_is_reused() {
        let timers = Timers::new();
        let (count, waker) = counter();
        let cx = Context::from_waker(&waker);
        let old = timers.deadline();
        old.set(100);
        drop(old);
        let new = timers.deadline();
        new.register(&cx);
        new.set(1000);
        timers.advance(500);
        assert_eq!(count.0.load(Relaxed), 0);
        timers.advance(1000);
        assert_eq!(count.0.load(Relaxed), 1);
    }

    #[test]
    fn a_cap_that_comes_nearer_ends_waits_that_began_before() {
        let timers = Timers::new();
        let (count, waker) = counter();
        let cx = Context::from_waker(&waker);
        let cap = Cap::new(Reason::Draining);
        let deadline = timers.capped(&cap);
        deadline.set(1000);
        assert!(deadline.poll(&cx).is_pending());
        cap.set(300);
        timers.wake_all();
        assert_eq!(count.0.load(Relaxed), 1);
        assert!(deadline.poll(&cx).is_pending());
        assert_eq!((timers.next(), deadline.at()), (Some(300), 300));
        timers.advance(300);
        assert_eq!(count.0.load(Relaxed), 2);
        assert!(deadline.poll(&cx).is_ready());
        deadline.set(NEVER);
        assert!(deadline.poll(&cx).is_ready());
        assert!(deadline.another().poll(&cx).is_ready());
        assert!(timers.deadline().another().poll(&cx).is_pending());
    }

    #[test]
    fn a_cap_within_another_wakes_its_own_and_says_which_of_them_came() {
        let timers = Timers::new();
        let outer = Cap::new(Reason::Draining);
        let caps = [(); 2].map(|()| Cap::within(Some(Rc::clone(&outer)), Reason::MaxConnectionAge));
        let deadlines = caps.each_ref().map(|cap| timers.capped(cap));
        let watched = [counter(), counter()];
        let looks = |n: usize| deadlines[n].poll(&Context::from_waker(&watched[n].1));
        let woken = || watched.each_ref().map(|(count, _)| count.0.load(Relaxed));
        assert!(looks(0).is_pending() && looks(1).is_pending());
        caps[0].set(300);
        timers.wake_capped(&caps[0]);
        assert_eq!((woken(), timers.next()), ([1, 0], None));
        assert!(looks(0).is_pending());
        timers.advance(300);
        assert_eq!(woken(), [2, 0]);
        assert!(looks(0).is_ready() && looks(1).is_pending());
        assert_eq!(
            deadlines.each_ref().map(Deadline::cut),
            [Some(Reason::MaxConnectionAge), None]
        );
        outer.set(200);
        assert_eq!(
            deadlines.each_ref().map(Deadline::cut),
            [Some(Reason::Draining); 2]
        );
        assert!(looks(1).is_ready());
    }

    #[test]
    fn a_deadline_with_an_end_of_its_own_is_capped_by_what_capped_it_before() {
        let timers = Timers::new();
        let (count, waker) = counter();
        let cx = Context::from_waker(&waker);
        let outer = Cap::new(Reason::Draining);
        let deadline = timers.capped(&outer);
        let other = deadline.another();
        deadline.end_by(NEVER, Reason::MaxConnectionAge);
        assert!(deadline.poll(&cx).is_pending());
        deadline.end_by(100, Reason::MaxConnectionAge);
        assert_eq!(
            (deadline.end(), timers.next(), other.end()),
            (100, Some(100), NEVER)
        );
        deadline.end_by(500, Reason::MaxConnectionAge);
        timers.advance(100);
        assert_eq!((count.0.load(Relaxed), deadline.cut()), (0, None));
        outer.set(300);
        timers.wake_all();
        assert_eq!((deadline.at(), deadline.another().at()), (300, 300));
        timers.advance(300);
        assert_eq!(deadline.cut(), Some(Reason::Draining));
        outer.set(NEVER);
        timers.advance(500);
        assert_eq!(deadline.cut(), Some(Reason::MaxConnectionAge));
        deadline.end_by(NEVER, Reason::MaxConnectionAge);
        assert_eq!((deadline.cut(), deadline.at()), (None, NEVER));
    }

    #[test]
    fn never_switches_a_deadline_off() {
        let timers = Timers::new();
        let (count, waker) = counter();
        let cx = Context::from_waker(&waker);
        let deadline = timers.deadline();
        deadline.set(10);
        deadline.register(&cx);
        deadline.set(NEVER);
        timers.advance(20);
        assert_eq!((count.0.load(Relaxed), timers.next()), (0, None));
        timers.wake_all();
        assert_eq!(count.0.load(Relaxed), 1);
    }
}
