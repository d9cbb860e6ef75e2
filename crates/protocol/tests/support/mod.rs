//! A small control plane and a sidecar without a proxy.
#![allow(dead_code)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mesh_identity::authority::{Authority, Settings};
use mesh_identity::{Csr, Manager, MeshTls, Svid, TrustBundle, WorkloadKey, csr};
use mesh_model::resources::Cluster;
use mesh_model::spiffe::{SpiffeId, TrustDomain};
use mesh_protocol::message::{FromControl, FromSidecar, SignRequest, SignResponse, TelemetryInterval};
use mesh_protocol::server::{Delta, Reports, StateOfTheWorld};
use mesh_protocol::{Caller, Code, Control, Error, Hears, Limits, Server, Service, Status, client};
use mesh_xds::server::{Catalogue, DeltaStream};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const BASKET: &str = "spiffe://mesh.test/ns/shop/sa/basket";
pub(crate) const FRONT: &str = "spiffe://mesh.test/ns/shop/sa/front";
pub(crate) const CONTROL: &str = "spiffe://mesh.test/ns/mesh/sa/control";
const TOKEN: &str = "let me in";

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn domain() -> TrustDomain {
    "mesh.test".parse().unwrap()
}

/// No wait of a test is longer.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap()
}

struct Inner {
    authority: Mutex<Authority>,
    catalogue: watch::Sender<Catalogue>,
    dismissed: watch::Sender<bool>,
}

impl Service for Inner {
    async fn sign(&self, _: &Caller, request: SignRequest) -> Result<SignResponse, Status> {
        if request.token != TOKEN {
            return Err(Status::new(Code::PermissionDenied, "token"));
        }
        let csr = Csr::check(&request.csr).unwrap();
        let mut authority = self.authority.lock().unwrap();
        let signed = authority
            .sign(&csr, csr.id().unwrap(), SystemTime::now())
            .unwrap();
        Ok(SignResponse {
            chain: signed.chain.iter().map(|one| one.to_vec()).collect(),
            roots: signed.bundle.to_pem(),
            not_after: 0,
        })
    }

    async fn delta(&self, caller: &Caller, stream: &mut Delta) -> Result<(), Status> {
        assert_eq!(caller.peer.as_ref().unwrap().id, id(BASKET));
        let mut catalogue = self.catalogue.subscribe();
        let mut told = DeltaStream::default();
        loop {
            let now = catalogue.borrow_and_update().clone();
            while let Some(response) = told.poll_response(&now) {
                stream.outgoing.push(&response)?;
            }
            let waits = stream.outgoing.is_waiting();
            tokio::select! {
                flushed = stream.outgoing.flush(), if waits => flushed?,
                _ = catalogue.changed() => {}
                request = stream.incoming.receive() => match request? {
                    Some(request) => told.received(request).unwrap(),
                    None => return Ok(()),
                },
            }
        }
    }

    async fn state_of_the_world(&self, _: &Caller, _: &mut StateOfTheWorld) -> Result<(), Status> {
        Err(Status::new(Code::Unimplemented, "not here"))
    }

    async fn report(&self, _: &Caller, stream: &mut Reports) -> Result<(), Status> {
        while let Some(message) = stream.incoming.receive().await? {
            if let Some(FromSidecar::Hello(hello)) = message.message {
                let interval_ms = hello.pid.into();
                let answer = FromControl::TelemetryInterval(TelemetryInterval { interval_ms });
                stream.outgoing.send(&answer.into()).await?;
            }
        }
        Ok(())
    }

    async fn dismissed(&self, _: &Caller) -> Status {
        let mut dismissed = self.dismissed.subscribe();
        let _ = dismissed.wait_for(|dismissed| *dismissed).await;
        Status::new(Code::PermissionDenied, "dismissed")
    }
}

