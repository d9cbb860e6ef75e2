//! Where does one gRPC message end and the next begin?
//!
//! Five bytes stand before each: a flag of compression, which we never agree to, and a length. A length above the bound
//! is refused before anything of the message is kept.

use std::fmt;

use bytes::{Bytes, BytesMut};
use prost::Message;

/// The longest update that is taken, which is what gRPC takes; [`crate::bounded`] says how much may be in it. What is more
/// is a mistake or an attack, and what is kept serves on.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

const PREFIX: usize = 5;

/// Why a stream can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is compressed though nobody agreed to that.
    Compressed,
    /// It says to be so many bytes long.
    TooLarge {
        /// What it says.
        bytes: usize,
        /// What is taken.
        limit: usize,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compressed => f.write_str("a compressed message, to which nobody agreed"),
            Self::TooLarge { bytes, limit } => write!(f, "a message of {bytes} bytes, {limit} are taken"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// A message as it goes out.
pub fn frame(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(PREFIX + length);
    bytes.push(0);
    // Nothing we send comes near four gigabytes.
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(message.encode_to_vec());
    bytes
}

/// Takes bytes as they come, gives messages.
#[derive(Debug)]
pub struct Deframer {
    bytes: BytesMut,
    limit: usize,
}

impl Default for Deframer {
    /// For messages of up to [`MAX_MESSAGE_BYTES`].
    fn default() -> Self {
        Self::with_limit(MAX_MESSAGE_BYTES)
    }
}

impl Deframer {
    /// For messages of up to so many bytes.
    pub fn with_limit(limit: usize) -> Self {
        let bytes = BytesMut::new();
        Self { bytes, limit }
    }

    /// Whether a message has begun and not ended.
    pub fn is_within_message(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Takes bytes. Call [`Self::next_message`] until it has no more before the next ones.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, without its prefix.
    ///
    /// # Errors
    /// That the stream must end here.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Unreadable> {
        let Some((&[compressed, ref length @ ..], rest)) = self.bytes.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.limit {
            let (bytes, limit) = (length, self.limit);
            return Err(Unreadable::TooLarge { bytes, limit });
        }
        if compressed != 0 {
            return Err(Unreadable::Compressed);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = self.bytes.split_to(PREFIX + length).split_off(PREFIX);
        Ok(Some(message.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Any;

    #[test]
    fn messages_come_out_whole_however_they_come_in() {
        let message = Any {
            type_url: "x".into(),
            value: vec![7; 300].into(),
        };
        let sent = [frame(&message), frame(&Any::default()), frame(&message)].concat();
        for step in [1, 2, 7, 1000] {
            let mut deframer = Deframer::default();
            let mut read = Vec::new();
            for bytes in sent.chunks(step) {
                deframer.push(bytes);
                while let Some(bytes) = deframer.next_message().unwrap() {
                    read.push(Any::decode(bytes).unwrap());
                }
            }
            assert_eq!(read, [message.clone(), Any::default(), message.clone()]);
        }
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_length_alone() {
        let mut deframer = Deframer::default();
        deframer.push(&[0]);
        deframer.push(&200_000_000_u32.to_be_bytes());
        let limit = MAX_MESSAGE_BYTES;
        let bytes = 200_000_000;
        assert_eq!(
            deframer.next_message(),
            Err(Unreadable::TooLarge { bytes, limit })
        );
        let mut deframer = Deframer::with_limit(4);
        deframer.push(&frame(&Any::default()));
        assert!(deframer.is_within_message());
        assert_eq!(deframer.next_message(), Ok(Some(Bytes::new())));
        assert!(!deframer.is_within_message());
        deframer.push(&[0, 0, 0, 0, 5]);
        assert_eq!(
            deframer.next_message(),
            Err(Unreadable::TooLarge { bytes: 5, limit: 4 })
        );
        let mut deframer = Deframer::default();
        deframer.push(&[1, 0, 0, 0, 0]);
        assert_eq!(deframer.next_message(), Err(Unreadable::Compressed));
    }
}
