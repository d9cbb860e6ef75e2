//! How much memory may a message take once it is read?
//!
//! Its length says little: two bytes are an empty message in a list, which takes a hundred once it is read. So reading is
//! bounded by how much there is to read, not by how long it is: each number counts, and each field begins with one.
//!
//! A [`Counted`] buffer pretends to end when too much was read of it. What read from it fails or is cut short; who asked
//! for it looks at `spent` before believing it.

use std::fmt;

use bytes::{Buf, Bytes};
use prost::Message;

/// Numbers in what a control plane sends, in one response and in each of its resources, what is read in parts aside: 13,000
/// small resources. The worst that can be made of it takes 15 MB for a moment.
pub const MAX_NUMBERS: usize = 160 * 1024;

/// Why a message can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is none.
    Unreadable(prost::DecodeError),
    /// There is too much in it.
    TooMuch {
        /// How much is taken.
        numbers: usize,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "not readable: {error}"),
            Self::TooMuch { numbers } => write!(f, "holds too many fields: more than {numbers} numbers"),
        }
    }
}

impl std::error::Error for Refused {}

/// Reads a message in which there are no more than so many numbers.
///
/// # Errors
/// It is none, or holds more.
pub fn decode<M: Message + Default>(bytes: Bytes, numbers: usize) -> Result<M, Refused> {
    decode_part(bytes, &mut { numbers })
}

/// Reads one message of several in which there are no more than so many numbers together; what is left is for the others.
///
/// # Errors
/// As [`decode`].
pub fn decode_part<M: Message + Default>(bytes: Bytes, left: &mut usize) -> Result<M, Refused> {
    let numbers = *left;
    let mut counted = Counted {
        bytes,
        left: numbers,
        spent: false,
    };
    let read = M::decode(&mut counted);
    *left = counted.left;
    match counted.spent {
        true => Err(Refused::TooMuch { numbers }),
        false => read.map_err(Refused::Unreadable),
    }
}

/// Counts what is read, and ends early when that is too much.
struct Counted {
    bytes: Bytes,
    left: usize,
    spent: bool,
}

impl Buf for Counted {
    fn remaining(&self) -> usize {
        if self.spent { 0 } else { self.bytes.remaining() }
    }

    fn chunk(&self) -> &[u8] {
        if self.spent { &[] } else { self.bytes.chunk() }
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.spent = true,
        }
    }

    /// Without copying, as `Bytes` does it.
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::{ClusterLoadAssignment, DeltaDiscoveryResponse, Resource};

    fn response(resources: usize) -> Bytes {
        let resources = vec![Resource::default(); resources];
        let response = DeltaDiscoveryResponse {
            resources,
            ..DeltaDiscoveryResponse::default()
        };
        response.encode_to_vec().into()
    }

    #[test]
    fn what_fits_is_read_as_it_is() {
        let read: DeltaDiscoveryResponse = decode(response(10), 20).unwrap();
        assert_eq!(read.resources.len(), 10);
        let nothing: DeltaDiscoveryResponse = decode(Bytes::new(), 0).unwrap();
        assert_eq!(nothing, DeltaDiscoveryResponse::default());
    }

    #[test]
    fn small_messages_that_are_large_in_memory_are_refused() {
        let refused = Err(Refused::TooMuch { numbers: 19 });
        assert_eq!(decode::<DeltaDiscoveryResponse>(response(10), 19), refused);
        // Four megabytes on the wire, some two hundred in memory.
        let bomb = Bytes::from([0x12, 0].repeat(2 * 1024 * 1024));
        let refused = Refused::TooMuch { numbers: MAX_NUMBERS };
        assert_eq!(
            decode::<DeltaDiscoveryResponse>(bomb.clone(), MAX_NUMBERS),
            Err(refused.clone())
        );
        assert_eq!(
            decode::<ClusterLoadAssignment>(bomb.clone(), MAX_NUMBERS),
            Err(refused.clone())
        );
        // At any depth.
        let mut nested = vec![0x12];
        prost::encoding::encode_varint(bomb.len() as u64, &mut nested);
        nested.extend_from_slice(&bomb);
        assert_eq!(
            decode::<ClusterLoadAssignment>(nested.into(), MAX_NUMBERS),
            Err(refused)
        );
    }

    #[test]
    fn what_is_no_message_is_said_to_be_none() {
        let refused = decode::<DeltaDiscoveryResponse>(Bytes::from_static(&[0x12, 9]), 100).unwrap_err();
        assert!(matches!(refused, Refused::Unreadable(_)), "{refused}");
    }

    #[test]
    fn bytes_are_not_counted_one_by_one() {
        let resource = Resource {
            name: "x".repeat(100_000),
            ..Resource::default()
        };
        let read: Resource = decode(resource.encode_to_vec().into(), 8).unwrap();
        assert_eq!(read, resource);
    }
}
