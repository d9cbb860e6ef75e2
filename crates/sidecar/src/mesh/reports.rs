//! What does a sidecar tell its control plane of itself, and what is it told to do?
//!
//! A control plane of xDS alone has no such stream. That is said once, and asked again now and then: resources are all that
//! comes from it.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_identity::DenyList;
use mesh_model::policy::PolicyMode;
use mesh_model::resources::Address;
use mesh_protocol::client::Reports;
use mesh_protocol::message::{
    Aside, ConfigState, ControlMessage, Draining, FromControl, FromSidecar, Hello, PolicyDecision, Protocol,
    Ready, ServicePort, Telemetry,
};
use mesh_protocol::{Control, Error};
use mesh_proxy::proxy::Phase;
use mesh_proxy::telemetry::Decision;
use mesh_xds::client::Silence;

use super::life::{Left, Life};
use super::settings::PortProtocol;

/// When a control plane that takes no reports is asked again over the same connection, which may lead to several that are
/// replaced one by one.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// The stream of reports of one connection, where the control plane has one.
pub(super) struct Telling {
    stream: Option<Reports>,
    /// What was told of the phase.
    told: Phase,
    /// What it was told is not in force: by kind and name, why.
    refused: Refused,
    /// When the control plane is asked again whether it has one.
    asks_at: Option<Instant>,
}

