//! What is a subscriber told, and when?
//!
//! A [`DeltaStream`] is the server's half of one stream of incremental, aggregated xDS, without I/O: requests go in,
//! and what the subscriber lacks of a [`Catalogue`] comes out. A [`StateOfTheWorldStream`] is the same for subscribers
//! that know states of the world only.
//!
//! Invariants:
//! - Only what changed is sent, and only what was asked for.
//! - Make before break: clusters, their endpoints, listeners, routes; what is gone goes in the opposite order, after
//!   everything new was answered.
//! - One response at a time waits for its answer, so a slow subscriber holds one response and skips what is outdated.
//! - A refused resource is not sent again until it changes; its reason is kept ([`DeltaStream::refused`]).

#[cfg(test)]
mod agree;
mod catalogue;
#[cfg(test)]
mod order;
mod reason;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

pub use self::catalogue::Catalogue;
use self::reason::named;
pub use self::whole::StateOfTheWorldStream;
use crate::kind::Kind;
use crate::wire::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};

/// Names one stream may ask for, of each kind.
pub const MAX_NAMES: usize = 65_536;
/// A response holds no more, except for a single resource that is larger: clients of gRPC refuse messages above 4 MiB.
const RESPONSE_BYTES: usize = 1024 * 1024;
/// The bound of a reason that is kept.
const REASON_BYTES: usize = 1024;
/// The name that means all of a kind.
const ALL: &str = "*";

/// Why a stream must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyNames;

/// What a subscriber refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The version it refused.
    pub version: String,
    /// Why, in its words. They may speak of other resources of the same response too.
    pub reason: String,
}

/// A subscriber, as the server sees it.
#[derive(Debug, Default)]
pub struct DeltaStream {
    kinds: BTreeMap<Kind, Subscription>,
    nonces: u64,
    waiting: Option<Waiting>,
}

/// A response without an answer yet.
#[derive(Debug)]
struct Waiting {
    kind: Kind,
    nonce: String,
    sent: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Subscription {
    names: BTreeSet<String>,
    all: bool,
    /// What the subscriber has, by version; `None`: it was told that there is none.
    told: BTreeMap<String, Option<String>>,
    refused: BTreeMap<String, Refused>,
    /// Counts what it has accepted.
    accepted: u64,
}

/// What a subscriber has of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Has {
    /// Which kind.
    pub kind: Kind,
    /// How many of them.
    pub count: usize,
    /// Another number after each response that it accepted.
    pub accepted: u64,
}

impl DeltaStream {
    /// Takes a request. Those for kinds that are not served are passed over.
    ///
    /// # Errors
    /// That it asks for more names than anyone needs.
    pub fn received(&mut self, request: DeltaDiscoveryRequest) -> Result<(), TooManyNames> {
        let Some(kind) = Kind::of(&request.type_url) else {
            return Ok(());
        };
        let first = !self.kinds.contains_key(&kind);
        let of_kind = self.kinds.entry(kind).or_default();
        if first {
            let versions = request.initial_resource_versions.into_iter();
            of_kind.told = versions
                .take(MAX_NAMES)
                .map(|(name, version)| (name, Some(version)))
                .collect();
            // A first request without names asks for everything, where the kind allows it.
            of_kind.all = request.resource_names_subscribe.is_empty() && kind.is_whole();
        }
        for name in request.resource_names_subscribe {
            if name == ALL {
                of_kind.all = true;
                continue;
            }
            // Who asks again has lost what it had.
            if !of_kind.names.insert(name.clone()) || !first {
                of_kind.told.remove(&name);
            }
        }
        for name in request.resource_names_unsubscribe {
            if name == ALL {
                of_kind.all = false;
            }
            of_kind.names.remove(&name);
        }
        of_kind.forget_unwanted();
        if of_kind.names.len() > MAX_NAMES {
            return Err(TooManyNames);
        }
        if let Some(answered) = self
            .waiting
            .take_if(|waiting| waiting.kind == kind && waiting.nonce == request.response_nonce)
        {
            let reason = request.error_detail.map(|status| shortened(status.message));
            of_kind.answered(answered.sent, reason);
        }
        Ok(())
    }

    /// The next response, if the subscriber lacks something and has answered the last. Ask again after each request and
    /// after each change of the catalogue.
    pub fn poll_response(&mut self, catalogue: &Catalogue) -> Option<DeltaDiscoveryResponse> {
        if self.waiting.is_some() {
            return None;
        }
        let made = Kind::ALL
            .into_iter()
            .find_map(|kind| self.changes(kind, catalogue));
        let mut response = match made {
            Some(response) => response,
            None => Kind::ALL
                .into_iter()
                .rev()
                .find_map(|kind| self.removals(kind, catalogue))?,
        };
        self.nonces += 1;
        response.nonce = self.nonces.to_string();
        self.waiting = Some(Waiting {
            kind: Kind::of(&response.type_url)?,
            nonce: response.nonce.clone(),
            sent: response
                .resources
                .iter()
                .map(|resource| (resource.name.clone(), resource.version.clone()))
                .collect(),
        });
        Some(response)
    }

