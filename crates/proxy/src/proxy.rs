//! A running proxy, as its hosts see it: the sidecar's `main` and the Node binding.
//!
//! One control thread owns everything that changes: the store, the plan, the sockets, discovery. It takes one change
//! after the other: stage and validate, compile, bind; only then the change is committed and sent to the data threads.
//! If any step fails nothing has changed. Data threads never wait for it.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::sync::mpsc as sync;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_model::issue::Issue;
use mesh_model::resources::{Address, Resources};
use mesh_store::{Batch, Store};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use crate::admin;
use crate::bind::{Listening, bind};
use crate::clock::{Clock, NEVER, SystemClock, nanos};
use crate::compile::{Compiler, Discovered};
use crate::handle::Handle;
use crate::log::Log;
use crate::own::Own;
use crate::plan::Plan;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{Telemetry, TelemetryOptions};
use crate::thread::Drain;
use crate::worker::{Command, Worker};

/// How a proxy is run. What it does is in its resources.
#[derive(Clone, Debug)]
pub struct Options {
    /// Data threads. Default 1: what a sidecar needs.
    pub threads: usize,
    /// Where it says what it is doing. Default: nowhere.
    pub log: Arc<Log>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            log: Arc::new(Log::silent()),
        }
    }
}

/// How a proxy goes its way out.
#[derive(Clone, Copy, Debug, Default)]
pub struct DrainOptions {
    /// How long it still accepts, so that whoever balances in front of it can look away. Default 0 s: nobody does.
    pub lame_duck: Duration,
    /// How long work in flight may go on after that. Default: each listener's `timeouts.drain`.
    pub work: Option<Duration>,
}

/// Why a change was refused. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The resources are not valid, or files they name can't be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Issue>),
    /// A listener's address can't be had.
    #[error("listener {listener} can't listen on {address}: {error}")]
    Listen {
        /// The listener.
        listener: String,
        /// Its address.
        address: Address,
        /// What the system says.
        error: io::Error,
    },
    /// The proxy was closed.
    #[error("the proxy is closed")]
    Closed,
}

/// A change that is live.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The snapshot's version.
    pub version: u64,
    /// Where each listener listens, with the ports that were chosen.
    pub addresses: Vec<(String, Address)>,
}

/// A change.
pub enum Change {
    /// These resources and no others.
    Replace(Resources),
    /// Some more, some less.
    Batch(Batch),
}

/// How far the proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has no resources yet.
    Starting,
    /// It serves.
    Ready,
    /// It is on its way out.
    Draining,
    /// All work has ended.
    Drained,
}

/// What the control thread is asked.
pub(crate) enum Ask {
    Apply(Change, sync::Sender<Result<Applied, ApplyError>>),
    Drain(DrainOptions),
    Close,
}

