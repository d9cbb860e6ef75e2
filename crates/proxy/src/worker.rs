//! A data thread: one single-threaded runtime that accepts connections and serves them.
//!
//! It does what the control thread tells it through a channel and never asks back: plans and sockets come in, and what
//! it counts lies in atomics that others read.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mesh_identity::MeshTls;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bind::Listening;
use crate::clock::{NEVER, SystemClock};
use crate::dialled::Dialled;
use crate::io::acceptor::Acceptor;
use crate::io::socket::{Socket, Sockets};
use crate::log::Log;
use crate::panics::Guard;
use crate::plan::{ListenerPermit, Plan};
use crate::task;
use crate::telemetry::{Limit, Telemetry, ThreadTelemetry};
use crate::thread::{Drain, Listener, Thread};
use crate::timer::Timers;

/// How long a thread waits when it may not or can't accept: long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How often buffers are trimmed and idle connections looked at.
const TICK: Duration = Duration::from_secs(1);

/// What the control thread says.
pub enum Command {
    /// A new plan.
    Plan(Arc<Plan>),
    /// Accept here. The listener is in the plan that came before.
    Listen(Arc<str>, Listening, Accepting, Open),
    /// The sockets of this listener are kept for another one, which is to come.
    Hold(Arc<str>),
    /// The sockets that were kept of the first listener are the second's from now on. It is in the plan that came before.
    HandOn(Arc<str>, Arc<str>),
    /// A listener goes the way out, or all of them, those that are no more included.
    Drain(Option<Arc<str>>, Drain),
    /// Somebody was revoked.
    JudgeAgain,
    /// Panic, so that tests see what becomes of it.
    Panic,
    /// End now, whatever is in flight.
    Stop,
}

/// Held for as long as a thread accepts, and takes in whoever is in the queue then.
pub type Accepting = Arc<()>;
/// Held for as long as a thread has a listening socket open.
pub type Open = Arc<()>;

