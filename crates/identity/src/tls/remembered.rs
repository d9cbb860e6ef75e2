//! Was this very chain judged before?
//!
//! Two signatures of a chain are checked in each handshake, a third of what it costs. Workloads meet the same peers again
//! and again, with the same certificates, so a chain that was good is remembered: by a hash of all its bytes, of the roots
//! that it was judged by and of the side it was shown from. What is remembered is good from the time it was judged until
//! the first of its certificates ends; outside it is judged anew. Only good chains are remembered, so strangers fill
//! nothing. Revocation is never remembered, and each handshake proves anew that the peer has the key.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;

use crate::verify::{Believed, Side};
use crate::{Peer, TrustBundle};

/// Chains in each of two generations: together the peers of a busy workload, in some 200 KiB.
const GENERATION: usize = 256;

/// Chains that were good.
#[derive(Default)]
pub(super) struct Remembered(Mutex<Generations>);

/// The young one takes what is new. When it is full it becomes the old one, and what was the old one is forgotten.
#[derive(Default)]
struct Generations {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
}

struct Entry {
    believed: Believed,
    from: SystemTime,
}

/// Everything that a judgement depends on but the time.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        side: Side,
        bundle: &TrustBundle,
    ) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(bundle.hash().as_bytes());
        hash.update(match side {
            Side::Client => b"c",
            Side::Server => b"s",
        });
        for certificate in std::iter::once(leaf).chain(others) {
            // With its length, so that no two chains are the same bytes.
            hash.update(&certificate.len().to_be_bytes());
            hash.update(certificate);
        }
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        Self(key)
    }
}

impl Remembered {
    /// Whose chain this is, if it was good and is at this time.
    pub(super) fn get(&self, key: &Key, now: SystemTime) -> Option<Peer> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.young.contains_key(key) {
            // Who comes again stays.
            let entry = all.old.remove(key)?;
            all.put(key.clone(), entry);
        }
        let entry = all.young.get(key)?;
        let holds = entry.from <= now && now <= entry.believed.until;
        holds.then(|| entry.believed.peer.clone())
    }

    /// This chain was judged good now.
    pub(super) fn put(&self, key: Key, believed: Believed, now: SystemTime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = now;
        all.put(key, Entry { believed, from });
    }
}

impl Generations {
    fn put(&mut self, key: Key, entry: Entry) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ID, TestAuthority, at, domain};

    fn good(leaf: &CertificateDer<'_>, until: SystemTime) -> Believed {
        let peer = Peer::of(leaf).unwrap();
        Believed { peer, until }
    }

    #[test]
    fn a_chain_is_remembered_for_its_time() {
        let authority = TestAuthority::new("a");
        let (leaf, bundle) = (authority.leaf(ID), TrustBundle::empty(domain()));
        let (memory, key) = (Remembered::default(), Key::new(&leaf, &[], Side::Client, &bundle));
        assert_eq!(memory.get(&key, at(10)), None);
        memory.put(key.clone(), good(&leaf, at(20)), at(10));
        assert_eq!(memory.get(&key, at(10)).unwrap().id.as_str(), ID);
        assert!(memory.get(&key, at(20)).is_some());
        assert_eq!(memory.get(&key, at(21)), None, "it has ended");
        assert_eq!(memory.get(&key, at(9)), None, "the clock was set back");
    }

    #[test]
    fn everything_makes_another_key() {
        let authority = TestAuthority::new("a");
        let (leaf, other) = (authority.leaf(ID), authority.leaf(ID));
        let none = TrustBundle::empty(domain());
        let one = TrustBundle::from_der(domain(), [authority.der()]).unwrap();
        let of = |leaf: &CertificateDer<'static>, others: &[CertificateDer<'static>], side, bundle| {
            Key::new(leaf, others, side, bundle)
        };
        let joined = CertificateDer::from([leaf.as_ref(), other.as_ref()].concat());
        let keys = [
            of(&leaf, &[], Side::Client, &one),
            of(&leaf, &[], Side::Server, &one),
            of(&leaf, &[], Side::Client, &none),
            of(&other, &[], Side::Client, &one),
            of(&leaf, &[authority.der()], Side::Client, &one),
            of(&leaf, std::slice::from_ref(&other), Side::Client, &one),
            of(&joined, &[], Side::Client, &one),
        ];
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert!(keys[0] == of(&leaf, &[], Side::Client, &one));
    }

    #[test]
    fn memory_is_bounded_and_keeps_who_comes_again() {
        let leaf = TestAuthority::new("a").leaf(ID);
        let memory = Remembered::default();
        let key = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            Key(bytes)
        };
        for number in 0..10 * GENERATION as u32 {
            memory.put(key(number), good(&leaf, at(20)), at(10));
            assert!(memory.get(&key(0), at(10)).is_some(), "after {number}");
            let all = memory.0.lock().unwrap();
            assert!(all.young.len() <= GENERATION && all.old.len() <= GENERATION);
        }
        assert!(memory.get(&key(1), at(10)).is_none());
    }
}
