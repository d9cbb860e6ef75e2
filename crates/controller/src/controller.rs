//! A running control plane.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use mesh_identity::authority::{Authority, AuthorityError, Directory, DirectoryError};
use mesh_identity::{Csr, Manager, MeshTls, NobodyDenied, TooManyDenied};
use mesh_model::issue::Issue;
use mesh_model::spiffe::SpiffeId;
use mesh_protocol::{Hears, Limits, Server};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::batch::Batch;
use crate::decisions::Decisions;
use crate::edges::{EdgeView, Edges};
use crate::event::{Event, Events, Out, name_of};
use crate::fleet::{Fleet, SidecarView};
use crate::rivals::Elsewhere;
use crate::served::Served;
use crate::service::Plane;
use crate::settings::{Issuer, Settings};
use crate::signing::{Signing, TokenError};

/// How often the authority is looked after at least: clocks are set.
const LOOK: Duration = Duration::from_secs(30);
/// How long something of the authority is left alone that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be had.
    #[error("the control plane can't listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// An address is for everybody, and what is told there is not.
    #[error("without TLS resources are told on the loopback alone, not on {0}")]
    NotLoopback(SocketAddr),
    /// There is no authority.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// The control plane can't get a certificate of its own.
    #[error("the control plane has no identity: {0}")]
    Identity(String),
    /// Who is revoked at the start can't be, or can't be stored.
    #[error("{0}")]
    Revoked(#[from] RevokeError),
    /// The mesh at the start is refused.
    #[error("the mesh is refused")]
    Mesh(Vec<Issue>),
    /// The system has no thread left.
    #[error("the control plane can't start: {0}")]
    System(io::Error),
}

/// Why a revocation, or its end, does not hold as it should.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Neither a SPIFFE id nor a serial number.
    #[error("{0}")]
    Nobody(#[from] NobodyDenied),
    /// The control plane itself: no sidecar would hear any more that it is taken back. Nothing has changed.
    #[error("reserved: that is the control plane, whom no sidecar would hear any more; it can't be revoked")]
    Reserved,
    /// The list is full. Nothing has changed.
    #[error("{0}")]
    Full(#[from] TooManyDenied),
    /// It can't be stored. It holds until this process ends, and is stored as soon as it can be.
    #[error("it holds until the control plane ends, but can't be stored yet: {0}")]
    NotKept(#[from] DirectoryError),
}

impl RevokeError {
    /// Whether what was asked for is refused: then nothing failed.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Nobody(_) | Self::Reserved | Self::Full(_) => true,
            Self::NotKept(_) => false,
        }
    }
}

