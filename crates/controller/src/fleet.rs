//! Which sidecars are there, and how are they?
//!
//! A sidecar is there from its hello until its stream of reports ends. It is known by its identity and by what it calls
//! itself: one that comes again under the same name takes the place of its earlier self, whose end then means nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use mesh_protocol::message::{CertificateState, ConfigState, Hello};
use mesh_xds::kind::Kind;
use mesh_xds::server::Refused;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::edges::name_of;
use crate::event::millis;
use crate::rivals::{Process, Rivals};

/// The most sidecars at a time: twice what one control plane is made for.
pub const MAX_SIDECARS: usize = 10_000;
/// Those of one identity: half of them, since all copies of a service are one. Nobody takes the room of all others.
pub const MAX_SIDECARS_OF_ONE: usize = MAX_SIDECARS / 2;
/// Refusals that are kept of one sidecar.
const MAX_NACKS: usize = 256;

/// How far a sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It said who it is.
    Connected,
    /// It takes requests.
    Ready,
    /// It takes no new ones.
    Draining,
}

/// A resource that a sidecar refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nack {
    /// The type URL.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// The version that it refuses.
    pub version: String,
    /// Why.
    pub reason: String,
}

impl Nack {
    /// Whether it is of what a sidecar makes of resources together, rather than of one of them.
    fn is_of_all(&self) -> bool {
        is_of_all(&self.resource)
    }
}

/// Whether a kind is none of xDS.
pub(crate) fn is_of_all(kind: &str) -> bool {
    [ConfigState::NAME, ConfigState::CONFIGURATION].contains(&kind)
}

/// What a sidecar has of one kind of resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The type URL.
    pub resource: String,
    /// How many.
    pub count: usize,
    /// When it accepted the last ones, in milliseconds since 1970.
    pub changed_at_ms: u64,
}

/// A service that a sidecar's workload offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Its name.
    pub service: String,
    /// The port.
    pub port: u32,
    /// `auto`, `http1`, `http2` or `tcp`.
    pub protocol: &'static str,
}

/// A sidecar as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarView {
    /// What it calls itself.
    pub name: String,
    /// Who it is, by its certificate.
    pub identity: String,
    /// From where it is connected.
    pub address: String,
    /// Where peers reach it, as it says.
    pub inbound_address: String,
    /// What its workload offers, as it says.
    pub services: Vec<Offer>,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whether another sidecar goes by its name and identity too: they take its place from each other.
    pub shares_name: bool,
    /// How far it is.
    pub phase: Phase,
    /// Since when it is there, in milliseconds since 1970.
    pub since_ms: u64,
    /// The last second of its certificate, in milliseconds since 1970, once it told.
    pub certificate_not_after_ms: Option<u64>,
    /// The serial number of its certificate, once it told.
    pub certificate_serial: Option<String>,
    /// When it told last what it counted, in milliseconds since 1970.
    pub telemetry_at_ms: Option<u64>,
    /// What it refuses.
    pub nacks: Vec<Nack>,
    /// What it has, as it acknowledged it.
    pub has: Vec<Held>,
}

/// A stream of reports. A later one of the same sidecar is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    key: (String, String),
    generation: u64,
}

impl Place {
    /// What the sidecar calls itself.
    pub(crate) fn name(&self) -> &str {
        &self.key.1
    }
}

#[derive(Debug)]
struct Member {
    generation: u64,
    view: SidecarView,
    replaced: oneshot::Sender<()>,
    process: Process,
    rivals: Rivals,
}

impl Member {
    /// It as it is now.
    fn view(&self, now: SystemTime) -> SidecarView {
        SidecarView {
            shares_name: self.rivals.are_shared(now),
            ..self.view.clone()
        }
    }
}

/// All sidecars.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    members: BTreeMap<(String, String), Member>,
    generations: u64,
}

/// There is no room for one more.
#[derive(Debug)]
pub(crate) struct Full;

