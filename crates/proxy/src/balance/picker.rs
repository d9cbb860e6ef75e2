//! Which endpoint of a cluster takes this request?
//!
//! A [`Picker`] is compiled once from a cluster's balancer and endpoints, off the data threads, and shared by
//! all of them. It never changes; what it reads at each pick are the atomics of the endpoints.
//!
//! A pick asks three questions, the next only when the one before finds nobody:
//! 1. Who is available and was not tried by this request? Priorities in order, by their shares.
//! 2. Who is available, though tried? A server that answered 503 is a better bet than one known to be dead.
//! 3. Nobody is available: who was not tried? All endpoints, as if nothing were known of them (Envoy's panic
//!    mode): that every server refuses is more often a fault of the path, and fresher than any backoff.
//!
//! A request that has tried them all and finds all out gets [`PickError::AllEjected`].

use std::sync::Arc;
use std::time::Duration;

use mesh_model::resources::Balancer;

use super::hash::mix;
use super::priority::Shares;
use super::slow_start::Ramp;
use super::tier::{Ask, Tier, Usable};
use super::{EndpointState, Nanos, Rng};

/// One endpoint as its cluster lists it.
#[derive(Clone, Debug)]
pub struct Member {
    /// What is known of it.
    pub endpoint: Arc<EndpointState>,
    /// Its share among the endpoints of its locality. 0 takes nothing.
    pub weight: u32,
    /// Lower is preferred; higher ones take what lower ones cannot carry.
    pub priority: u32,
    /// The share of its locality among those of its priority. 0 takes nothing.
    pub locality_weight: u32,
    /// Where it is. Members of one priority, zone and locality weight are one locality.
    pub zone: Arc<str>,
}

/// Why nobody was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// The cluster has no endpoint that may take traffic.
    #[error("the cluster has no endpoints")]
    NoEndpoints,
    /// Connects to every endpoint have failed lately, and this request has tried them all.
    #[error("every endpoint of the cluster is ejected")]
    AllEjected,
}

/// Who was picked.
#[derive(Clone, Copy, Debug)]
pub struct Picked<'a> {
    /// Which of [`Picker::endpoints`]; to be put into [`Tried`] when it fails.
    pub index: usize,
    /// The endpoint, to [`start`](EndpointState::start) the request on.
    pub endpoint: &'a Arc<EndpointState>,
}

/// The endpoints that one request has tried, by their index in one picker. Holds the last eight: more tries
/// than any retry policy should allow.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    indices: [u32; Self::CAPACITY],
    count: usize,
}

impl Tried {
    const CAPACITY: usize = 8;

    /// None yet.
    pub const fn none() -> Self {
        Self {
            indices: [0; Self::CAPACITY],
            count: 0,
        }
    }

    /// Notes one; the oldest of eight is forgotten.
    pub fn insert(&mut self, index: usize) {
        if !self.contains(index) {
            self.indices[self.count % Self::CAPACITY] = index as u32;
            self.count += 1;
        }
    }

    /// Whether it is noted.
    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        self.count > 0
            && self
                .indices
                .iter()
                .take(self.count)
                .any(|&tried| tried == index as u32)
    }
}

/// How endpoints are chosen for one cluster: immutable, shared by all threads.
#[derive(Debug)]
pub struct Picker {
    /// By priority; those that take nothing last, in no tier.
    members: Box<[Member]>,
    /// Of all members, in order: see [`EndpointState::key`].
    keys: Box<[usize]>,
    tiers: Box<[Tier]>,
    shares: Shares,
    ramp: Ramp,
    /// Whether a pick goes by a key.
    keyed: bool,
}

impl Picker {
    /// Compiles the plan. Members are put in order of priority: [`endpoints`](Self::endpoints) and indices
    /// follow that order. `slow_start` is the time in which a new endpoint's share grows to full; zero is at
    /// once, and consistent hashing ignores it.
    pub fn new(balancer: &Balancer, slow_start: Duration, mut members: Vec<Member>) -> Self {
        members.sort_by_key(|member| (!member.takes_traffic(), member.priority));
        let ramp = Ramp::new(slow_start, &members);
        let mut tiers = Vec::new();
        let mut first = 0;
        let serving = members.partition_point(Member::takes_traffic);
        for tier in members[..serving].chunk_by(|a, b| a.priority == b.priority) {
            tiers.push(Tier::new(balancer, tier, first));
            first += tier.len();
        }
        let mut keys: Box<[usize]> = members.iter().map(|member| member.endpoint.key()).collect();
        keys.sort_unstable();
        Self {
            members: members.into(),
            keys,
            shares: Shares::new(tiers.len()),
            tiers: tiers.into(),
            ramp,
            keyed: matches!(balancer, Balancer::RingHash { .. } | Balancer::Maglev { .. }),
        }
    }