/// A control plane. Dropping it ends it.
pub struct Controller {
    plane: Arc<Plane>,
    served: Arc<Mutex<Served>>,
    addresses: Vec<SocketAddr>,
    plaintext_xds: Vec<SocketAddr>,
    closing: watch::Sender<bool>,
    /// Wakes who looks after the authority.
    rotated: watch::Sender<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    /// Listens, signs and serves from now on.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        settings: Settings,
        decisions: Arc<dyn Decisions>,
        events: Events,
    ) -> Result<Self, StartError> {
        let now = SystemTime::now();
        let domain = settings.authority.trust_domain.clone();
        let own = format!("spiffe://{domain}/ns/mesh/sa/control");
        let own: SpiffeId = own
            .parse()
            .map_err(|error| StartError::Identity(format!("{error}")))?;
        let mut authority = authority(&settings, now)?;
        let tls = Arc::new(MeshTls::new(domain));
        let mut manager = Manager::new(own.clone(), Arc::clone(&tls), now, 0);
        renew(&mut manager, &mut authority, now).map_err(StartError::Identity)?;
        let config = tls
            .control_server_config()
            .map_err(|error| StartError::Identity(error.to_string()))?;
        let mut served = Served::new();
        served.roots(authority.bundle().to_pem());
        let signing = Signing::new(authority, Arc::clone(&tls), own, &settings, decisions, now)?;
        tls.set_denied(Arc::clone(&signing.revoked().borrow().list));
        served.apply(settings.initial).map_err(StartError::Mesh)?;
        let plane = Arc::new(Plane {
            live: served.watch(),
            signing,
            fleet: Mutex::new(Fleet::default()),
            edges: Mutex::new(Edges::default()),
            out: Out::new(events),
            telemetry_interval: settings.telemetry_interval,
        });
        let public = settings.plaintext_xds.iter().find(|at| !at.ip().is_loopback());
        if let Some(address) = public {
            return Err(StartError::NotLoopback(*address));
        }
        let sidecars = bind(&settings.listen)?;
        let subscribers = bind(&settings.plaintext_xds)?;
        let addresses = addresses_of(&sidecars);
        let plaintext_xds = addresses_of(&subscribers);
        let listeners = [(sidecars, Hears::Sidecars), (subscribers, Hears::Subscribers)];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::System)?;
        let (closing, closed) = watch::channel(false);
        let (rotated, rotation) = watch::channel(0);
        let served = Arc::new(Mutex::new(served));
        let caretaker = Caretaker {
            plane: Arc::clone(&plane),
            served: Arc::clone(&served),
            manager,
            tls,
            rotation,
        };
        let work = run(
            Arc::clone(&plane),
            config,
            settings.limits,
            listeners,
            caretaker,
            closed,
        );
        let thread = std::thread::Builder::new()
            .name("mesh-controller".into())
            .spawn(move || runtime.block_on(work))
            .map_err(StartError::System)?;
        Ok(Self {
            plane,
            served,
            addresses,
            plaintext_xds,
            closing,
            rotated,
            thread: Some(thread),
        })
    }

    /// Where it listens, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it tells resources without TLS, with the ports that were chosen.
    pub fn plaintext_xds(&self) -> &[SocketAddr] {
        &self.plaintext_xds
    }

    /// Changes the mesh, whole or not at all.
    ///
    /// # Errors
    /// Everything that is wrong with the change.
    pub fn apply(&self, batch: Batch) -> Result<(), Vec<Issue>> {
        self.served().apply(batch)
    }

    /// A token that speaks for an identity, so many times and for so long; after a restart too, where anything is stored.
    ///
    /// # Errors
    /// It would be good for too much, or can't be stored.
    pub fn issue_token(&self, id: SpiffeId, uses: u32, ttl: Duration) -> Result<String, TokenError> {
        self.plane.signing.issue_token(id, uses, ttl)
    }

    /// Believes an identity, or the certificate of a serial number, no more; what is open to it is closed.
    ///
    /// # Errors
    /// See [`RevokeError`].
    pub fn revoke(&self, whom: &str) -> Result<(), RevokeError> {
        self.plane.signing.revoke(whom.parse()?)
    }

    /// Takes a revocation back; whether there was one.
    ///
    /// # Errors
    /// The text names nobody, or it can't be stored: the next control plane will deny again.
    pub fn allow(&self, whom: &str) -> Result<bool, RevokeError> {
        self.plane.signing.allow(&whom.parse()?)
    }

    /// Who is revoked: identities and serial numbers.
    pub fn revoked(&self) -> Vec<String> {
        let list = Arc::clone(&self.plane.signing.revoked().borrow().list);
        let entries = list.entries().into_iter();
        entries.map(|(denied, _)| denied.to_string()).collect()
    }

    /// What it knows of tokens, for the next control plane of this process, where nothing is stored. It opens nothing.
    /// Until it is closed, it may spend some.
    pub fn tokens(&self) -> String {
        self.plane.signing.tell_tokens()
    }

    /// Whether others have said who is revoked, see [`Settings::awaits_revoked`]: as long as they have not, or say nothing
    /// any more, sidecars keep what they know.
    pub fn knows_revoked(&self, knows: bool) {
        self.plane.signing.knows_revoked(knows);
    }

    /// How it has changed who is at other control planes. Whoever came here before one of those by the same name has no
    /// place any more.
    pub fn elsewhere(&self, change: Elsewhere) {
        self.plane.fleet().elsewhere(change, SystemTime::now());
    }

    /// Replaces the issuer.
    ///
    /// # Errors
    /// The authority can't.
    pub fn rotate_issuer(&self) -> Result<(), AuthorityError> {
        self.rotate(Authority::rotate_issuer)
    }

    /// Begins to replace the root.
    ///
    /// # Errors
    /// The authority can't.
    pub fn rotate_root(&self) -> Result<(), AuthorityError> {
        self.rotate(Authority::rotate_root)
    }

    fn rotate(
        &self,
        how: impl FnOnce(
            &mut Authority,
            SystemTime,
        ) -> Result<Vec<mesh_identity::authority::Changed>, AuthorityError>,
    ) -> Result<(), AuthorityError> {
        let changes = self
            .plane
            .signing
            .with(|authority| how(authority, SystemTime::now()))?;
        let changes = changes.into_iter().map(name_of).collect();
        self.plane.out.send(&Event::Rotated { changes });
        self.rotated.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The roots to believe, in PEM.
    pub fn bundle(&self) -> String {
        self.plane.signing.with(|authority| authority.bundle().to_pem())
    }

    /// The sidecars that are there.
    pub fn sidecars(&self) -> Vec<SidecarView> {
        self.plane.fleet().view(SystemTime::now())
    }

    /// Who calls whom.
    pub fn edges(&self) -> Vec<EdgeView> {
        self.plane.edges().view()
    }

    /// Ends it, and waits until its thread is gone.
    pub fn close(&mut self) {
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.close();
    }
}

