//! Which sidecars are there, and how are they?
//!
//! A sidecar is there from its hello until its stream of reports ends. It is known by its identity and by what it calls
//! itself: one that comes again under the same name takes the place of its earlier self, whose end then means nothing. That
//! holds across control planes that tell each other who is there: which one came last is the same for all of them.

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
use crate::rivals::{Claim, Elsewhere, Key, Process, Rivals};

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
    /// What tells that process from others of its number, in hexadecimal.
    pub instance: String,
    /// Greater than that of any that came by its name before, here or at another control plane.
    pub turn: u64,
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
    key: Key,
    generation: u64,
}

impl Place {
    /// Of a sidecar that reports and has none.
    pub(crate) fn none(identity: &str, name: String) -> Self {
        Self {
            key: (identity.to_owned(), name),
            generation: 0,
        }
    }

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
    claim: Claim,
}

/// All sidecars.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    members: BTreeMap<Key, Member>,
    generations: u64,
    /// Who has names at other control planes.
    elsewhere: BTreeMap<Key, Claim>,
    /// Of names that were taken from somebody lately.
    rivals: BTreeMap<Key, Rivals>,
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
        let before = self.latest(&key);
        let turn = before.map_or(0, |before| before.turn.saturating_add(1));
        let claim = Claim {
            turn: turn.max(millis(now)),
            process,
        };
        if let Some(before) = before {
            self.taken(&key, process, before.process, now);
        }
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
            instance: process.instance(),
            turn: claim.turn,
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
        self.oust(&key);
        let view = self.shown(&key, &view, now);
        let member = Member {
            generation,
            view: view.clone(),
            replaced,
            claim,
        };
        self.members.insert(key.clone(), member);
        Ok((Place { key, generation }, receiver, view))
    }

    /// What others say of who is at their control planes, as far as it is another than before. Whoever came by a name before
    /// one of those has lost it.
    pub(crate) fn elsewhere(&mut self, change: Elsewhere, now: SystemTime) {
        for key in change.gone {
            self.elsewhere.remove(&key);
        }
        for there in change.there {
            let (key, claim) = there.claim();
            if let Some(before) = self.latest(&key) {
                let (by, before) = (claim.max(before), claim.min(before));
                self.taken(&key, by.process, before.process, now);
            }
            let here = self.members.get(&key).map(|member| member.claim);
            if here.is_some_and(|here| here.process != claim.process && here < claim) {
                self.oust(&key);
            }
            self.elsewhere.insert(key, claim);
        }
    }

    /// Who came by a name last, as far as it is known and there.
    fn latest(&self, key: &Key) -> Option<Claim> {
        let here = self.members.get(key).map(|member| member.claim);
        here.max(self.elsewhere.get(key).copied())
    }

    /// A name goes from one to the other, who may be the same.
    fn taken(&mut self, key: &Key, by: Process, before: Process, now: SystemTime) {
        if by == before {
            return;
        }
        self.rivals.retain(|_, rivals| rivals.are_known(now));
        let rivals = self.rivals.entry(key.clone()).or_default();
        rivals.replaced(by, before, now);
    }

    /// Tells who is there by a name, if anybody is, that it has no place any more.
    fn oust(&mut self, key: &Key) {
        if let Some(earlier) = self.members.remove(key) {
            let _ = earlier.replaced.send(()); // It may be ending by itself.
        }
    }

    /// A sidecar as it is now.
    fn shown(&self, key: &Key, view: &SidecarView, now: SystemTime) -> SidecarView {
        let rivals = self.rivals.get(key);
        SidecarView {
            shares_name: rivals.is_some_and(|rivals| rivals.are_shared(now)),
            ..view.clone()
        }
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
        if before == phase {
            return None;
        }
        let member = self.members.get(&place.key)?;
        Some(self.shown(&place.key, &member.view, now))
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
        let member = self.members.remove(&place.key)?;
        Some(self.shown(&place.key, &member.view, now))
    }

    /// All of them.
    pub(crate) fn view(&self, now: SystemTime) -> Vec<SidecarView> {
        let members = self.members.iter();
        members
            .map(|(key, member)| self.shown(key, &member.view, now))
            .collect()
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
    use crate::rivals::There;

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

    /// Two control planes of which each hears of the other's sidecars.
    #[derive(Default)]
    struct Two {
        fleets: [Fleet; 2],
        /// Who was told so far, of each.
        told: [Vec<There>; 2],
    }

    impl Two {
        /// A process comes to one of them by the same name as all others.
        fn join(&mut self, at: usize, instance: u64, second: u64) -> oneshot::Receiver<()> {
            let hello = Hello {
                pid: 1,
                instance,
                ..hello("a")
            };
            let now = START + Duration::from_secs(second);
            let joined = self.fleets[at].join("id", "127.0.0.1:1".parse().unwrap(), hello, now);
            joined.unwrap().1
        }

        fn tell(&mut self, from: usize, second: u64) {
            let now = START + Duration::from_secs(second);
            let there: Vec<_> = self.fleets[from].view(now).into_iter().map(There::from).collect();
            let before = std::mem::replace(&mut self.told[from], there.clone());
            let gone = before.into_iter().map(|before| (before.identity, before.name));
            let gone = gone.filter(|_| there.is_empty()).collect();
            self.fleets[1 - from].elsewhere(Elsewhere { there, gone }, now);
        }

        fn is_shared(&self, at: usize, second: u64) -> Option<bool> {
            let shown = self.fleets[at].view(START + Duration::from_secs(second)).pop()?;
            Some(shown.shares_name)
        }
    }

    impl From<SidecarView> for There {
        fn from(view: SidecarView) -> Self {
            Self {
                identity: view.identity,
                name: view.name,
                instance: view.instance,
                pid: view.pid,
                turn: view.turn,
            }
        }
    }

    #[test]
    fn who_came_last_has_the_name_at_all_control_planes() {
        let mut two = Two::default();
        let mut first = two.join(0, 1, 10);
        two.tell(0, 10);
        // Its clock is behind.
        let mut second = two.join(1, 2, 5);
        two.tell(1, 11);
        assert_eq!(first.try_recv(), Ok(()));
        assert_eq!((two.is_shared(0, 11), two.is_shared(1, 11)), (None, Some(false)));
        two.tell(0, 11);
        assert!(second.try_recv().is_err());
        // Whoever lost it comes again, to the same one as before.
        let mut first = two.join(0, 1, 12);
        assert_eq!(two.is_shared(0, 12), Some(true));
        two.tell(0, 12);
        assert_eq!(second.try_recv(), Ok(()));
        two.tell(1, 12);
        // Or to the other one.
        let mut second = two.join(0, 2, 14);
        assert_eq!(first.try_recv(), Ok(()));
        two.tell(0, 14);
        assert_eq!(two.is_shared(0, 14), Some(true));
        assert!(second.try_recv().is_err());
        assert_eq!(two.is_shared(0, 74), Some(false));
    }

    #[test]
    fn who_comes_from_another_control_plane_is_the_same() {
        let mut two = Two::default();
        let mut before = two.join(0, 1, 10);
        two.tell(0, 10);
        let mut now = two.join(1, 1, 11);
        two.tell(1, 11);
        two.tell(0, 11);
        assert!(before.try_recv().is_err() && now.try_recv().is_err());
        assert_eq!(
            (two.is_shared(0, 11), two.is_shared(1, 11)),
            (Some(false), Some(false))
        );
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
