//! How much may a peer send?

/// The bounds of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a head, from its first to the end of the blank line. Default 64 KiB: browsers' worst cookies need it.
    pub head_bytes: usize,
    /// Fields in a head, and in the trailers of a chunked body. Default 128: three times what browsers and gateways
    /// send.
    pub fields: usize,
    /// Bytes of extensions in one chunk's size line. Default 256: nobody sends any, and they are dropped.
    pub chunk_extension_bytes: usize,
    /// Bytes of chunk extensions in one body. Default 16 KiB, so that a body is not mostly extensions (CVE-2023-39326).
    pub body_extension_bytes: usize,
    /// Bytes of trailers, line ends included. Default 8 KiB: they are collected in memory, and gRPC's fit.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            fields: 128,
            chunk_extension_bytes: 256,
            body_extension_bytes: 16 * 1024,
            trailer_bytes: 8 * 1024,
        }
    }
}

impl Limits {
    /// As much of a buffer as a head may fill.
    #[inline]
    pub(crate) fn window<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        let most = self.head_bytes.min(u32::MAX as usize);
        buf.get(..most).unwrap_or(buf)
    }
}