/// What is not in force: by kind and name, why.
pub(super) type Refused = BTreeMap<(&'static str, String), String>;

impl Telling {
    /// Takes a message, to be sent by [`Telling::step`].
    pub(super) fn push(&mut self, message: FromSidecar) -> Result<(), Error> {
        match &mut self.stream {
            Some(stream) => stream.outgoing.push(&message.into()),
            None => Ok(()),
        }
    }

    /// Tells what is not in force, and what is again.
    pub(super) fn refused(&mut self, is: Refused) -> Result<(), Error> {
        if is == self.refused {
            return Ok(());
        }
        let before = std::mem::take(&mut self.refused);
        let again = before.keys().filter(|of| !is.contains_key(*of));
        let again = again.map(|of| (of, ""));
        let other = is.iter().filter(|(of, why)| before.get(*of) != Some(*why));
        for ((kind, name), why) in again.chain(other.map(|(of, why)| (of, &**why))) {
            self.push(FromSidecar::ConfigState(ConfigState {
                kind: (*kind).to_owned(),
                name: name.clone(),
                nack: why.to_owned(),
                ..ConfigState::default()
            }))?;
        }
        self.refused = is;
        Ok(())
    }

    /// Sends what waits, and gives what comes, where it `hears`; `None` when all was sent. May be given up at any time.
    pub(super) async fn step(&mut self, hears: bool) -> Result<Option<ControlMessage>, Error> {
        match &mut self.stream {
            Some(stream) => stream.step(hears).await,
            None => pending().await,
        }
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        match &mut self.stream {
            Some(stream) => stream.outgoing.flush().await,
            None => Ok(()),
        }
    }

    /// What it means that the control plane says nothing of a name. Ours says of each whether it is there: to go on without
    /// its word would be to call a service of the mesh as if it were none.
    pub(super) fn silence(&self) -> Silence {
        match &self.stream {
            Some(_) => Silence::IsNone,
            None => Silence::IsAnAnswer,
        }
    }

    /// When the control plane is to be asked again for a stream.
    pub(super) fn asks_at(&self) -> Option<Instant> {
        self.asks_at
    }

    /// Tells the last of what is to be told, and waits until the other side has heard it.
    pub(super) async fn farewell(self) -> Result<Left, Error> {
        let Some(stream) = self.stream else {
            return Ok(Left::Over);
        };
        match stream.end().await {
            Err(error) if !error.is_unimplemented() => Err(error),
            _ => Ok(Left::Over),
        }
    }
}

impl Life<'_> {
    /// Opens the stream of reports, and begins it. Whether there is one is seen by what comes.
    pub(super) async fn tell(&mut self, control: &Control) -> Result<Telling, Error> {
        let stream = self.meanwhile(control.report()).await?;
        // A list that was cut off with the stream before is no part of what comes now.
        self.denied = DenyList::new();
        let mut telling = Telling {
            stream: Some(stream),
            told: Phase::Starting,
            refused: Refused::new(),
            asks_at: None,
        };
        telling.push(match self.ousted.until() {
            None => FromSidecar::Hello(self.hello(control.local())),
            Some(_) => FromSidecar::Aside(Aside {
                name: self.workload.name.clone(),
            }),
        })?;
        Ok(telling)
    }

    /// Goes on without reports.
    pub(super) fn untold(&mut self, telling: &mut Telling) {
        telling.stream = None;
        self.awaits_denied = false;
        telling.asks_at = Some(Instant::now() + ASK_AGAIN);
        if !std::mem::replace(&mut self.said_untold, true) {
            self.log().warn(
                "the control plane takes no reports: it gives resources alone, and no revocations",
                &[],
            );
        }
    }

    /// Who it is.
    fn hello(&self, local: Option<SocketAddr>) -> Hello {
        let ports = self.workload.ports.iter().map(|port| ServicePort {
            service: self.workload.service.clone(),
            port: port.port.into(),
            protocol: match port.protocol {
                PortProtocol::Auto => Protocol::Auto,
                PortProtocol::Http1 => Protocol::Http1,
                PortProtocol::Http2 => Protocol::Http2,
                PortProtocol::Tcp => Protocol::Tcp,
            }
            .into(),
        });
        let place = self.workload.place(local);
        if matches!(&place, Address::Ip(address) if address.ip().is_unspecified()) {
            self.log().warn(
                "others can't be told where this is: it needs --advertise",
                &[("inbound", &place)],
            );
        }
        Hello {
            name: self.workload.name.clone(),
            services: ports.collect(),
            inbound_address: place.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            instance: self.instance,
        }
    }

    /// That it is ready, or goes, once.
    pub(super) fn tell_phase(&self, telling: &mut Telling, is: Phase) -> Result<(), Error> {
        let told = std::mem::replace(&mut telling.told, is);
        match is {
            Phase::Starting => Ok(()),
            _ if is == told => Ok(()),
            Phase::Ready => {
                telling.push(FromSidecar::Ready(Ready {}))?;
                telling.push(FromSidecar::CertificateState(self.certificate()))
            }
            Phase::Drained if told == Phase::Draining => Ok(()),
            Phase::Draining | Phase::Drained => telling.push(FromSidecar::Draining(Draining {})),
        }
    }

    /// Does what it is told.
    pub(super) fn told(&mut self, message: FromControl) {
        match message {
            FromControl::TelemetryInterval(every) => {
                let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
                self.telemetry_every = Duration::from_millis(every.interval_ms).clamp(least, most);
            }
            FromControl::Denied(denied) => self.revoked(denied),
        }
    }

    /// What has been called since the last report, and denied, if anything.
    pub(super) fn report(&mut self, telling: &mut Telling) -> Result<(), Error> {
        let interval_ms = u64::try_from(self.telemetry_every.as_millis()).unwrap_or(u64::MAX);
        let snapshot = self.proxy.store().snapshot();
        let is_mutual = |cluster: &str| {
            let cluster = snapshot.clusters.get(cluster);
            cluster.is_some_and(|cluster| cluster.workload.is_some())
        };
        let own = match self.workload.identity.namespace() {
            Some(namespace) => format!("{}.{namespace}", self.workload.service),
            None => self.workload.service.clone(),
        };
        let report = self.proxy.look();
        let telemetry = Telemetry {
            interval_ms,
            edges: self.edges.report(&report, &own, is_mutual),
            decisions: self.proxy.decisions().into_iter().map(told).collect(),
        };
        match telemetry.edges.is_empty() && telemetry.decisions.is_empty() {
            true => Ok(()),
            false => telling.push(FromSidecar::Telemetry(telemetry)),
        }
    }
}

/// A decision, as it is told.
fn told(decision: Decision) -> PolicyDecision {
    let (method, path) = decision.asked.unwrap_or_default();
    let mut policies = decision.policies;
    // Other control planes may call them as they like.
    policies.retain(|name| name.len() <= mesh_protocol::MAX_NAME);
    PolicyDecision {
        audit: decision.mode == PolicyMode::Audit,
        why: decision.why.to_owned(),
        policies,
        port: decision.port.unwrap_or_default().into(),
        caller: decision.caller,
        method,
        path,
        unsaid: decision.unsaid,
    }
}