    /// What the subscriber has, by kind.
    pub fn has(&self) -> impl Iterator<Item = Has> {
        self.kinds.iter().map(|(&kind, of_kind)| Has {
            kind,
            count: of_kind.held(),
            accepted: of_kind.accepted,
        })
    }

    /// What the subscriber refused and has not accepted since.
    pub fn refused(&self) -> impl Iterator<Item = (Kind, &str, &Refused)> {
        self.kinds.iter().flat_map(|(kind, of_kind)| {
            let refused = of_kind.refused.iter();
            refused.map(|(name, refused)| (*kind, name.as_str(), refused))
        })
    }

    fn changes(&mut self, kind: Kind, catalogue: &Catalogue) -> Option<DeltaDiscoveryResponse> {
        let of_kind = self.kinds.get_mut(&kind)?;
        let resources = catalogue.of(kind);
        let mut response = empty(kind);
        let mut bytes = 0;
        let all = resources.values().filter(|_| of_kind.all);
        let named = of_kind
            .names
            .iter()
            .filter_map(|name| catalogue.named(kind, name));
        // Who asks for all has its names among them.
        let named = named.filter(|_| !of_kind.all);
        for resource in all.chain(named) {
            let told = of_kind.told.get(&resource.name).and_then(Option::as_ref);
            if told == Some(&resource.version) {
                continue;
            }
            bytes += resource.encoded_len();
            if bytes > RESPONSE_BYTES && !response.resources.is_empty() {
                break;
            }
            // The content is shared, names alone are copied.
            response.resources.push(wire::Resource::clone(resource));
        }
        for resource in &response.resources {
            let version = Some(resource.version.clone());
            of_kind.told.insert(resource.name.clone(), version);
        }
        (!response.resources.is_empty()).then_some(response)
    }

    fn removals(&mut self, kind: Kind, catalogue: &Catalogue) -> Option<DeltaDiscoveryResponse> {
        let of_kind = self.kinds.get_mut(&kind)?;
        let is_gone = |name: &str| catalogue.named(kind, name).is_none();
        let mut gone = BTreeSet::new();
        // What it has and is no more, and what it asked for and never was.
        for (name, told) in &of_kind.told {
            if told.is_some() && is_gone(name) {
                gone.insert(name.clone());
            }
        }
        for name in &of_kind.names {
            if !of_kind.told.contains_key(name) && is_gone(name) {
                gone.insert(name.clone());
            }
        }
        // The rest goes with the next response.
        let mut bytes = 0;
        gone.retain(|name| {
            bytes += name.len();
            bytes <= RESPONSE_BYTES
        });
        for name in &gone {
            of_kind.refused.remove(name);
            of_kind.told.insert(name.clone(), None);
        }
        of_kind.forget_unwanted();
        let response = DeltaDiscoveryResponse {
            removed_resources: gone.into_iter().collect(),
            ..empty(kind)
        };
        (!response.removed_resources.is_empty()).then_some(response)
    }
}

impl Subscription {
    fn forget_unwanted(&mut self) {
        let (names, all) = (&self.names, self.all);
        self.told
            .retain(|name, told| names.contains(name) || (all && told.is_some()));
        self.refused.retain(|name, _| all || names.contains(name));
    }

    /// How many it has: it was told of them, and refuses them not.
    fn held(&self) -> usize {
        let refuses = |name| self.refused.contains_key(name);
        let told = self.told.iter();
        told.filter(|(name, told)| told.is_some() && !refuses(name.as_str()))
            .count()
    }

    /// A refusal is one of a whole response. Where it names some of what was in it, as ours does and Envoy's, it is of
    /// those: what was accepted is not sent again, and would stand here as refused for ever.
    fn answered(&mut self, sent: Vec<(String, String)>, reason: Option<String>) {
        self.accepted += u64::from(reason.is_none());
        let names = sent.iter().map(|(name, _)| name.as_str());
        let named: BTreeSet<String> = reason
            .iter()
            .flat_map(|reason| named(reason, names.clone()))
            .map(str::to_owned)
            .collect();
        for (name, version) in sent {
            let is_wanted = self.all || self.names.contains(&name);
            let is_refused = is_wanted && (named.is_empty() || named.contains(&name));
            match &reason {
                Some(reason) if is_refused => {
                    let reason = reason.clone();
                    self.refused.insert(name, Refused { version, reason });
                }
                _ => drop(self.refused.remove(&name)),
            }
        }
    }
}

fn empty(kind: Kind) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn shortened(mut reason: String) -> String {
    let end = reason.floor_char_boundary(REASON_BYTES);
    reason.truncate(end);
    reason
}