/// A control plane.
pub(crate) struct Plane {
    inner: Arc<Inner>,
    pub(crate) address: SocketAddr,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// One that was closed.
pub(crate) struct Closed(Arc<Inner>);

impl Closed {
    pub(crate) async fn again(self) -> Plane {
        Plane::of(self.0).await
    }
}

/// So few that a test can have more connections than there may be strangers.
pub(crate) const STRANGERS: usize = 8;
/// So few that a test can have them all.
pub(crate) const OF_ONE: usize = 3 * STRANGERS;

impl Plane {
    pub(crate) async fn start() -> Self {
        let authority = Authority::in_memory(Settings::new(domain()), SystemTime::now()).unwrap();
        let inner = Inner {
            authority: Mutex::new(authority),
            catalogue: watch::channel(Catalogue::default()).0,
            dismissed: watch::channel(false).0,
        };
        Self::of(Arc::new(inner)).await
    }

    async fn of(inner: Arc<Inner>) -> Self {
        let tls = MeshTls::new(domain());
        let key = WorkloadKey::generate().unwrap();
        let csr = Csr::check(&csr::request(&key, &id(CONTROL)).unwrap()).unwrap();
        let now = SystemTime::now();
        let signed = inner
            .authority
            .lock()
            .unwrap()
            .sign(&csr, &id(CONTROL), now)
            .unwrap();
        tls.set_svid(Arc::new(Svid::new(&key, signed.chain, now).unwrap()));
        tls.set_bundle(signed.bundle);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (closing, closed) = watch::channel(false);
        let server = Server::new(
            Arc::clone(&inner),
            tls.control_server_config().unwrap(),
            Limits {
                strangers: STRANGERS,
                of_one: OF_ONE,
                ..Limits::default()
            },
        );
        Self {
            inner,
            address,
            closing,
            task: tokio::spawn(server.serve(listener, Hears::Sidecars, closed)),
        }
    }

    pub(crate) fn bundle(&self) -> Arc<TrustBundle> {
        Arc::clone(self.inner.authority.lock().unwrap().bundle())
    }

    pub(crate) fn put(&self, cluster: &Cluster) {
        self.inner
            .catalogue
            .send_modify(|catalogue| catalogue.put(&cluster.name, cluster).unwrap());
    }

    pub(crate) fn dismiss(&self) {
        self.inner.dismissed.send_replace(true);
    }

    pub(crate) async fn close(self) -> Closed {
        self.closing.send_replace(true);
        within(self.task).await.unwrap();
        Closed(self.inner)
    }

    /// A sidecar that knows where this control plane is and whom to believe.
    pub(crate) fn sidecar(&self, own: &str) -> Sidecar {
        let tls = Arc::new(MeshTls::new(domain()));
        tls.set_bundle(self.bundle());
        Sidecar {
            manager: Manager::new(id(own), Arc::clone(&tls), SystemTime::now(), 7),
            tls,
            control: id(CONTROL),
            addresses: vec![self.address.to_string()],
        }
    }
}

/// What of a sidecar talks to a control plane.
pub(crate) struct Sidecar {
    pub(crate) tls: Arc<MeshTls>,
    pub(crate) manager: Manager,
    pub(crate) control: SpiffeId,
    pub(crate) addresses: Vec<String>,
}

impl Sidecar {
    pub(crate) async fn connect(&self) -> Result<Control, Error> {
        let tls = self.tls.control_client_config(&self.control).unwrap();
        within(Control::connect(&self.addresses, tls, client::server_name())).await
    }

    pub(crate) async fn sign(&mut self, control: &Control) {
        let request = SignRequest {
            csr: self.manager.request().unwrap(),
            token: TOKEN.into(),
            ..SignRequest::default()
        };
        let response = within(control.sign(request)).await.unwrap();
        let chain = response.chain.into_iter().map(CertificateDer::from).collect();
        let bundle = TrustBundle::from_pem(domain(), response.roots.as_bytes()).unwrap();
        self.manager
            .answered(chain, Arc::new(bundle), SystemTime::now())
            .unwrap();
    }

    pub(crate) async fn certified(&mut self) -> Control {
        let stranger = self.connect().await.unwrap();
        self.sign(&stranger).await;
        self.connect().await.unwrap()
    }
}
