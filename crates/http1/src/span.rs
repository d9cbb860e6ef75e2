//! Where in the buffer is it?

/// A range of bytes in the buffer that was parsed: offsets from its start.
///
/// Four bytes each, because a head is bounded far below 4 GiB and many fields are kept side by side.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    /// The bytes; none when the buffer is not the one that was parsed and too short.
    #[inline]
    pub fn of<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        buf.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// How many bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// From two offsets. Parsers only look at the first 4 GiB of a buffer, so that nothing is cut off.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }
}
