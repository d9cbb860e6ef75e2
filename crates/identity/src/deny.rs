//! Who is no longer believed, though the certificate is good?
//!
//! A revocation is short: certificates live for hours, and whoever is revoked gets no new one. So a denied serial number
//! is forgotten when its certificate has ended by itself, and only denied identities stay until they are taken back.
//! The list is bounded, and a full one says so instead of forgetting somebody.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use mesh_model::spiffe::SpiffeId;

use crate::{Peer, Serial};

/// The most entries. Each is looked at once per handshake by a hash, so this bounds memory alone: some 2 MiB.
pub const MAX_DENIED: usize = 10_000;

/// What is denied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Denied {
    /// Every certificate of an identity.
    Id(SpiffeId),
    /// One certificate.
    Serial(Serial),
}

/// A text that names nobody who could be denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a SPIFFE id nor a serial number")]
pub struct NobodyDenied(String);

impl FromStr for Denied {
    type Err = NobodyDenied;

    fn from_str(text: &str) -> Result<Self, NobodyDenied> {
        let serial = || text.parse().ok().map(Self::Serial);
        let id = text.parse().ok().map(Self::Id);
        id.or_else(serial).ok_or_else(|| NobodyDenied(text.to_owned()))
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Serial(serial) => write!(f, "{serial}"),
        }
    }
}

/// Identities and certificates that are not believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    /// With the time from which an entry means nothing; `None` for ever.
    entries: HashMap<Denied, Option<SystemTime>>,
}

/// The list is full: [`MAX_DENIED`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_DENIED} identities and certificates are revoked already")]
pub struct TooManyDenied;

impl DenyList {
    /// Nobody is denied.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nobody is denied.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Denies until a time, for a certificate its end, or for ever. What is denied already stays so for the longer time.
    ///
    /// # Errors
    /// The list is full. It denies whom it denied before.
    pub fn deny(
        &mut self,
        denied: Denied,
        until: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<(), TooManyDenied> {
        if let Some(held) = self.entries.get_mut(&denied) {
            *held = match (*held, until) {
                (Some(held), Some(until)) => Some(held.max(until)),
                _ => None,
            };
            return Ok(());
        }
        if self.entries.len() >= MAX_DENIED {
            self.forget(now);
        }
        if self.entries.len() >= MAX_DENIED {
            return Err(TooManyDenied);
        }
        self.entries.insert(denied, until);
        Ok(())
    }

    /// Takes a denial back; whether there was one.
    pub fn allow(&mut self, denied: &Denied) -> bool {
        self.entries.remove(denied).is_some()
    }

    /// Forgets what has ended by itself.
    pub fn forget(&mut self, now: SystemTime) {
        self.entries
            .retain(|_, until| until.is_none_or(|until| now <= until));
    }

    /// Whether this peer is denied. Asked at each handshake, and for what is open whenever the list changes.
    pub fn denies(&self, peer: &Peer) -> bool {
        !self.is_empty()
            && (self.entries.contains_key(&Denied::Id(peer.id.clone()))
                || self.entries.contains_key(&Denied::Serial(peer.serial.clone())))
    }

    /// Whether every certificate of this identity is denied, those to come too.
    pub fn denies_id(&self, id: &SpiffeId) -> bool {
        self.entries.contains_key(&Denied::Id(id.clone()))
    }

    /// All entries, in order.
    pub fn entries(&self) -> Vec<(&Denied, Option<SystemTime>)> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .map(|(denied, until)| (denied, *until))
            .collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{ID, at};

    fn peer() -> Peer {
        Peer {
            id: ID.parse().unwrap(),
            serial: "0a0b".parse().unwrap(),
            not_before: at(0),
            not_after: at(100),
        }
    }

    #[test]
    fn an_id_or_a_serial_is_denied() {
        let mut list = DenyList::new();
        assert!(!list.denies(&peer()) && list.is_empty());
        let (id, serial) = (Denied::Id(peer().id), Denied::Serial(peer().serial));
        list.deny(serial.clone(), Some(at(100)), at(1)).unwrap();
        assert!(list.denies(&peer()));
        list.forget(at(100));
        assert!(list.denies(&peer()), "its last second");
        list.forget(at(101));
        assert!(!list.denies(&peer()));
        list.deny(id.clone(), None, at(1)).unwrap();
        list.forget(at(1 << 30));
        assert!(list.denies(&peer()));
        assert!(list.denies_id(&peer().id));
        assert_eq!(list.entries(), [(&id, None)]);
        assert!(list.allow(&id));
        assert!(!list.allow(&id));
        assert!(!list.denies(&peer()));
    }

    #[test]
    fn a_denial_is_never_made_shorter() {
        let mut list = DenyList::new();
        let serial = Denied::Serial(peer().serial);
        list.deny(serial.clone(), Some(at(100)), at(1)).unwrap();
        list.deny(serial.clone(), Some(at(50)), at(1)).unwrap();
        assert_eq!(list.entries(), [(&serial, Some(at(100)))]);
        list.deny(serial.clone(), None, at(1)).unwrap();
        list.deny(serial.clone(), Some(at(50)), at(1)).unwrap();
        assert_eq!(list.entries(), [(&serial, None)]);
    }

    #[test]
    fn a_full_list_says_so_and_forgets_nobody() {
        let mut list = DenyList::new();
        let serial = |number: u32| Denied::Serial(Serial::new(&number.to_be_bytes()).unwrap());
        for number in 1..=MAX_DENIED as u32 {
            list.deny(serial(number), Some(at(100)), at(1)).unwrap();
        }
        assert_eq!(list.deny(serial(0), None, at(1)), Err(TooManyDenied));
        list.deny(serial(1), Some(at(200)), at(1)).unwrap();
        assert_eq!(list.entries().len(), MAX_DENIED);
        list.deny(serial(0), None, at(1) + Duration::from_secs(100))
            .unwrap();
        assert_eq!(list.entries().len(), 2, "what has ended makes room");
    }
}