    /// Picks an endpoint for one try of a request. `hash` is the request's key for consistent hashing (see
    /// [`hash_key`](super::hash_key)); without one, or for other balancers, chance decides. `tried` are the
    /// endpoints earlier tries of this request went to.
    ///
    /// # Errors
    /// [`PickError`], when nobody can be used.
    #[inline]
    pub fn pick(
        &self,
        now: Nanos,
        rng: &mut Rng,
        hash: Option<u64>,
        tried: &Tried,
    ) -> Result<Picked<'_>, PickError> {
        let preferred = match &*self.tiers {
            [] => return Err(PickError::NoEndpoints),
            [_] => 0,
            _ => {
                // A key keeps its priority as long as the shares stay, and this hash is not the one that
                // finds its slot.
                let point = match hash {
                    Some(hash) if self.keyed => mix(!hash),
                    _ => rng.next_u64(),
                };
                let available = |tier: usize| self.tiers[tier].available(&self.members, now);
                self.shares.at(now, (point >> 32) as u32, available)
            }
        };
        let key = match hash {
            Some(hash) if self.keyed => hash,
            _ if self.keyed => rng.next_u64(),
            _ => 0,
        };
        let ramp = self.ramp.active(now);
        let ask = Ask {
            members: &self.members,
            tried,
            now,
            usable: Usable::Fresh,
            ramp,
            key,
        };
        let index = match self.tiers[preferred].choose(&ask, rng) {
            Some(index) => index,
            None => self.settle(preferred, ask, rng).ok_or(PickError::AllEjected)?,
        };
        Ok(Picked {
            index,
            endpoint: &self.members[index].endpoint,
        })
    }

    /// Every member in order of priority, those of weight 0 last.
    pub fn endpoints(&self) -> &[Member] {
        &self.members
    }

    /// Whether the endpoint of this [`key`](EndpointState::key) is a member. Data threads ask it for each of their
    /// connections at an update: it costs a search, not a walk.
    pub fn has(&self, key: usize) -> bool {
        self.keys.binary_search(&key).is_ok()
    }

    /// The preferred priority has nobody fresh: goes on to the others, then to the further questions.
    #[cold]
    fn settle(&self, preferred: usize, ask: Ask<'_>, rng: &mut Rng) -> Option<usize> {
        let from = |first: usize, usable: Usable, rng: &mut Rng| {
            let ask = Ask { usable, ..ask };
            let others = self.tiers.iter().enumerate().filter(|&(index, _)| index != first);
            std::iter::once(&self.tiers[first])
                .chain(others.map(|(_, tier)| tier))
                .find_map(|tier| tier.choose(&ask, rng))
        };
        from(preferred, Usable::Fresh, rng)
            .or_else(|| from(preferred, Usable::Available, rng))
            .or_else(|| {
                let preferred = if self.keyed { 0 } else { self.any_tier(rng) };
                from(preferred, Usable::Untried, rng)
            })
    }

    /// A priority at random, by how many endpoints it has: with all of them out none is preferred.
    fn any_tier(&self, rng: &mut Rng) -> usize {
        let serving: usize = self.tiers.iter().map(Tier::len).sum();
        let mut point = rng.below(serving as u32) as usize;
        for (index, tier) in self.tiers.iter().enumerate() {
            match point.checked_sub(tier.len()) {
                Some(rest) => point = rest,
                None => return index,
            }
        }
        0
    }
}

impl Member {
    /// Whether it is chosen at all.
    pub fn takes_traffic(&self) -> bool {
        self.weight > 0 && self.locality_weight > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tried_holds_the_last_eight() {
        let mut tried = Tried::none();
        assert!(!tried.contains(0));
        for index in 0..8 {
            tried.insert(index);
            tried.insert(index);
        }
        assert!((0..8).all(|index| tried.contains(index)));
        tried.insert(100);
        assert!(tried.contains(100) && !tried.contains(0) && tried.contains(1));
        (0..1000).for_each(|index| tried.insert(index));
        assert!((992..1000).all(|index| tried.contains(index)));
    }
}