/// A running data thread.
pub struct Worker {
    commands: UnboundedSender<Command>,
    handle: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts data thread `number`.
    ///
    /// # Errors
    /// The system has no thread or no descriptors for another runtime.
    pub fn start(
        number: usize,
        clock: SystemClock,
        telemetry: Arc<Telemetry>,
        log: Arc<Log>,
        identity: Option<Arc<MeshTls>>,
        dialled: Arc<Dialled>,
        seed: u64,
    ) -> io::Result<Self> {
        let (commands, received) = unbounded_channel();
        // The runtime is built on its thread; a failure must still be the caller's.
        let (built, is_built) = std::sync::mpsc::channel();
        let handle = std::thread::Builder::new()
            .name(format!("mesh-data-{number}"))
            .spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        let _ = built.send(Ok(()));
                        let guard = Arc::new(Guard::new(Arc::clone(&telemetry), log));
                        let telemetry = ThreadTelemetry::new(telemetry, number);
                        let thread =
                            Thread::new(Sockets { clock, dialled }, telemetry, guard, identity, seed);
                        runtime.block_on(run(thread, clock, received));
                    }
                    Err(error) => {
                        let _ = built.send(Err(error));
                    }
                }
            })?;
        match is_built.recv() {
            Ok(Ok(())) => Ok(Self {
                commands,
                handle: Some(handle),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the data thread did not start")),
        }
    }

    /// Tells it something. It is gone only after [`Command::Stop`].
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

type Data = Rc<Thread<Sockets>>;

/// Connections that were accepted and wait for room.
type Queued = VecDeque<(Socket, Option<SocketAddr>)>;

/// Stops accepting, or goes on for another listener.
#[derive(Default)]
struct Stop {
    asked: Notify,
    told: RefCell<Told>,
}

/// What somebody who accepts was told. He may be woken once more than that.
#[derive(Default)]
struct Told {
    next: Option<Rc<Listener>>,
    stops: bool,
}

impl Stop {
    /// Those who come from now on come to another listener.
    fn go_on_for(&self, next: Rc<Listener>) {
        self.told.borrow_mut().next = Some(next);
        self.asked.notify_one();
    }

    /// Nobody else is let in.
    fn stop(&self) {
        self.told.borrow_mut().stops = true;
        self.asked.notify_one();
    }

    /// Does what it was told. False when it is to stop.
    fn goes_on(&self, listener: &mut Rc<Listener>) -> bool {
        let Told { next, stops } = self.told.take();
        if let Some(next) = next {
            *listener = next;
        }
        !stops
    }
}

/// By listener name.
type Stops = HashMap<Arc<str>, Rc<Stop>>;

async fn run(thread: Data, clock: SystemClock, mut commands: UnboundedReceiver<Command>) {
    let guard = Arc::clone(&thread.guard);
    tokio::task::spawn_local(for_ever(Arc::clone(&guard), {
        let timers = Rc::clone(&thread.timers);
        move || drive(Rc::clone(&timers), clock)
    }));
    tokio::task::spawn_local(for_ever(Arc::clone(&guard), {
        let thread = Rc::clone(&thread);
        move || tick(Rc::clone(&thread))
    }));
    let (mut stops, mut held) = (Stops::new(), Stops::new());
    while let Some(command) = commands.recv().await {
        match command {
            Command::Plan(plan) => {
                for name in thread.update(plan) {
                    if let (Some(stop), Some(listener)) = (stops.get(&name), thread.listener(&name)) {
                        stop.go_on_for(listener);
                    }
                }
            }
            Command::JudgeAgain => thread.judge_again(),
            Command::Listen(name, socket, accepting, open) => {
                let Some(listener) = thread.listener(&name) else {
                    continue;
                };
                let stop = Rc::<Stop>::default();
                stops.insert(name, Rc::clone(&stop));
                match Acceptor::new(socket) {
                    Ok(acceptor) => {
                        let (guard, accept) = (
                            Arc::clone(&guard),
                            accept(Rc::clone(&thread), listener, (acceptor, open), stop),
                        );
                        tokio::task::spawn_local(async move {
                            guard.watch(accept).await;
                            drop(accepting);
                        });
                    }
                    Err(error) => guard
                        .log
                        .error("a listening socket was lost", &[("error", &error)]),
                }
            }
            Command::Hold(name) => held.extend(stops.remove_entry(&name)),
            Command::HandOn(from, to) => {
                let (Some(stop), Some(listener)) = (held.remove(&from), thread.listener(&to)) else {
                    continue;
                };
                stop.go_on_for(listener);
                stops.insert(to, stop);
            }
            Command::Drain(name, drain) => {
                let closing = matches!(drain, Drain::Until(_));
                let listeners = match &name {
                    Some(name) if closing => thread.remove_listener(name).into_iter().collect(),
                    Some(name) => thread.listener(name).into_iter().collect(),
                    None if closing => thread.remove_listeners(),
                    None => thread.listeners(),
                };
                for listener in &listeners {
                    listener.set_drain(drain, thread.now());
                }
                if let Drain::Until(until) = drain {
                    thread.hasten(name.as_deref(), until);
                }
                if closing {
                    stops.retain(|listener, stop| {
                        let stays = name.as_ref().is_some_and(|name| name != listener);
                        if !stays {
                            stop.stop();
                        }
                        stays
                    });
                }
                thread.timers.wake_all();
            }
            #[expect(clippy::panic, reason = "it is asked for")]
            Command::Panic => {
                let guard = Arc::clone(&guard);
                tokio::task::spawn_local(async move { guard.watch(async { panic!("as asked") }).await });
            }
            Command::Stop => return,
        }
    }
}

/// Calls the deadlines when their time has come.
async fn drive(timers: Rc<Timers>, clock: SystemClock) {
    let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        timers.register_driver(cx);
        loop {
            let Some(at) = timers.next() else {
                return Poll::Pending;
            };
            if at == NEVER {
                return Poll::Pending;
            }
            sleep.as_mut().reset(clock.instant(at).into());
            match sleep.as_mut().poll(cx) {
                // By the time at which the runtime has looked at all sockets, not by that of now: what came while the
                // thread was busy, or stood still, is seen before anybody takes its peer for silent.
                Poll::Ready(()) => timers.advance(at),
                Poll::Pending => return Poll::<()>::Pending,
            }
        }
    })
    .await;
}

async fn tick(thread: Data) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => thread.tick(),
            () = thread.door.notified() => thread.give_up(),
        }
    }
}

async fn accept(
    thread: Data,
    mut listener: Rc<Listener>,
    (acceptor, open): (Acceptor, Open),
    stop: Rc<Stop>,
) {
    let mut stopped = pin!(stop.asked.notified());
    // Who waits for room when it ends.
    let mut waits = None;
    loop {
        let next = poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            acceptor.poll_accept(cx).map(Some)
        })
        .await;
        let Some(accepted) = next else {
            if !stop.goes_on(&mut listener) {
                break;
            }
            stopped.set(stop.asked.notified());
            continue;
        };
        // Without room or descriptors, the others wait in the kernel's queue meanwhile.
        match accepted {
            Ok((socket, client)) => {
                let is_high = !socket.leaves_enough();
                if is_high && !socket.may_wait() {
                    // The last descriptors are not for clients, and others wait with those before.
                    drop(socket);
                    out_of_descriptors(&thread, &listener).await;
                    continue;
                }
                let admitted = loop {
                    let high = is_high.then_some(&socket);
                    let room = room(&thread, &listener, high, stopped.as_mut()).await;
                    if room.is_some() || !stop.goes_on(&mut listener) {
                        break room;
                    }
                    stopped.set(stop.asked.notified());
                };
                let Some((permit, lowered)) = admitted else {
                    waits = Some((socket, client));
                    break;
                };
                admit(&thread, &listener, lowered.unwrap_or(socket), client, permit);
            }
            // The client left before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => out_of_descriptors(&thread, &listener).await,
        }
    }
    // Whoever was in the queue when the listener closed, or on his way there, is still served.
    let stats = thread.telemetry.listener(&listener.plan().label);
    let mut queued = Queued::new();
    let mut take = |socket: Socket, client| match permit(&listener).filter(|_| queued.is_empty()) {
        Some(permit) => admit(&thread, &listener, socket, client, permit),
        None if socket.leaves_enough() => queued.push_back((socket, client)),
        None => stats.limit_hit(Limit::FileDescriptors),
    };
    if let Some((socket, client)) = waits {
        take(socket, client);
    }
    acceptor.close(take).await;
    drop(open);
    take_in(&thread, &listener, queued).await;
}

