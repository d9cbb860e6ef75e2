//! How does what is known of an endpoint survive an update?
//!
//! The registry finds the [`EndpointState`] of an endpoint that is still in use: listed by a
//! [`Picker`](super::Picker) or carrying a request. It holds no state alive itself, so an endpoint that
//! leaves its cluster is forgotten with its last request, and one that returns later starts afresh.
//!
//! Used where configuration is compiled and metrics are rendered, never for a request: a lock is fine here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use mesh_model::resources::Address;

use super::{EndpointState, Nanos};
use crate::locked::locked;

/// Endpoint states by cluster, address and identity.
#[derive(Debug, Default)]
pub struct EndpointRegistry {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    clusters: HashMap<Box<str>, HashMap<Key, Weak<EndpointState>>>,
    count: usize,
    /// Entries nobody uses are swept out when this many are reached: twice what lived at the last sweep, so
    /// sweeping costs a constant per insertion and the dead never outnumber the living for long.
    sweep_at: usize,
}

type Key = (Address, Option<Box<str>>);

/// Sweeping fewer is not worth the walk.
const SWEEP_AT_LEAST: usize = 64;

impl EndpointRegistry {
    /// The state of an endpoint of `cluster`: the one in use, or a fresh one added at `now`. An endpoint that
    /// must prove another `identity` is another endpoint.
    pub fn get_or_create(
        &self,
        cluster: &str,
        address: &Address,
        identity: Option<&str>,
        now: Nanos,
    ) -> Arc<EndpointState> {
        let mut entries = self.lock();
        let key: Key = (address.clone(), identity.map(Box::from));
        if let Some(state) = entries
            .clusters
            .get(cluster)
            .and_then(|known| known.get(&key)?.upgrade())
        {
            return state;
        }
        if entries.count >= entries.sweep_at.max(SWEEP_AT_LEAST) {
            entries.sweep();
        }
        let state = Arc::new(EndpointState::new(address.clone(), identity, now));
        let replaced = entries
            .clusters
            .entry(cluster.into())
            .or_default()
            .insert(key, Arc::downgrade(&state))
            .is_some();
        entries.count += usize::from(!replaced);
        state
    }

    /// Every endpoint in use with its cluster's name, in no order: for metrics and tools.
    pub fn endpoints(&self) -> Vec<(Arc<str>, Arc<EndpointState>)> {
        let entries = self.lock();
        let mut found = Vec::with_capacity(entries.count);
        for (cluster, states) in &entries.clusters {
            let cluster: Arc<str> = Arc::from(&**cluster);
            found.extend(
                states
                    .values()
                    .filter_map(Weak::upgrade)
                    .map(|state| (Arc::clone(&cluster), state)),
            );
        }
        found
    }

    /// Drops the entries of endpoints no longer in use. Happens by itself as entries are added; worth a call
    /// after an update that removed many.
    pub fn sweep(&self) {
        self.lock().sweep();
    }

    /// A panic elsewhere leaves at worst an entry out of the count, which the next sweep repairs.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        locked(&self.entries)
    }
}

impl Entries {
    fn sweep(&mut self) {
        self.clusters.retain(|_, states| {
            states.retain(|_, state| state.strong_count() > 0);
            !states.is_empty()
        });
        self.count = self.clusters.values().map(HashMap::len).sum();
        self.sweep_at = self.count * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::Ip(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn one_state_for_each_cluster_address_and_identity() {
        let registry = EndpointRegistry::default();
        let state = registry.get_or_create("a", &address(1), None, 5);
        assert!(Arc::ptr_eq(
            &state,
            &registry.get_or_create("a", &address(1), None, 9)
        ));
        assert_eq!(state.added_at(), 5);
        let others = [
            registry.get_or_create("b", &address(1), None, 9),
            registry.get_or_create("a", &address(2), None, 9),
            registry.get_or_create("a", &address(1), Some("spiffe://x/y"), 9),
        ];
        assert!(others.iter().all(|other| !Arc::ptr_eq(&state, other)));
        assert_eq!(others[2].identity(), Some("spiffe://x/y"));
        assert_eq!(registry.endpoints().len(), 4);
    }

    #[test]
    fn an_endpoint_lives_as_long_as_it_is_used() {
        let registry = EndpointRegistry::default();
        let state = registry.get_or_create("a", &address(1), None, 1);
        let request = state.start(2);
        drop(state);
        assert_eq!(registry.get_or_create("a", &address(1), None, 3).load(), 1);
        drop(request);
        assert!(registry.endpoints().is_empty());
        assert_eq!(registry.get_or_create("a", &address(1), None, 4).added_at(), 4);
    }

    #[test]
    fn the_forgotten_take_no_memory() {
        let registry = EndpointRegistry::default();
        let kept: Vec<_> = (0..100)
            .map(|port| registry.get_or_create("a", &address(port), None, 0))
            .collect();
        for port in 0..10_000 {
            let cluster = format!("c{}", port % 7);
            drop(registry.get_or_create(&cluster, &address(port), None, 0));
            assert!(registry.lock().count <= 2 * kept.len() + SWEEP_AT_LEAST);
        }
        registry.sweep();
        let entries = registry.lock();
        assert_eq!((entries.count, entries.clusters.len()), (100, 1));
    }
}
