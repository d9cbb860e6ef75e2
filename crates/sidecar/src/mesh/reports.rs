//! What does a sidecar tell its control plane of itself?

use std::net::SocketAddr;

use mesh_model::resources::Address;
use mesh_protocol::Error;
use mesh_protocol::client::Reports;
use mesh_protocol::message::{Draining, FromSidecar, Hello, Protocol, Ready, ServicePort};
use mesh_proxy::proxy::Phase;

use super::edges::Called;
use super::life::{Left, Life};
use super::settings::PortProtocol;

impl Life<'_> {
    /// Who it is.
    pub(super) fn hello(&self, local: Option<SocketAddr>) -> Hello {
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
        }
    }

    /// That it is ready, or goes.
    pub(super) fn tell_phase(&self, reports: &mut Reports, is: Phase, told: Phase) -> Result<(), Error> {
        match is {
            Phase::Starting => Ok(()),
            Phase::Ready => {
                reports.outgoing.push(&FromSidecar::Ready(Ready {}).into())?;
                reports
                    .outgoing
                    .push(&FromSidecar::CertificateState(self.certificate()).into())
            }
            Phase::Drained if told == Phase::Draining => Ok(()),
            Phase::Draining | Phase::Drained => {
                reports.outgoing.push(&FromSidecar::Draining(Draining {}).into())
            }
        }
    }

    /// What has been called since the last report, if anything.
    pub(super) fn report(&mut self, reports: &mut Reports) -> Result<(), Error> {
        let interval = u64::try_from(self.telemetry_every.as_millis()).unwrap_or(u64::MAX);
        let snapshot = self.proxy.store().snapshot();
        let is_mutual = |cluster: &str| {
            let cluster = snapshot.clusters.get(cluster);
            cluster.is_some_and(|cluster| cluster.workload.is_some())
        };
        let own = Called {
            service: match self.workload.identity.namespace() {
                Some(namespace) => format!("{}.{namespace}", self.workload.service),
                None => self.workload.service.clone(),
            },
            port: match self.workload.ports.as_slice() {
                [only] => Some(only.port),
                _ => None,
            },
        };
        let report = self.proxy.look();
        match self.edges.report(&report, interval, &own, is_mutual) {
            Some(telemetry) => reports.outgoing.push(&FromSidecar::Telemetry(telemetry).into()),
            None => Ok(()),
        }
    }
}

/// Tells the last of what is to be told, and waits until the other side has heard it.
pub(super) async fn farewell(
    Reports {
        outgoing,
        mut incoming,
    }: Reports,
) -> Result<Left, Error> {
    outgoing.end().await?;
    while incoming.receive().await?.is_some() {}
    Ok(Left::Over)
}
