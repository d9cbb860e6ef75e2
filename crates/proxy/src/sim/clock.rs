//! Who runs when? Tasks, virtual time and randomness.
//!
//! Tasks that can go on do so in an order drawn from the seed. When none can, time jumps to the next event.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::balance::Rng;
use crate::clock::{Clock, Nanos};
use crate::timer::Timers;

pub(super) const MS: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000 * MS;

/// Polls without a byte moved, a connection made or time passed: more is spinning.
const MAX_IDLE_POLLS: u32 = 2_000;

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Event = Box<dyn FnOnce()>;

/// A world of its own. Copies are the same one.
#[derive(Clone)]
pub(super) struct Sim(Rc<Inner>);

struct Inner {
    now: Cell<Nanos>,
    rng: RefCell<Rng>,
    tasks: RefCell<Vec<Option<Task>>>,
    names: RefCell<Vec<String>>,
    ready: Ready,
    events: RefCell<BTreeMap<(Nanos, u64), Event>>,
    event_number: Cell<u64>,
    timers: RefCell<Option<Rc<Timers>>>,
    idle_polls: Cell<u32>,
    numbers: Cell<u64>,
    traces: bool,
}

/// Tasks that can go on.
type Ready = Arc<Mutex<Vec<usize>>>;

struct TaskWaker {
    task: usize,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap();
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

impl Clock for Sim {
    fn now(&self) -> Nanos {
        self.0.now.get()
    }
}

impl Sim {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            // Not zero: spans before the start must not wrap.
            now: Cell::new(SECOND),
            rng: RefCell::new(Rng::from_seed(seed)),
            tasks: RefCell::default(),
            names: RefCell::default(),
            ready: Ready::default(),
            events: RefCell::default(),
            event_number: Cell::new(0),
            timers: RefCell::default(),
            idle_polls: Cell::new(0),
            numbers: Cell::new(0),
            traces: std::env::var_os("SIM_TRACE").is_some(),
        }))
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        self.0.rng.borrow_mut().next_u64() % bound
    }

    /// True once in `n`.
    pub(super) fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub(super) fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Random bits.
    pub(super) fn bits(&self) -> u64 {
        self.0.rng.borrow_mut().next_u64()
    }

    /// A number that nobody else has.
    pub(super) fn number(&self) -> u64 {
        self.0.numbers.set(self.0.numbers.get() + 1);
        self.0.numbers.get()
    }

    /// Tells what happens, to those who look.
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if self.0.traces {
            eprintln!("{:>9.3} ms  {}", (self.now() - SECOND) as f64 / MS as f64, what());
        }
    }

    /// Deadlines to be called when their time has come.
    pub(super) fn drive(&self, timers: Rc<Timers>) {
        *self.0.timers.borrow_mut() = Some(timers);
    }

    /// Starts a task.
    pub(super) fn spawn(&self, name: impl Into<String>, future: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.tasks.borrow_mut();
        self.0.ready.lock().unwrap().push(tasks.len());
        tasks.push(Some(Box::pin(future)));
        self.0.names.borrow_mut().push(name.into());
    }

    /// Does something at a time.
    pub(super) fn at(&self, time: Nanos, event: impl FnOnce() + 'static) {
        let number = self.0.event_number.get();
        self.0.event_number.set(number + 1);
        self.0
            .events
            .borrow_mut()
            .insert((time.max(self.now()), number), Box::new(event));
    }

    /// Waits.
    pub(super) async fn sleep(&self, span: Nanos) {
        let at = self.now() + span;
        let mut armed = false;
        poll_fn(|cx| {
            if self.now() >= at {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut armed, true) {
                let waker = cx.waker().clone();
                self.at(at, move || waker.wake());
            }
            Poll::Pending
        })
        .await;
    }

    /// What a future gives, or nothing when that takes longer than `span`.
    pub(super) async fn within<F: Future>(&self, span: Nanos, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut late = std::pin::pin!(self.sleep(span));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Something got on.
    pub(super) fn moved(&self) {
        self.0.idle_polls.set(0);
    }

    /// Names of the tasks that have not ended.
    pub(super) fn running(&self) -> Vec<String> {
        let tasks = self.0.tasks.borrow();
        let names = self.0.names.borrow();
        let running = tasks.iter().zip(&*names).filter(|(task, _)| task.is_some());
        running.map(|(_, name)| name.clone()).collect()
    }

    /// Drops every task and event, which hold on to each other.
    pub(super) fn forget(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(tasks);
        let events = std::mem::take(&mut *self.0.events.borrow_mut());
        drop(events);
        self.0.ready.lock().unwrap().clear();
        *self.0.timers.borrow_mut() = None;
    }

    /// Runs until `done`, or until nothing more happens before `end`. Gives whether it was done.
    pub(super) fn run_until(&self, end: Nanos, done: impl Fn() -> bool) -> bool {
        loop {
            while let Some(task) = self.next_task() {
                self.poll(task);
            }
            if done() {
                return true;
            }
            let Some(next) = self.next_time().filter(|next| *next <= end) else {
                self.0.now.set(end.max(self.now()));
                return false;
            };
            self.pass_to(next);
        }
    }

    /// Does the smallest thing that can be done next: lets one task go on, or, where none can, time.
    pub(super) fn step(&self) {
        match (self.next_task(), self.next_time()) {
            (Some(task), _) => self.poll(task),
            (None, Some(next)) => self.pass_to(next),
            (None, None) => {}
        }
    }

    /// When something happens next.
    fn next_time(&self) -> Option<Nanos> {
        let timer = self.0.timers.borrow().as_ref().and_then(|timers| timers.next());
        let event = self.0.events.borrow().keys().next().map(|(at, _)| *at);
        [timer, event].into_iter().flatten().min()
    }

    fn pass_to(&self, time: Nanos) {
        if time > self.now() {
            self.0.now.set(time);
            self.moved();
        }
        loop {
            let mut events = self.0.events.borrow_mut();
            let due = events.first_entry().filter(|entry| entry.key().0 <= self.now());
            let Some(event) = due.map(|entry| entry.remove()) else {
                break;
            };
            drop(events);
            event();
        }
        let timers = self.0.timers.borrow().clone();
        if let Some(timers) = timers.filter(|timers| timers.next().is_some_and(|at| at <= self.now())) {
            timers.advance(self.now());
        }
    }

    fn next_task(&self) -> Option<usize> {
        let mut ready = self.0.ready.lock().unwrap();
        if ready.is_empty() {
            return None;
        }
        let chosen = self.below(ready.len() as u64) as usize;
        Some(ready.swap_remove(chosen))
    }

    fn poll(&self, task: usize) {
        let Some(mut future) = self.0.tasks.borrow_mut()[task].take() else {
            return;
        };
        self.0.idle_polls.set(self.0.idle_polls.get() + 1);
        assert!(
            self.0.idle_polls.get() < MAX_IDLE_POLLS,
            "{} spins",
            self.0.names.borrow()[task]
        );
        let waker = Waker::from(Arc::new(TaskWaker {
            task,
            ready: Arc::clone(&self.0.ready),
        }));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                self.moved();
                drop(future);
            }
            Poll::Pending => self.0.tasks.borrow_mut()[task] = Some(future),
        }
    }
}