fn bind(addresses: &[SocketAddr]) -> Result<Vec<std::net::TcpListener>, StartError> {
    let bind = |address: &SocketAddr| {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listeners = addresses.iter().map(|address| {
        bind(address).map_err(|error| StartError::Listen {
            address: *address,
            error,
        })
    });
    listeners.collect()
}

fn addresses_of(listeners: &[std::net::TcpListener]) -> Vec<SocketAddr> {
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    addresses.collect()
}

fn authority(settings: &Settings, now: SystemTime) -> Result<Authority, AuthorityError> {
    let own = settings.authority.clone();
    let directory = settings.directory.as_ref().map(Directory::open).transpose()?;
    match (&settings.issuer, directory) {
        (Issuer::Own, None) => Authority::in_memory(own, now),
        (Issuer::Own, Some(directory)) => Authority::open(own, directory, now),
        (Issuer::Given { chain, key, roots }, directory) => {
            let (chain, key, roots) = (chain.as_bytes(), key.as_bytes(), roots.as_bytes());
            Authority::given(own, chain, key, roots, directory, now)
        }
    }
}

/// Gives the control plane a certificate of its own.
fn renew(manager: &mut Manager, authority: &mut Authority, now: SystemTime) -> Result<(), String> {
    let request = manager.request().map_err(|error| error.to_string())?;
    let csr = Csr::check(&request).map_err(|error| error.to_string())?;
    let signed = authority
        .sign_own(&csr, manager.id(), now)
        .map_err(|error| error.to_string())?;
    manager
        .answered(signed.chain, signed.bundle, now)
        .map_err(|error| error.to_string())?;
    Ok(())
}

async fn run(
    plane: Arc<Plane>,
    config: Arc<rustls::ServerConfig>,
    limits: Limits,
    listeners: [(Vec<std::net::TcpListener>, Hears); 2],
    caretaker: Caretaker,
    closed: watch::Receiver<bool>,
) {
    let server = Server::new(Arc::clone(&plane), config, limits);
    let mut serving = tokio::task::JoinSet::new();
    for (listeners, hears) in listeners {
        for listener in listeners {
            if let Ok(listener) = TcpListener::from_std(listener) {
                serving.spawn(Arc::clone(&server).serve(listener, hears, closed.clone()));
            }
        }
    }
    let mut closing = closed;
    tokio::select! {
        _ = closing.wait_for(|closing| *closing) => {}
        () = caretaker.care() => {}
        () = plane.out.tell_lost() => {}
    }
    while serving.join_next().await.is_some() {}
}

/// Looks after the authority and the control plane's own certificate.
struct Caretaker {
    plane: Arc<Plane>,
    served: Arc<Mutex<Served>>,
    manager: Manager,
    tls: Arc<MeshTls>,
    rotation: watch::Receiver<u64>,
}

impl Caretaker {
    async fn care(mut self) {
        let mut revoked = self.plane.signing.revoked();
        let mut pause = Duration::ZERO;
        loop {
            let now = SystemTime::now();
            let due = self.plane.signing.with(|authority| authority.due());
            let due = due.map_or(self.manager.due(), |due| due.min(self.manager.due()));
            let longest = if self.plane.signing.has_unkept() {
                RETRY
            } else {
                LOOK
            };
            let wait = due
                .duration_since(now)
                .unwrap_or_default()
                .clamp(pause, longest.max(pause));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.rotation.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = revoked.changed() => {
                    if changed.is_ok() {
                        self.tls.set_denied(Arc::clone(&revoked.borrow_and_update().list));
                    }
                    continue;
                }
            }
            let kept = self.plane.signing.keep_again();
            let kept = kept.map_err(|error| error.to_string());
            pause = match self.look(SystemTime::now()).and(kept) {
                Ok(()) => Duration::ZERO,
                Err(reason) => {
                    self.plane.out.send(&Event::AuthorityFailed { reason });
                    RETRY
                }
            };
        }
    }

    fn look(&mut self, now: SystemTime) -> Result<(), String> {
        let signing = &self.plane.signing;
        let changes = signing
            .with(|authority| authority.tick(now))
            .map_err(|error| error.to_string())?;
        if !changes.is_empty() {
            let changes = changes.into_iter().map(name_of).collect();
            self.plane.out.send(&Event::Rotated { changes });
        }
        let bundle = signing.with(|authority| Arc::clone(authority.bundle()));
        if bundle.hash() != self.tls.bundle().hash() {
            self.manager
                .roots(Arc::clone(&bundle), now)
                .map_err(|error| error.to_string())?;
            let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
            served.roots(bundle.to_pem());
        }
        self.manager.look(now);
        if self.manager.due() <= now {
            let manager = &mut self.manager;
            signing.with(|authority| renew(manager, authority, now))?;
        }
        Ok(())
    }
}