/// Serves those who wait, as others go, for as long as there is time to serve them in.
async fn take_in(thread: &Data, listener: &Rc<Listener>, mut queued: Queued) {
    while let Some((socket, client)) = queued.pop_front() {
        let permit = loop {
            match permit(listener) {
                None if thread.now() < listener.drain_deadline() => tokio::time::sleep(ACCEPT_PAUSE).await,
                permit => break permit,
            }
        };
        match permit {
            Some(permit) => admit(thread, listener, socket, client, permit),
            None => {
                let stats = thread.telemetry.listener(&listener.plan().label);
                stats.limit_hit(Limit::Connections);
            }
        }
    }
}

async fn out_of_descriptors(thread: &Data, listener: &Listener) {
    let stats = thread.telemetry.listener(&listener.plan().label);
    stats.limit_hit(Limit::FileDescriptors);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn permit(listener: &Listener) -> Option<ListenerPermit> {
    let plan = listener.plan();
    plan.shared.connection(plan.resource.limits.connections)
}

/// Waits until the listener may hold one more connection. A socket whose descriptor is too `high` waits until there is a
/// lower one, which is given with the permit. `None` when the listener is to stop.
async fn room(
    thread: &Data,
    listener: &Listener,
    high: Option<&Socket>,
    mut stopped: Pin<&mut Notified<'_>>,
) -> Option<(ListenerPermit, Option<Socket>)> {
    let limit_hit = |limit| {
        let stats = thread.telemetry.listener(&listener.plan().label);
        stats.limit_hit(limit);
    };
    if high.is_some() {
        limit_hit(Limit::FileDescriptors);
    }
    let mut is_full = false;
    loop {
        let lowered = high.and_then(|socket| socket.lowered()?.ok());
        if lowered.is_some() || high.is_none() {
            if let Some(permit) = permit(listener) {
                return Some((permit, lowered));
            }
            if !std::mem::replace(&mut is_full, true) {
                limit_hit(Limit::Connections);
            }
        }
        drop(lowered);
        tokio::select! {
            () = stopped.as_mut() => return None,
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
        }
    }
}

/// Serves an accepted connection.
fn admit(
    thread: &Data,
    listener: &Rc<Listener>,
    socket: Socket,
    client: Option<SocketAddr>,
    permit: ListenerPermit,
) {
    let (thread, listener) = (Rc::clone(thread), Rc::clone(listener));
    tokio::task::spawn_local(task::serve(thread, listener, socket, client, permit));
}

/// Does what a thread can't be without; begins anew after a panic.
async fn for_ever<F: Future<Output = ()>>(guard: Arc<Guard>, make: impl Fn() -> F) {
    loop {
        guard.watch(make()).await;
        tokio::time::sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::clock::{Clock, nanos};

    #[tokio::test]
    async fn what_came_due_while_the_thread_was_busy_waits_until_it_has_looked_at_its_sockets() {
        const SPAN: Duration = Duration::from_millis(20);
        let (clock, timers) = (SystemClock::start(), Timers::new());
        let mut driver = pin!(drive(Rc::clone(&timers), clock));
        let mut cx = Context::from_waker(Waker::noop());
        let [before, meanwhile] = [timers.deadline(), timers.deadline()];
        before.set(clock.now());
        tokio::time::sleep(SPAN).await;
        meanwhile.set(clock.now() + nanos(SPAN));
        std::thread::sleep(2 * SPAN);
        assert!(driver.as_mut().poll(&mut cx).is_pending());
        assert!(before.poll(&cx).is_ready());
        assert!(meanwhile.poll(&cx).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(driver.as_mut().poll(&mut cx).is_pending());
        assert!(meanwhile.poll(&cx).is_ready());
    }
}
