//! What is served, encoded once?
//!
//! A [`Catalogue`] holds encoded resources. Encoding is done when a resource changes, not when it is sent: all streams
//! share the bytes. A version is a hash of the content, so that every instance of a control plane means the same by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use crate::grpc::MAX_MESSAGE_BYTES;
use crate::kind::{ByKind, Kind};
use crate::translate::{Refusal, Translate};
use crate::wire;

/// What is no larger is within the bounds of a subscriber, whatever it is: no number is shorter than a byte.
const LARGE: usize = 128 * 1024;
/// What a response holds beside a resource.
const RESPONSE_HEAD: usize = 1024;

pub(super) type ByName = BTreeMap<Arc<str>, Arc<wire::Resource>>;

/// Encoded resources. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    kinds: ByKind<Arc<ByName>>,
    /// For one subscriber alone, see [`Catalogue::with`].
    own: Option<(Kind, Arc<wire::Resource>)>,
}

impl Catalogue {
    /// Puts a resource in place of the one with the same name.
    ///
    /// # Errors
    /// What the messages have no words for, or what is more than a subscriber takes; then the earlier one stays.
    pub fn put<T: Translate>(&mut self, name: &str, resource: &T) -> Result<(), Refusal> {
        let resource = encoded(name, resource)?;
        is_taken::<T>(&resource)?;
        Arc::make_mut(self.of_mut(T::KIND)).insert(name.into(), Arc::new(resource));
        Ok(())
    }

    /// The same with one more, for a subscriber that asks for it by name. What is there by that name goes before it.
    ///
    /// # Errors
    /// What the messages have no words for.
    pub fn with<T: Translate>(&self, name: &str, resource: &T) -> Result<Self, Refusal> {
        Ok(Self {
            own: Some((T::KIND, Arc::new(encoded(name, resource)?))),
            ..self.clone()
        })
    }

    /// Whether there is one of this name, for whoever asks.
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        self.of(kind).contains_key(name)
    }

    /// Takes a resource away.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        Arc::make_mut(self.of_mut(kind)).remove(name);
    }

    /// What a subscriber gets who asks for this name.
    pub(super) fn named(&self, kind: Kind, name: &str) -> Option<&Arc<wire::Resource>> {
        let own = self.own.as_ref();
        let own = own.filter(|(of, resource)| *of == kind && resource.name == name);
        self.of(kind).get(name).or(own.map(|(_, resource)| resource))
    }

    pub(super) fn of(&self, kind: Kind) -> &ByName {
        self.kinds.of(kind)
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Arc<ByName> {
        self.kinds.of_mut(kind)
    }
}

/// Whether a subscriber takes what is large: it would refuse it where nobody sees that who has written it.
fn is_taken<T: Translate>(resource: &wire::Resource) -> Result<(), Refusal> {
    let Some(any) = resource.resource.as_ref().filter(|any| any.value.len() > LARGE) else {
        return Ok(());
    };
    let (bytes, most) = (resource.encoded_len(), MAX_MESSAGE_BYTES - RESPONSE_HEAD);
    if bytes > most {
        let reason = format!("`{}` takes {bytes} bytes, {most} are taken", resource.name);
        return Err(Refusal::new("", reason));
    }
    T::from_any(any).map(drop).map_err(|mut refusal| {
        refusal.reason = format!(
            "`{}` would be refused by sidecars: {}",
            resource.name, refusal.reason
        );
        refusal
    })
}

fn encoded<T: Translate>(name: &str, resource: &T) -> Result<wire::Resource, Refusal> {
    let any = resource.to_any()?;
    Ok(wire::Resource {
        version: format!("{:032x}", content_hash(any.value.iter().copied())),
        resource: Some(any),
        name: name.to_owned(),
    })
}

/// FNV-1a of 128 bits: the same on every machine and in every release. Who writes resources is trusted, so nobody gains
/// by a collision.
pub(super) fn content_hash(bytes: impl Iterator<Item = u8>) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::content_hash;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(
            content_hash(b"".iter().copied()),
            0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        );
        assert_eq!(
            content_hash(b"a".iter().copied()),
            0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964
        );
    }
}
