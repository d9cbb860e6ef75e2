//! A running proxy, as its hosts see it: the sidecar's `main` and the Node binding.
//!
//! One control thread owns everything that changes: the store, the plan, the sockets, discovery; see
//! [`crate::control`]. Data threads never wait for it.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::mpsc as sync;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_identity::MeshTls;
use mesh_model::issue::Issue;
use mesh_model::resources::{Address, Discovery, Resources};
use mesh_store::{Batch, Store};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{oneshot, watch};

use crate::admin;
use crate::clock::SystemClock;
use crate::compile::Compiler;
pub use crate::control::PanicWhere;
use crate::control::{Ask, Control, Parts};
use crate::dialled::Dialled;
use crate::discovery::{Lookups, Names};
use crate::handle::Handle;
use crate::log::Log;
use crate::panics::Guard;
use crate::reload::{Certificates, Files};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{Telemetry, TelemetryOptions};
use crate::worker::Worker;

/// How a proxy is run. What it does is in its resources.
#[derive(Clone, Debug)]
pub struct Options {
    /// Data threads. Default 1: what a sidecar needs.
    pub threads: usize,
    /// Where it says what it is doing. Default: nowhere.
    pub log: Arc<Log>,
    /// Name servers. Default: the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Who it is, where it is a workload of a mesh. Whoever runs it keeps the certificate good. Default: nobody.
    pub identity: Option<Arc<MeshTls>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            log: Arc::new(Log::silent()),
            dns_servers: Vec::new(),
            identity: None,
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
    #[error("listener {listener} can't listen on {address}: {error}{}", holder.as_deref().map(|holder| format!("; listener {holder} of this proxy has that port until the change is live: change to another port first")).unwrap_or_default())]
    Listen {
        /// The listener.
        listener: String,
        /// Its address.
        address: Address,
        /// The listener of this proxy that has the port, where one has: `web (127.0.0.1:8080)`.
        holder: Option<String>,
        /// What the system says.
        error: io::Error,
    },
    /// The proxy was closed.
    #[error("the proxy is closed")]
    Closed,
    /// A defect of the proxy was contained. What was applied before serves on.
    #[error("the proxy failed at this change; please report what it wrote to standard error")]
    Panicked,
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
        let Options {
            threads,
            log,
            dns_servers,
            identity,
        } = options;
        let seed = seed();
        let dialled = Arc::new(Dialled::default());
        let workers = (0..threads.max(1))
            .map(|number| {
                Worker::start(
                    number,
                    clock,
                    Arc::clone(&telemetry),
                    Arc::clone(&log),
                    identity.clone(),
                    Arc::clone(&dialled),
                    seed.wrapping_add(number as u64),
                )
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (asks, asked) = unbounded_channel();
        let (phase_sender, phase) = watch::channel(Phase::Starting);
        let access_log = Arc::new(AccessLog::new(Arc::clone(telemetry.log())));
        let compiler = Compiler::new(Arc::clone(&telemetry), Arc::clone(&access_log), identity.clone());
        let registry = Arc::clone(&compiler.registry);
        let wanted = Arc::clone(&compiler.names);
        let admin_address = Arc::default();
        let guard = Arc::new(Guard::new(Arc::clone(&telemetry), Arc::clone(&log)));
        let names: Arc<Names> = Arc::default();
        let lookups = Lookups::new(
            dns_servers,
            clock,
            seed,
            Arc::clone(&telemetry),
            Arc::clone(&guard),
            Arc::clone(&names),
        );
        let certificates: Arc<Certificates> = Arc::default();
        let files = Files::new(Arc::clone(&log), Arc::clone(&certificates));
        let control = Control::new(Parts {
            clock,
            guard,
            store: Arc::clone(&store),
            compiler,
            workers,
            lookups,
            files,
            admin_address: Arc::clone(&admin_address),
            phase: phase_sender,
        });
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
                names,
                wanted,
                certificates,
                identity,
                clock,
                log,
                access_log,
                awaited: Arc::new(watch::Sender::new(false)),
                lame_duck: Arc::default(),
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
        self.handle.set_lame_duck(options.lame_duck);
        let server = admin::Server::start(self.handle.clone(), options)?;
        let address = server.address().clone();
        // No connection of the data plane may lead there.
        let _ = self.admin_address.set(address.clone());
        self.admin = Some(server);
        Ok(address)
    }

    /// Makes a change, whole or not at all. Blocks until it is live or refused, which takes some seconds when its
    /// clusters have names to which nobody answers.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&self, change: Change) -> Result<Applied, ApplyError> {
        let (reply, answer) = sync::sync_channel(1);
        self.apply_then(change, move |result| {
            let _ = reply.send(result);
        });
        answer.recv().map_err(|_| ApplyError::Closed)?
    }

    /// The same for asynchronous code. The change goes on when the future is dropped.
    pub fn apply_soon(
        &self,
        change: Change,
    ) -> impl Future<Output = Result<Applied, ApplyError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.apply_then(change, move |result| {
            let _ = reply.send(result);
        });
        async { answer.await.map_err(|_| ApplyError::Closed)? }
    }

    /// The same for whoever wants to be called, on the control thread: `reply` must not wait for anything. It is dropped
    /// unheard when the proxy has ended.
    pub fn apply_then(
        &self,
        change: Change,
        reply: impl FnOnce(Result<Applied, ApplyError>) + Send + 'static,
    ) {
        let _ = self.asks.send(Ask::Apply(Box::new(change), Box::new(reply)));
    }

    /// Looks a name up for a cluster of a change that is to come: no other change waits for that, nor will this one. `tell` is
    /// called on the control thread when the first lookup has ended, or has taken as long as a change would wait for it; then
    /// there are some seconds to make the change in. It must not wait for anything.
    pub fn look_up_then(&self, source: Discovery, tell: impl FnOnce() + Send + 'static) {
        let _ = self.asks.send(Ask::LookUp(source, Box::new(tell)));
    }

    /// Provokes a panic, so that a test sees what becomes of it.
    #[doc(hidden)]
    pub fn provoke_panic(&self, place: PanicWhere) {
        let _ = self.asks.send(Ask::Panic(place));
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