impl Fleet {
    /// A sidecar is there. The receiver hears when it has come again by another stream.
    pub(crate) fn join(
        &mut self,
        identity: &str,
        address: SocketAddr,
        hello: Hello,
        now: SystemTime,
    ) -> Result<(Place, oneshot::Receiver<()>, SidecarView), Full> {
        let key = (identity.to_owned(), hello.name.clone());
        if !self.members.contains_key(&key) && !self.has_room_for(identity) {
            return Err(Full);
        }
        let process = Process::of(&hello);
        let offers = hello.services.iter().map(|service| Offer {
            service: service.service.clone(),
            port: service.port,
            protocol: name_of(service.protocol()),
        });
        let view = SidecarView {
            name: hello.name,
            identity: identity.to_owned(),
            address: address.to_string(),
            inbound_address: hello.inbound_address,
            services: offers.collect(),
            version: hello.version,
            pid: hello.pid,
            shares_name: false,
            phase: Phase::Connected,
            since_ms: millis(now),
            certificate_not_after_ms: None,
            certificate_serial: None,
            telemetry_at_ms: None,
            nacks: Vec::new(),
            has: Vec::new(),
        };
        self.generations += 1;
        let generation = self.generations;
        let (replaced, receiver) = oneshot::channel();
        let mut rivals = Rivals::default();
        if let Some(earlier) = self.members.remove(&key) {
            rivals = earlier.rivals;
            rivals.replaced(process, earlier.process, now);
            let _ = earlier.replaced.send(()); // It may be ending by itself.
        }
        let member = Member {
            generation,
            view,
            replaced,
            process,
            rivals,
        };
        let view = member.view(now);
        self.members.insert(key.clone(), member);
        Ok((Place { key, generation }, receiver, view))
    }

    fn has_room_for(&self, identity: &str) -> bool {
        // While there are few, nobody is counted.
        if self.members.len() < MAX_SIDECARS_OF_ONE {
            return true;
        }
        let from = self.members.range((identity.to_owned(), String::new())..);
        let own = from.take_while(|((of, _), _)| of == identity).count();
        own < MAX_SIDECARS_OF_ONE && self.members.len() < MAX_SIDECARS
    }

    fn member(&mut self, place: &Place) -> Option<&mut Member> {
        let member = self.members.get_mut(&place.key)?;
        (member.generation == place.generation).then_some(member)
    }

    fn of(&mut self, place: &Place) -> Option<&mut SidecarView> {
        self.member(place).map(|member| &mut member.view)
    }

    /// A sidecar is further than before: how it is then.
    pub(crate) fn phase(&mut self, place: &Place, phase: Phase, now: SystemTime) -> Option<SidecarView> {
        let member = self.member(place)?;
        let before = std::mem::replace(&mut member.view.phase, phase);
        (before != phase).then(|| member.view(now))
    }

    pub(crate) fn certificate(&mut self, place: &Place, state: CertificateState) {
        if let Some(view) = self.of(place) {
            let seconds = u64::try_from(state.not_after).unwrap_or_default();
            view.certificate_not_after_ms = Some(seconds.saturating_mul(1000));
            view.certificate_serial = Some(state.serial);
        }
    }

    pub(crate) fn telemetry(&mut self, place: &Place, now: SystemTime) {
        if let Some(view) = self.of(place) {
            view.telemetry_at_ms = Some(millis(now));
        }
    }

    /// What a sidecar says of one resource: all that it refuses, if that is another list than before.
    pub(crate) fn config(&mut self, place: &Place, state: ConfigState) -> Option<Vec<Nack>> {
        let view = self.of(place)?;
        let same = |nack: &Nack| nack.resource == state.kind && nack.name == state.name;
        let before = view.nacks.clone();
        view.nacks.retain(|nack| !same(nack));
        if !state.nack.is_empty() && view.nacks.len() < MAX_NACKS {
            view.nacks.push(Nack {
                resource: state.kind,
                name: state.name,
                version: state.version,
                reason: state.nack,
            });
        }
        (before != view.nacks).then(|| view.nacks.clone())
    }

    /// What the stream of xDS of a node shows that it refuses. That says nothing of what the sidecar makes of all of it.
    pub(crate) fn refused(&mut self, identity: &str, node: &str, nacks: &[Nack]) {
        let key = (identity.to_owned(), node.to_owned());
        if let Some(member) = self.members.get_mut(&key) {
            member.view.nacks.retain(Nack::is_of_all);
            member.view.nacks.extend_from_slice(nacks);
        }
    }

    /// What the stream of xDS of a node shows that it has.
    pub(crate) fn holds(&mut self, identity: &str, node: &str, held: &[Held]) {
        let key = (identity.to_owned(), node.to_owned());
        if let Some(member) = self.members.get_mut(&key) {
            member.view.has = held.to_vec();
        }
    }

    /// A stream has ended: the sidecar as it was, unless it has come again since.
    pub(crate) fn leave(&mut self, place: &Place, now: SystemTime) -> Option<SidecarView> {
        self.of(place)?;
        self.members.remove(&place.key).map(|member| member.view(now))
    }

    /// All of them.
    pub(crate) fn view(&self, now: SystemTime) -> Vec<SidecarView> {
        self.members.values().map(|member| member.view(now)).collect()
    }
}