/// A running proxy. Dropping it ends it at once; see [`Handle::drain`] for the polite way.
pub struct Proxy {
    handle: Handle,
    admin: Option<admin::Server>,
    admin_address: Arc<OnceLock<Address>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What can be seen of a proxy and asked of it, its owner can as well.
impl Deref for Proxy {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Proxy {
    /// Starts the threads. The proxy does nothing until resources are applied.
    ///
    /// # Errors
    /// The system has no threads or descriptors left.
    pub fn start(options: Options) -> io::Result<Self> {
        let clock = SystemClock::start();
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let store = Arc::new(Store::default());
        let log = options.log;
        let seed = seed();
        let workers = (0..options.threads.max(1))
            .map(|number| {
                Worker::start(
                    number,
                    clock,
                    Arc::clone(&telemetry),
                    Arc::clone(&log),
                    seed.wrapping_add(number as u64),
                )
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (asks, asked) = unbounded_channel();
        let (phase_sender, phase) = watch::channel(Phase::Starting);
        let access_log = Arc::new(AccessLog::new(Arc::clone(telemetry.log())));
        let compiler = Compiler::new(Arc::clone(&telemetry), Arc::clone(&access_log));
        let registry = Arc::clone(&compiler.registry);
        let admin_address = Arc::default();
        let control = Control {
            clock,
            log: Arc::clone(&log),
            store: Arc::clone(&store),
            compiler,
            plan: Arc::default(),
            workers,
            bound: HashMap::new(),
            discovered: Discovered::new(),
            admin_address: Arc::clone(&admin_address),
            phase: phase_sender,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("mesh-control".into())
            .spawn(move || runtime.block_on(control.run(asked)))?;
        Ok(Self {
            handle: Handle {
                asks,
                telemetry,
                store,
                phase,
                registry,
                clock,
                log,
                access_log,
            },
            admin: None,
            admin_address,
            thread: Some(thread),
        })
    }

    /// Starts the admin server, until the proxy is closed. Gives its address, with the port that was chosen. Best called
    /// before resources are applied, since it tells when the proxy is ready.
    ///
    /// # Errors
    /// The address can't be had, the system has no thread left, or there is an admin server already.
    pub fn serve_admin(&mut self, options: admin::Options) -> io::Result<Address> {
        if self.admin.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let server = admin::Server::start(self.handle.clone(), options)?;
        let address = server.address().clone();
        // No connection of the data plane may lead there.
        let _ = self.admin_address.set(address.clone());
        self.admin = Some(server);
        Ok(address)
    }

    /// Makes a change, whole or not at all. Blocks until it is live or refused.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&self, change: Change) -> Result<Applied, ApplyError> {
        let (reply, answer) = sync::channel();
        self.asks
            .send(Ask::Apply(change, reply))
            .map_err(|_| ApplyError::Closed)?;
        answer.recv().map_err(|_| ApplyError::Closed)?
    }

    /// Ends everything now and waits until all threads are gone.
    pub fn close(&mut self) {
        self.admin = None;
        let _ = self.asks.send(Ask::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

/// A seed that differs between processes; what it seeds needs no secrecy.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// What the control thread owns.
struct Control {
    clock: SystemClock,
    log: Arc<Log>,
    store: Arc<Store>,
    compiler: Compiler,
    plan: Arc<Plan>,
    workers: Vec<Worker>,
    /// Addresses as configured and as bound, by listener.
    bound: HashMap<Arc<str>, (Address, Address)>,
    discovered: Discovered,
    admin_address: Arc<OnceLock<Address>>,
    phase: watch::Sender<Phase>,
}

impl Control {
    async fn run(mut self, mut asked: UnboundedReceiver<Ask>) {
        while let Some(ask) = asked.recv().await {
            match ask {
                Ask::Apply(change, reply) => {
                    let result = self.apply(change);
                    // Who asked may have gone.
                    let _ = reply.send(result);
                }
                Ask::Drain(options) => {
                    if self.drain(&mut asked, options).await {
                        return;
                    }
                }
                Ask::Close => return,
            }
        }
    }

    fn apply(&mut self, change: Change) -> Result<Applied, ApplyError> {
        let result = self.try_apply(change);
        let counters = self.compiler.telemetry.control();
        match &result {
            Ok(applied) => {
                counters.updates_applied.increment();
                self.log
                    .debug("an update is live", &[("version", &applied.version)]);
            }
            Err(error) => {
                counters.updates_refused.increment();
                self.log.debug("an update was refused", &[("error", &error)]);
            }
        }
        result
    }

    fn try_apply(&mut self, change: Change) -> Result<Applied, ApplyError> {
        let staged = match change {
            Change::Replace(resources) => self.store.stage_all(resources),
            Change::Batch(batch) => self.store.stage(batch),
        }
        .map_err(ApplyError::Invalid)?;
        let snapshot = Arc::clone(staged.snapshot());
        let now = self.clock.now();
        let mut draft = self
            .compiler
            .draft(&snapshot, &self.discovered, &self.plan, now)
            .map_err(ApplyError::Invalid)?;
        // Sockets that are already open stay open; a listener that moves gets new ones first.
        let mut opened: Vec<(Arc<str>, Vec<Listening>)> = Vec::new();
        let mut bound = HashMap::new();
        for (name, listener) in &*snapshot.listeners {
            if let Some((configured, actual)) = self.bound.get(name)
                && *configured == listener.address
            {
                bound.insert(Arc::clone(name), (configured.clone(), actual.clone()));
                continue;
            }
            let (sockets, actual) =
                bind(&listener.address, self.workers.len()).map_err(|error| ApplyError::Listen {
                    listener: name.to_string(),
                    address: listener.address.clone(),
                    error,
                })?;
            bound.insert(Arc::clone(name), (listener.address.clone(), actual));
            opened.push((Arc::clone(name), sockets));
        }
        draft.plan.own = Own::new(
            bound.values().map(|(_, actual)| actual),
            Arc::clone(&self.admin_address),
        );
        if self.store.commit(staged).is_none() {
            return Err(ApplyError::Closed);
        }
        let before = std::mem::replace(&mut self.bound, bound);
        let plan = self.compiler.accept(draft);
        // Listeners that are gone, or have moved, go the way out; what they serve ends in its own time.
        for (name, (configured, _)) in &before {
            let stays = self
                .bound
                .get(name)
                .is_some_and(|(address, _)| address == configured);
            if !stays {
                let span = self
                    .plan
                    .listeners
                    .get(name)
                    .and_then(|l| l.resource.timeouts.drain.enabled());
                let until = span.map_or(NEVER, |span| now.saturating_add(nanos(span)));
                self.tell(|| Command::Drain(Some(Arc::clone(name)), Drain::Until(until)));
            }
        }
        self.plan = plan;
        self.tell(|| Command::Plan(Arc::clone(&self.plan)));
        for (name, sockets) in opened {
            for (worker, socket) in self.workers.iter().zip(sockets) {
                worker.send(Command::Listen(Arc::clone(&name), socket));
            }
        }
        self.phase.send_replace(Phase::Ready);
        let mut addresses: Vec<_> = self
            .bound
            .iter()
            .map(|(name, (_, actual))| (name.to_string(), actual.clone()))
            .collect();
        addresses.sort();
        Ok(Applied {
            version: self.plan.version,
            addresses,
        })
    }

    fn tell(&self, command: impl Fn() -> Command) {
        self.workers.iter().for_each(|worker| worker.send(command()));
    }

    /// Goes the way out; true when the proxy was told to close meanwhile.
    async fn drain(&mut self, asked: &mut UnboundedReceiver<Ask>, options: DrainOptions) -> bool {
        self.phase.send_replace(Phase::Draining);
        self.tell(|| Command::Drain(None, Drain::LameDuck));
        if self.pause(asked, options.lame_duck).await {
            return true;
        }
        let now = self.clock.now();
        let mut last = now;
        for (name, listener) in &self.plan.listeners {
            let span = options
                .work
                .or_else(|| listener.resource.timeouts.drain.enabled());
            let until = span.map_or(NEVER, |span| now.saturating_add(nanos(span)));
            last = last.max(until);
            self.tell(|| Command::Drain(Some(Arc::clone(name)), Drain::Until(until)));
        }
        self.bound.clear();
        while self.open_connections() > 0 && self.clock.now() <= last.saturating_add(1_000_000_000) {
            if self.pause(asked, Duration::from_millis(5)).await {
                return true;
            }
        }
        self.phase.send_replace(Phase::Drained);
        false
    }

    fn open_connections(&self) -> u32 {
        self.plan
            .listeners
            .values()
            .map(|listener| listener.shared.open_connections())
            .sum()
    }

    /// Waits, answering what is asked meanwhile; true when that is to close.
    async fn pause(&mut self, asked: &mut UnboundedReceiver<Ask>, span: Duration) -> bool {
        let sleep = tokio::time::sleep(span);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return false,
                ask = asked.recv() => match ask {
                    None | Some(Ask::Close) => return true,
                    Some(Ask::Drain(_)) => {}
                    Some(Ask::Apply(_, reply)) => {
                        let _ = reply.send(Err(ApplyError::Closed));
                    }
                },
            }
        }
    }
}
