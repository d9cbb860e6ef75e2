//! What does a protocol look like to the sockets? A machine that is fed bytes and writes its answers into an `Output`.
//!
//! Invariants: a machine knows no socket; what it does not consume is given to it again with more behind it.

/// What waits to be sent: exact bytes, then `fill` bytes of no meaning (large bodies are never built in memory).
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fill: u64,
}

/// One end of a connection in one protocol.
pub(crate) trait Machine {
    /// What all connections of one process share.
    type Shared;

    /// Takes bytes from the peer, returns how many are used up.
    fn feed(&mut self, bytes: &[u8], out: &mut Output, shared: &mut Self::Shared) -> Result<usize, String>;

    /// How many of the next bytes are opaque, so that the kernel may drop them uncopied.
    fn opaque(&self) -> u64 {
        0
    }

    /// `count` opaque bytes were received and dropped.
    fn skipped(&mut self, _count: u64, _out: &mut Output, _shared: &mut Self::Shared) -> Result<(), String> {
        Ok(())
    }

    /// The peer closed its side: an error where that breaks something off.
    fn closed(&mut self) -> Result<(), String>;
}

/// The body length a path asks for: the digits behind its last slash, 100 without any.
pub(crate) fn length_of(path: &str) -> u64 {
    path.rsplit('/')
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(100)
}