/// What a stream of xDS shows that its subscriber refuses.
pub(crate) fn nacks<'a>(refused: impl Iterator<Item = (Kind, &'a str, &'a Refused)>) -> Vec<Nack> {
    let nacks = refused.map(|(kind, name, refused)| Nack {
        resource: kind.type_url().to_owned(),
        name: name.to_owned(),
        version: refused.version.clone(),
        reason: refused.reason.clone(),
    });
    nacks.take(MAX_NACKS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn hello(name: &str) -> Hello {
        Hello {
            name: name.into(),
            ..Hello::default()
        }
    }

    #[test]
    fn who_comes_again_is_not_ended_by_its_earlier_self() {
        let mut fleet = Fleet::default();
        let address = "127.0.0.1:1".parse().unwrap();
        let join = |fleet: &mut Fleet| fleet.join("id", address, hello("a"), START).unwrap();
        let (first, mut replaced, _) = join(&mut fleet);
        assert!(replaced.try_recv().is_err());
        let (second, mut stays, _) = join(&mut fleet);
        assert_eq!(replaced.try_recv(), Ok(()));
        assert!(stays.try_recv().is_err());
        assert_eq!(fleet.phase(&first, Phase::Ready, START), None);
        assert_eq!(fleet.leave(&first, START), None);
        assert_eq!(fleet.view(START).len(), 1);
        assert_eq!(
            fleet.phase(&second, Phase::Ready, START).unwrap().phase,
            Phase::Ready
        );
        assert_eq!(fleet.phase(&second, Phase::Ready, START), None, "as before");
        assert!(fleet.leave(&second, START).is_some());
        assert!(fleet.view(START).is_empty());
    }

    #[test]
    fn who_shares_a_name_is_told_until_a_minute_after() {
        let mut fleet = Fleet::default();
        let at = |second| START + Duration::from_secs(second);
        // In containers, where all are process 1.
        let join = |fleet: &mut Fleet, instance: u64, second: u64| {
            let hello = Hello {
                pid: 1,
                instance,
                ..hello("a")
            };
            let (place, _, view) = fleet
                .join("id", "127.0.0.1:1".parse().unwrap(), hello, at(second))
                .unwrap();
            (place, view.shares_name)
        };
        assert!(!join(&mut fleet, 1, 0).1);
        assert!(!join(&mut fleet, 2, 1).1, "a restart, as far as is known");
        assert!(join(&mut fleet, 1, 2).1);
        let (last, shares_name) = join(&mut fleet, 2, 4);
        assert!(shares_name && fleet.view(at(63))[0].shares_name);
        assert!(fleet.phase(&last, Phase::Ready, at(63)).unwrap().shares_name);
        assert!(!fleet.view(at(64))[0].shares_name);
        assert!(!fleet.leave(&last, at(64)).unwrap().shares_name);
    }

    #[test]
    fn what_a_sidecar_makes_of_all_is_told_apart_from_resources() {
        let mut fleet = Fleet::default();
        let (place, _commands, _) = fleet
            .join("id", "127.0.0.1:1".parse().unwrap(), hello("a"), START)
            .unwrap();
        let state = |nack: &str| ConfigState {
            kind: ConfigState::NAME.into(),
            name: "basket:80".into(),
            nack: nack.into(),
            ..ConfigState::default()
        };
        let of_xds = Nack {
            resource: Kind::Cluster.type_url().into(),
            name: "basket".into(),
            version: "1".into(),
            reason: "bad".into(),
        };
        assert_eq!(fleet.config(&place, state("why")).unwrap().len(), 1);
        fleet.refused("id", "a", &[of_xds]);
        let names = |fleet: &Fleet| -> Vec<_> {
            let view = fleet.view(START).pop().unwrap();
            view.nacks.into_iter().map(|nack| nack.name).collect()
        };
        assert_eq!(names(&fleet), ["basket:80", "basket"]);
        fleet.refused("id", "a", &[]);
        assert_eq!(names(&fleet), ["basket:80"]);
        assert_eq!(fleet.config(&place, state("")), Some(Vec::new()));
        assert_eq!(names(&fleet), [""; 0]);
    }

    #[test]
    fn one_identity_takes_half_of_the_room_at_most() {
        let mut fleet = Fleet::default();
        let address = "127.0.0.1:1".parse().unwrap();
        let mut join = |identity: &str, name: usize| {
            let hello = hello(&name.to_string());
            fleet.join(identity, address, hello, START).is_ok()
        };
        assert!((0..MAX_SIDECARS_OF_ONE).all(|name| join("b", name)));
        assert!(!join("b", MAX_SIDECARS_OF_ONE));
        assert!(join("b", 0), "it has come again");
        assert!((0..MAX_SIDECARS_OF_ONE).all(|name| join("a", name)));
        assert!(!join("c", 0), "all is taken");
    }
}
