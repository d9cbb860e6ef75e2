//! Does a rule match? Three answers: it does, it does not, or that can't be said.

use std::net::IpAddr;
use std::sync::Arc;

use crate::issue::{At, Issues};
use crate::resources::{IpNet, ValueCondition};
use crate::route::{Condition, RequestView};
use crate::spiffe::SpiffeId;

use super::asks::Asks;
use super::paths::{Path, Readings, is_below};
use super::{ConnectionFacts, Peer, PeerIdentity, PolicyRule, RuleId};

/// `None`: can't be said.
pub(super) type Holds = Option<bool>;

/// One that holds makes the whole hold. An empty list asks nothing.
fn any<T>(list: &[T], holds: impl Fn(&T) -> Holds) -> Holds {
    let mut whole = Some(list.is_empty());
    for item in list {
        match holds(item) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => whole = None,
        }
    }
    whole
}

/// One that does not hold makes the whole not hold.
fn all(parts: impl IntoIterator<Item = Holds>) -> Holds {
    let mut whole = Some(true);
    for part in parts {
        match part {
            Some(true) => {}
            Some(false) => return Some(false),
            None => whole = None,
        }
    }
    whole
}

/// A rule made ready.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    /// The name of its policy.
    pub(super) policy: Arc<str>,
    asks: Asks,
    /// Whether it asks for what only requests have.
    pub(super) http: bool,
    from: Box<[Peer]>,
    networks: Box<[IpNet]>,
    ports: Box<[u16]>,
    methods: Box<[Box<[u8]>]>,
    paths: Box<[Path]>,
    grpc: Box<[Path]>,
    headers: Box<[Header]>,
}

#[derive(Debug)]
struct Header {
    name: Box<str>,
    /// Only whether it is there is asked, so that any number of any bytes has an answer.
    presence: bool,
    condition: Condition,
}

impl Rule {
    /// Compiles a rule of the policy at this place, and of this name.
    pub(super) fn compile(
        place: u32,
        policy: &Arc<str>,
        rule: &PolicyRule,
        at: &At<'_>,
        issues: &mut Issues,
    ) -> Self {
        let mut paths = Vec::with_capacity(rule.paths.len());
        let key = at.key("paths");
        for (number, path) in rule.paths.iter().enumerate() {
            paths.extend(issues.keep(&key.index(number), Path::compile(path)));
        }
        let mut headers = Vec::with_capacity(rule.headers.len());
        let key = at.key("headers");
        for (number, header) in rule.headers.iter().enumerate() {
            let condition = issues.keep(&key.index(number), Condition::header(header));
            headers.extend(condition.map(|condition| Header {
                name: header.name.to_ascii_lowercase().into(),
                presence: header.value == ValueCondition::Present,
                condition,
            }));
        }
        let asks = Asks::of(rule);
        Self {
            id: RuleId {
                policy: place,
                key: asks.key(),
            },
            policy: Arc::clone(policy),
            asks,
            http: rule.is_http(),
            from: rule.from.clone().into(),
            networks: rule.networks.clone().into(),
            ports: rule.ports.clone().into(),
            methods: rule
                .methods
                .iter()
                .map(|method| method.as_bytes().into())
                .collect(),
            grpc: rule.grpc.iter().map(Path::of_grpc).collect(),
            paths: paths.into(),
            headers: headers.into(),
        }
    }

    /// Whether it takes all that the other takes.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.asks.covers(&other.asks)
    }

    /// Whether it is what became of the other when somebody changed their policy, and takes no less.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.policy == other.policy && self.covers(other)
    }

    /// Whether it matches a request, which has this path.
    pub(super) fn request(
        &self,
        peer: &ConnectionFacts<'_>,
        path: &Readings<'_>,
        request: &impl RequestView,
    ) -> Holds {
        all([
            self.connection(peer),
            any(&self.methods, |method| Some(**method == *request.method())),
            any(&self.paths, |wanted| wanted.takes(path)),
            any(&self.grpc, |wanted| match wanted.takes(path)? {
                false => Some(false),
                // A server may take the call whatever its type claims to be.
                true => request.is_grpc().then_some(true),
            }),
            all(self.headers.iter().map(|header| header.holds(request))),
        ])
    }

    /// Whether it matches a stream that has no requests.
    pub(super) fn stream(&self, peer: &ConnectionFacts<'_>) -> Holds {
        all([self.connection(peer), (!self.http).then_some(true)])
    }

    /// Whether what it asks of the connection holds.
    pub(super) fn connection(&self, peer: &ConnectionFacts<'_>) -> Holds {
        all([
            any(&self.from, |wanted| match peer.identity {
                PeerIdentity::Anonymous => Some(false),
                PeerIdentity::Unreadable => None,
                PeerIdentity::Known(id) => Some(wanted.takes(id)),
            }),
            any(&self.networks, |network| {
                peer.address.map(|address| contains(network, address))
            }),
            any(&self.ports, |port| peer.port.map(|other| other == *port)),
        ])
    }
}

/// A dual-stack socket shows IPv4 peers as mapped addresses; rules name them as IPv4.
fn contains(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address.to_canonical()) || network.contains(&address)
}

impl Peer {
    fn takes(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Authenticated => true,
            Self::Identity(wanted) => wanted == id,
            Self::IdentityPrefix(wanted) => is_below(wanted.as_str().as_bytes(), id.as_str().as_bytes()),
            Self::Namespace(wanted) => {
                wanted.trust_domain == *id.trust_domain() && id.namespace() == Some(wanted.name.as_str())
            }
        }
    }
}

impl Header {
    fn holds(&self, request: &impl RequestView) -> Holds {
        let mut values = request.header(&self.name);
        let readable = match (values.next(), values.next()) {
            (None, _) => true,
            (Some(only), None) => std::str::from_utf8(only).is_ok(),
            // Servers differ in which they take.
            (Some(_), Some(_)) => false,
        };
        (self.presence || readable).then(|| self.condition.header_holds(request))
    }
}
