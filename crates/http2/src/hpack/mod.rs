//! How are fields compressed (RFC 7541)?
//!
//! - [`table`]: the static table, and the dynamic one that each direction keeps.
//! - [`huffman`]: packed strings.
//! - [`decoder`] and [`encoder`]: one direction each.

pub mod decoder;
pub mod encoder;
pub mod huffman;
pub mod table;

/// Bytes of a dynamic table. The default of RFC 9113 section 6.5.2, which peers have without being told.
pub const TABLE_BYTES: usize = 4096;
