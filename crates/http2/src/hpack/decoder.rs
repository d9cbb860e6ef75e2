//! How is a block of fields read?

use mesh_http1::{Known, classify};

use super::TABLE_BYTES;
use super::huffman;
use super::table::{STATIC, Table};

/// The block can't be read, and with it nothing that follows on the connection (COMPRESSION_ERROR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A field as it came.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// What the name is.
    pub known: Known,
    /// It is never to be put into a table, here or further on (RFC 7541 section 6.2.3).
    pub never: bool,
    /// Name and value were found good before.
    pub good: bool,
}

/// The receiving side of one direction.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// Unpacked name and value.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Where a string is.
enum Text<'a> {
    Plain(&'a [u8]),
    Unpacked,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// For a new connection.
    pub fn new() -> Self {
        Self {
            table: Table::new(TABLE_BYTES),
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Reads a block and shows its fields in order. `good` says whether name and value may stand in a message; it is
    /// asked once for what enters the table.
    ///
    /// # Errors
    /// The block is broken. What it had before that was shown.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        good: impl Fn(&[u8], &[u8]) -> bool,
        mut show: impl FnMut(Decoded<'_>),
    ) -> Result<(), Broken> {
        let mut resizes = true;
        while let Some(first) = block.first().copied() {
            match first {
                // RFC 7541 section 6.1.
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    self.indexed(index, &mut show)?;
                }
                // Section 6.2.1, added to the table; 6.2.2 and 6.2.3, not.
                0x40..0x80 | 0x00..0x20 => {
                    let adds = first >= 0x40;
                    let never = (0x10..0x20).contains(&first);
                    let index = integer(&mut block, if adds { 6 } else { 4 })?;
                    self.literal(index, &mut block, adds, never, &good, &mut show)?;
                }
                // Section 6.3, only at the beginning (4.2).
                0x20..0x40 => {
                    let most = integer(&mut block, 5)?;
                    if !resizes || most > TABLE_BYTES {
                        return Err(Broken);
                    }
                    self.table.resize(most);
                    continue;
                }
            }
            resizes = false;
        }
        // Nothing large stays behind.
        if self.value.capacity() > TABLE_BYTES {
            self.value = Vec::new();
        }
        if self.name.capacity() > TABLE_BYTES {
            self.name = Vec::new();
        }
        Ok(())
    }

    fn indexed(&self, index: usize, show: &mut impl FnMut(Decoded<'_>)) -> Result<(), Broken> {
        let at = index.checked_sub(1).ok_or(Broken)?;
        if let Some((name, value)) = STATIC.get(at) {
            show(Decoded {
                name: name.as_bytes(),
                value: value.as_bytes(),
                known: classify(name.as_bytes()),
                never: false,
                good: true,
            });
            return Ok(());
        }
        let entry = self.table.get(at - STATIC.len()).ok_or(Broken)?;
        show(Decoded {
            name: entry.name(),
            value: entry.value(),
            known: entry.known,
            never: false,
            good: entry.note != 0,
        });
        Ok(())
    }

    fn literal(
        &mut self,
        index: usize,
        block: &mut &[u8],
        adds: bool,
        never: bool,
        good: &impl Fn(&[u8], &[u8]) -> bool,
        show: &mut impl FnMut(Decoded<'_>),
    ) -> Result<(), Broken> {
        let name = if index == 0 {
            string(block, &mut self.name)?
        } else if let Some((name, _)) = STATIC.get(index - 1) {
            Text::Plain(name.as_bytes())
        } else {
            let entry = self.table.get(index - 1 - STATIC.len()).ok_or(Broken)?;
            // The table may drop it when this one is added.
            self.name.clear();
            self.name.extend_from_slice(entry.name());
            Text::Unpacked
        };
        let value = string(block, &mut self.value)?;
        let name = match name {
            Text::Plain(name) => name,
            Text::Unpacked => &self.name,
        };
        let value = match value {
            Text::Plain(value) => value,
            Text::Unpacked => &self.value,
        };
        let good = good(name, value);
        show(Decoded {
            name,
            value,
            known: classify(name),
            never,
            good,
        });
        if adds {
            self.table.add(name, value, u64::from(good));
        }
        Ok(())
    }
}

/// An integer with a prefix of `bits` (RFC 7541 section 5.1), below 2^28: nothing here is larger.
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    let mask = (1usize << bits) - 1;
    let (first, mut rest) = block.split_first().ok_or(Broken)?;
    let mut n = usize::from(*first) & mask;
    if n == mask {
        let mut shift = 0;
        loop {
            let (byte, more) = rest.split_first().ok_or(Broken)?;
            rest = more;
            n += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Broken);
            }
        }
    }
    *block = rest;
    Ok(n)
}

/// A string (RFC 7541 section 5.2).
fn string<'a>(block: &mut &'a [u8], unpacked: &mut Vec<u8>) -> Result<Text<'a>, Broken> {
    let packed = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Broken)?;
    *block = rest;
    if !packed {
        return Ok(Text::Plain(text));
    }
    unpacked.clear();
    huffman::decode(text, unpacked).map_err(|_| Broken)?;
    Ok(Text::Unpacked)
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
