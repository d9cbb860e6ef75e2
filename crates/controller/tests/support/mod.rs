//! A control plane, and sidecars of which a test says every word.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mesh_controller::{Controller, Decisions, Rates, Settings, SidecarView, TokensAlone};
use mesh_identity::{Manager, MeshTls, TrustBundle};
use mesh_model::spiffe::{SpiffeId, TrustDomain};
use mesh_protocol::client::{Ads, Reports, server_name};
use mesh_protocol::message::{Aside, Attestation, FromSidecar, Hello, SignRequest};
use mesh_protocol::{Control, Error};
use rustls::pki_types::CertificateDer;

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

/// A control plane.
pub(crate) struct Plane {
    pub(crate) controller: Controller,
}

impl Plane {
    pub(crate) fn start() -> Self {
        Self::of(Settings::new(domain()))
    }

    /// One that signs so much.
    pub(crate) fn signing(per_second: u32, burst: u32) -> Self {
        let mut settings = Settings::new(domain());
        settings.authority.per_second = per_second;
        settings.authority.burst = burst;
        Self::of(settings)
    }

    /// One that is asked so often, and decides so.
    pub(crate) fn asked(rates: Rates, decisions: impl Decisions) -> Self {
        let mut settings = Settings::new(domain());
        settings.rates = rates;
        Self::with(settings, decisions)
    }

    /// One that keeps what a restart must not forget.
    pub(crate) fn keeping(directory: &Path) -> Self {
        let mut settings = Settings::new(domain());
        settings.directory = Some(directory.to_owned());
        Self::of(settings)
    }

    /// One that keeps what a restart must not forget, and is told who is revoked.
    pub(crate) fn knowing(directory: &Path, revoked: &[&str]) -> Self {
        let mut settings = Settings::new(domain());
        settings.directory = Some(directory.to_owned());
        settings.revoked = revoked.iter().map(ToString::to_string).collect();
        Self::of(settings)
    }

    /// One whose decisions are somebody else's.
    pub(crate) fn decided_by(decisions: impl Decisions) -> Self {
        Self::with(Settings::new(domain()), decisions)
    }

    fn of(settings: Settings) -> Self {
        Self::with(settings, TokensAlone)
    }

    /// One of these settings.
    pub(crate) fn with(mut settings: Settings, decisions: impl Decisions) -> Self {
        settings.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let controller = Controller::start(settings, Arc::new(decisions), Box::new(|_| true)).unwrap();
        Self { controller }
    }

    /// Waits until the sidecars are so.
    pub(crate) async fn until(&self, is: impl Fn(&[SidecarView]) -> bool) {
        while !is(&self.controller.sidecars()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Somebody who knows where the control plane is and whom to believe, and has no certificate.
    pub(crate) fn sidecar(&self, own: &str) -> Sidecar {
        let tls = Arc::new(MeshTls::new(domain()));
        let roots = TrustBundle::from_pem(domain(), self.controller.bundle().as_bytes()).unwrap();
        tls.set_bundle(Arc::new(roots));
        Sidecar {
            manager: Mutex::new(Manager::new(id(own), Arc::clone(&tls), SystemTime::now(), 7)),
            tls,
            address: self.controller.addresses()[0].to_string(),
        }
    }

    /// One that has a certificate.
    pub(crate) async fn member(&self, own: &str) -> Sidecar {
        let token = self.controller.issue_token(id(own), 1, Duration::from_secs(60));
        let sidecar = self.sidecar(own);
        sidecar.sign(&token.unwrap()).await.unwrap();
        sidecar
    }
}

/// What of a sidecar talks to a control plane.
pub(crate) struct Sidecar {
    manager: Mutex<Manager>,
    tls: Arc<MeshTls>,
    address: String,
}

impl Sidecar {
    async fn connect(&self) -> Result<Control, Error> {
        let control = id("spiffe://mesh.test/ns/mesh/sa/control");
        let tls = self.tls.control_client_config(&control).unwrap();
        within(Control::connect(
            std::slice::from_ref(&self.address),
            tls,
            server_name(),
        ))
        .await
    }

    /// Gets a certificate for a token.
    pub(crate) async fn sign(&self, token: &str) -> Result<(), Error> {
        self.sign_by(token, None).await
    }

    /// Gets a certificate for what a platform says.
    pub(crate) async fn attest(&self, kind: &str, evidence: &[u8]) -> Result<(), Error> {
        let attestation = Attestation {
            kind: kind.to_owned(),
            evidence: evidence.to_owned(),
        };
        self.sign_by("", Some(attestation)).await
    }

    async fn sign_by(&self, token: &str, attestation: Option<Attestation>) -> Result<(), Error> {
        let request = SignRequest {
            csr: self.manager.lock().unwrap().request().unwrap(),
            token: token.to_owned(),
            attestation,
        };
        let response = within(self.connect().await?.sign(request)).await?;
        let chain = response.chain.into_iter().map(CertificateDer::from).collect();
        let bundle = TrustBundle::from_pem(domain(), response.roots.as_bytes()).unwrap();
        let mut manager = self.manager.lock().unwrap();
        manager
            .answered(chain, Arc::new(bundle), SystemTime::now())
            .unwrap();
        Ok(())
    }

    /// Gets another one for the one that it has.
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        self.sign("").await
    }

    /// Asks for resources.
    pub(crate) async fn resources(&self) -> Ads {
        within(self.connect().await.unwrap().ads()).await.unwrap()
    }

    /// Says hello.
    pub(crate) async fn reports(&self, name: &str) -> Reports {
        let name = name.to_owned();
        self.begins(FromSidecar::Hello(Hello {
            name,
            ..Hello::default()
        }))
        .await
    }

    /// Says that it stands aside.
    pub(crate) async fn reports_aside(&self, name: &str) -> Reports {
        let name = name.to_owned();
        self.begins(FromSidecar::Aside(Aside { name })).await
    }

    async fn begins(&self, with: FromSidecar) -> Reports {
        let mut reports = self.connect().await.unwrap().report().await.unwrap();
        within(reports.outgoing.send(&with.into())).await.unwrap();
        reports
    }
}
