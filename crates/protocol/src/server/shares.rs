//! How many connections does one identity have? One whose certificate was stolen must not have them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_model::spiffe::SpiffeId;

/// Who has how many; whoever has none is not in it.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<SpiffeId, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shares>,
    id: SpiffeId,
}

impl Shares {
    /// One more for this identity, unless it has so many.
    pub(super) fn take(self: &Arc<Self>, id: &SpiffeId, most: usize) -> Option<Share> {
        let mut counts = self.counts();
        let count = counts.get(id).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        counts.insert(id.clone(), count + 1);
        Some(Share {
            of: Arc::clone(self),
            id: id.clone(),
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<SpiffeId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.of.counts();
        match counts.get_mut(&self.id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_and_gives_it_back() {
        let shares = Arc::new(Shares::default());
        let [a, b] = ["a", "b"].map(|name| format!("spiffe://mesh.test/ns/shop/sa/{name}").parse().unwrap());
        let first = shares.take(&a, 2).unwrap();
        let second = shares.take(&a, 2).unwrap();
        assert!(shares.take(&a, 2).is_none());
        assert!(shares.take(&b, 2).is_some());
        drop(first);
        let third = shares.take(&a, 2).unwrap();
        assert!(shares.take(&a, 2).is_none());
        drop((second, third));
        assert!(shares.counts().is_empty());
    }
}
